"""The funding service with the demonstration posts heard, and with the money of the demonstration."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime
from typing import Any

import pytest

from libs.chassis.listener import Heard
from libs.contracts import demonstration as d
from libs.contracts.envelope import Event
from libs.contracts.partners import PostOpened
from services.funding import examples, handlers
from services.funding.app import SERVICE
from tests.services.calling import Called, called

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def heard(source: str, sequence: int, event: Event) -> Heard[Any]:
    return Heard(
        event=event,
        source=source,
        epoch=1,
        sequence=sequence,
        event_id=f"{source}-{sequence}",
        occurred_at=NOW,
        recorded_at=NOW,
        subject=f"{event.aggregate[0]}/{event.aggregate_id}",
        data=event.model_dump_json().encode(),
        correlation_id=None,
        traceparent=None,
    )


async def hear(service: Called, *told: Heard[Any]) -> None:
    async with service.runtime.database.transaction() as session:
        for one in told:
            source = next(source for source in handlers.LISTENER.sources if source.name == one.source)
            await source.handler(type(one.event))(session, one)


def post_opened(post: d.DemonstrationPost) -> PostOpened:
    return PostOpened(
        post_id=post.id,
        departement=post.departement,
        employer_id=post.employer_id,
        force=post.force,
        full_time_percent=post.full_time_percent,
        channels=post.channels,
        units=post.units,
        communes=post.communes,
        filled=True,
        opened_on=date(2026, 1, 1),
        opened_at=NOW,
    )


@pytest.fixture
async def funding(database_url: Callable[[str | None], str]) -> AsyncIterator[Called]:
    """Posts heard, nothing else."""
    async with called(SERVICE, database_url) as service:
        await hear(service, *(heard("partners", number, post_opened(post)) for number, post in enumerate(d.POSTS, 1)))
        yield service


@pytest.fixture
async def funded(funding: Called) -> Called:
    """The demonstration's funders, and the plan of the post of Cergy with its two contributions; version 3, ten thousand euros missing."""
    for funder in examples.SEED_FUNDERS:
        answer = await funding.post("administrator", "/v1/funders", funder)
        assert answer.status_code == 201, answer.text
    answer = await funding.post("coordinator-95", "/v1/plans", examples.SEED_PLAN)
    assert answer.status_code == 201, answer.text
    for contribution in examples.SEED_CONTRIBUTIONS:
        answer = await funding.post("coordinator-95", f"/v1/plans/{d.PLAN}/contributions", contribution)
        assert answer.status_code == 201, answer.text
    await funding.said()
    return funding

"""The funding service with the demonstration posts heard, and with the money of the demonstration."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime

import pytest

from libs.contracts import demonstration as d
from libs.contracts.partners import PostOpened
from services.funding import examples
from services.funding.app import SERVICE
from tests.serving import Served, served

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


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
async def funding(database_url: Callable[[str | None], str]) -> AsyncIterator[Served]:
    """Posts heard, nothing else."""
    async with served(SERVICE, database_url("funding")) as service:
        await service.hear("partners", *(post_opened(post) for post in d.POSTS))
        yield service


@pytest.fixture
async def funded(funding: Served) -> Served:
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

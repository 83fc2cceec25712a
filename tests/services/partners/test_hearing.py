"""What is heard of referrals and funding shows on services and posts; a restored source is forgotten after a number."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from libs.chassis.listener import Heard
from libs.contracts import demonstration as d
from libs.contracts import funding, referrals
from libs.contracts.envelope import Event
from libs.contracts.funding import PlanBalanced, PlanGapped
from libs.contracts.referrals import OrientationAccepted, OrientationExpired, OrientationRejected
from libs.contracts.vocabularies import OrientationRejection, PartnerKind
from services.partners.app import drop_old_answers
from services.partners.handlers import LISTENER, bootstrap, on_rewind
from tests.services.partners.conftest import Partners

NOW = datetime.now(UTC)


def heard(event: Event, source: str, sequence: int) -> Heard[Any]:
    return Heard(event, source, 1, sequence, str(uuid4()), NOW, NOW, "", b"", None, None)


async def hear(partners: Partners, source: str, *events: Event, after: int = 0) -> None:
    handles = {one.name: one for one in LISTENER.sources}[source]
    async with partners.runtime.database.transaction() as session:
        for sequence, event in enumerate(events, after + 1):
            await handles.handler(type(event))(session, heard(event, source, sequence))


def _orientation(service_id: UUID) -> dict[str, Any]:
    return {
        "referral_id": uuid4(),
        "departement": "95",
        "orientation_id": uuid4(),
        "post_id": d.POST_CERGY,
        "service_id": service_id,
        "organization_id": d.ASSOCIATION,
    }


def accepted(delay_minutes: int, service_id: UUID = d.SHELTER_SERVICE, at: datetime = NOW) -> OrientationAccepted:
    return OrientationAccepted(**_orientation(service_id), partner_kind=PartnerKind.SHELTER, delay_minutes=delay_minutes, accepted_at=at)


def rejected(delay_minutes: int, service_id: UUID = d.SHELTER_SERVICE) -> OrientationRejected:
    return OrientationRejected(
        **_orientation(service_id),
        partner_kind=PartnerKind.SHELTER,
        reason=OrientationRejection.NO_CAPACITY,
        delay_minutes=delay_minutes,
        rejected_at=NOW,
    )


def expired(service_id: UUID = d.SHELTER_SERVICE) -> OrientationExpired:
    return OrientationExpired(**_orientation(service_id), expired_at=NOW)


def plan(kind: type[PlanBalanced] | type[PlanGapped], funded_cents: int, year: int = 2026, plan_id: UUID = d.PLAN) -> Event:
    state: dict[str, Any] = {
        "departement": "95",
        "plan_id": plan_id,
        "post_id": d.POST_CERGY,
        "year": year,
        "budget_cents": 6_000_000,
        "funded_cents": funded_cents,
        "shares": (),
        "changed_at": NOW,
    } | ({"employer_id": d.EMPLOYER} if "employer_id" in kind.model_fields else {})
    return kind(**state, gap_cents=6_000_000 - funded_cents) if kind is PlanGapped else kind(**state)


async def answers(partners: Partners, service_id: UUID = d.SHELTER_SERVICE) -> dict[str, Any]:
    found: dict[str, Any] = (await partners.get("iscg-95", f"/v1/services/{service_id}")).json()["answers"]
    return found


async def plans(partners: Partners, who: str = "funder-95") -> Any:
    return (await partners.get(who, f"/v1/posts/{d.POST_CERGY}")).json()["funding"]


async def test_a_service_shows_how_it_answers(directory: Partners) -> None:
    unknown = await answers(directory)
    await hear(directory, "referrals", accepted(10), accepted(50), rejected(600), expired(), accepted(5, d.SOCIAL_SERVICE))

    assert unknown == {"accepted": 0, "rejected": 0, "expired": 0, "acceptance_percent": None, "median_delay_minutes": None}
    assert await answers(directory) == {
        "accepted": 2,
        "rejected": 1,
        "expired": 1,
        "acceptance_percent": 50,
        "median_delay_minutes": 50,
    }


async def test_an_answer_heard_twice_counts_once(directory: Partners) -> None:
    await hear(directory, "referrals", accepted(10))
    await hear(directory, "referrals", accepted(10))

    assert (await answers(directory))["accepted"] == 1


async def test_answers_count_for_twelve_months_and_are_then_dropped(directory: Partners) -> None:
    await hear(directory, "referrals", accepted(10, at=NOW - timedelta(days=366)), accepted(10, at=NOW - timedelta(days=500)), accepted(20))

    assert (await answers(directory))["accepted"] == 1

    await drop_old_answers(directory.runtime)
    assert len(await directory.rows("SELECT 1 FROM orientation_answers")) == 2


async def test_an_answer_for_a_service_that_is_not_here_yet_waits_for_it(partners: Partners) -> None:
    await hear(partners, "referrals", accepted(10))

    assert len(await partners.rows("SELECT 1 FROM orientation_answers")) == 1


async def test_a_post_shows_how_its_plans_stand_newest_year_first(directory: Partners) -> None:
    other = uuid4()
    await hear(directory, "funding", plan(PlanGapped, 4_000_000), plan(PlanGapped, 0, 2027, other), plan(PlanBalanced, 6_000_000))

    assert [(one["year"], one["state"], one["gap_cents"]) for one in await plans(directory)] == [
        (2027, "gapped", 6_000_000),
        (2026, "balanced", 0),
    ]


SHOWN = {
    "the administration": ("administrator", True),
    "internal control": ("auditor", True),
    "its département's coordination": ("coordinator-95", True),
    "its funder": ("funder-95", True),
    "its employer": ("employer-95", True),
    "the ministry of the Interior": ("interior", True),
    "the ministry of Justice": ("justice", False),
    "another département's coordination": ("coordinator-78", False),
    "a social worker": ("iscg-95", False),
    "a partner": ("partner-95", False),
    "the police": ("police-95", False),
}


@pytest.mark.parametrize(("who", "shown"), SHOWN.values(), ids=SHOWN.keys())
async def test_who_pays_what_is_shown_to_those_who_pay_employ_or_steer(directory: Partners, who: str, shown: bool) -> None:
    await hear(directory, "funding", plan(PlanBalanced, 6_000_000))

    assert (await plans(directory, who) is not None) is shown


async def test_what_a_restored_source_took_back_is_forgotten_to_the_row(directory: Partners) -> None:
    await hear(directory, "funding", plan(PlanGapped, 4_000_000), plan(PlanBalanced, 6_000_000))
    await hear(directory, "referrals", accepted(10), rejected(20))

    async with directory.runtime.database.transaction() as session:
        await on_rewind(session, "funding", 1)
    assert [one["state"] for one in await plans(directory)] == ["gapped"]
    assert (await answers(directory))["rejected"] == 1

    async with directory.runtime.database.transaction() as session:
        await on_rewind(session, "referrals", 1)
    assert (await answers(directory))["rejected"] == 0


async def test_a_newcomer_reads_the_list_of_plans_and_then_follows(directory: Partners) -> None:
    read_paths = []

    async def read(path: str) -> AsyncIterator[dict[str, Any]]:
        read_paths.append(path)
        if path.startswith("/v1/plans"):
            listed = {"id": str(d.PLAN), "post_id": str(d.POST_CERGY), "year": 2026, "budget_cents": 100, "funded_cents": 40}
            yield listed | {"changed_at": "2026-11-23T10:00:00.000000Z", "contributions": []}
        else:
            yield {"id": "x"}

    async with directory.runtime.database.transaction() as session:
        whole = [await bootstrap(session, source, read) for source in ("funding", "referrals")]
    listed = await plans(directory)
    await hear(directory, "funding", plan(PlanBalanced, 6_000_000), after=700)

    assert [path.partition("?")[0] for path in read_paths] == ["/v1/plans", "/v1/referrals"]
    assert whole == [True, False], "a parked plan of before is over, a parked answer to an orientation is not"
    assert [(one["state"], one["gap_cents"]) for one in listed] == [("gapped", 60)]
    assert [one["state"] for one in await plans(directory)] == ["balanced"]


def test_every_type_of_each_source_is_handled_or_ignored() -> None:
    for source, events in (("referrals", referrals.EVENTS), ("funding", funding.EVENTS)):
        listed = {one.name: one for one in LISTENER.sources}[source]
        assert {*listed.handles, *listed.ignores} == set(events)

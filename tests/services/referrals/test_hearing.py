"""What is heard of partners and funding decides where a referral goes and when it is due; a restored source is heard anew."""

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from libs.contracts import demonstration as d
from libs.contracts.funding import AgreementEnded, AgreementSigned, TargetDelay
from libs.contracts.partners import CapacityChanged, PostFilled, PostSuspended, ServiceClosed, ServiceRegistered, UnitChanged, UnitClosed
from libs.contracts.vocabularies import AgeBand, Channel, Force, Sex, UnitKind, Urgency
from services.referrals.app import route_unrouted
from services.referrals.handlers import bootstrap
from services.referrals.receiving import routing
from tests.services.referrals.conftest import MORNING, Referrals, territory

COPIES = ("units_heard", "posts_heard", "services_heard", "agreements_heard")
POST: dict[str, Any] = {"departement": "95", "post_id": d.POST_CERGY, "employer_id": d.EMPLOYER}


def agreement(channels: tuple[Channel, ...] = (), minutes: int | None = None, *, starts_on: date = date(2026, 1, 1)) -> AgreementSigned:
    return AgreementSigned(
        departement="95",
        agreement_id=d.AGREEMENT,
        post_ids=(d.POST_CERGY,),
        starts_on=starts_on,
        ends_on=date(2099, 12, 31),
        channels=channels,
        targets=() if minutes is None else (TargetDelay(urgency=Urgency.PRIORITY, minutes=minutes),),
        signed_at=MORNING,
    )


async def routed(referrals: Referrals, **changes: Any) -> str:
    """Where a referral went: the reason it was routed, or not."""
    await referrals.said()
    await referrals.receive(**changes)
    return str((await referrals.said())[1][1]["reason"])


async def test_the_agreement_says_which_channels_its_post_accepts(referrals: Referrals) -> None:
    before = await routed(referrals)
    await referrals.hear("funding", agreement((Channel.OFFICER,)))
    under_it = await routed(referrals)
    named = await routed(referrals, channel="officer")
    await referrals.hear("funding", agreement(()))
    every = await routed(referrals)

    assert [before, under_it, named, every] == ["unit", "channel_not_accepted", "unit", "unit"]


async def test_an_agreement_counts_from_its_first_day_until_it_ends(referrals: Referrals) -> None:
    await referrals.hear("funding", agreement((Channel.OFFICER,), starts_on=datetime.now(UTC).date() + timedelta(days=2)))
    to_come = await routed(referrals)
    await referrals.hear("funding", agreement((Channel.OFFICER,)))
    in_force = await routed(referrals)
    ended = AgreementEnded(
        departement="95", agreement_id=d.AGREEMENT, post_ids=(d.POST_CERGY,), ended_on=date(2026, 11, 23), ended_at=MORNING
    )
    await referrals.hear("funding", ended)

    assert [to_come, in_force, await routed(referrals)] == ["unit", "channel_not_accepted", "unit"]


async def test_the_agreement_sets_the_target_delay_of_its_post(referrals: Referrals) -> None:
    referral_id = await referrals.receive(danger=False)

    async def due() -> timedelta:
        found = await referrals.read_as("iscg-95", referral_id)
        return datetime.fromisoformat(found["first_contact_due_at"]) - datetime.fromisoformat(found["received_at"])

    assert await due() == timedelta(hours=24)
    await referrals.hear("funding", agreement(minutes=90))
    assert await due() == timedelta(minutes=90)


async def test_an_agreement_that_opens_a_channel_finds_the_post_of_a_waiting_referral(referrals: Referrals) -> None:
    await referrals.hear("funding", agreement((Channel.OFFICER,)))
    referral_id = await referrals.receive()
    await referrals.said()

    await referrals.hear("funding", agreement(()))
    await route_unrouted(referrals.runtime)

    [(type, data)] = await referrals.said()
    assert (type, data["referral_id"]) == ("referral.assigned", str(referral_id))


async def test_a_suspended_post_waits_until_it_is_filled(referrals: Referrals) -> None:
    await referrals.hear("partners", PostSuspended(suspended_at=MORNING, **POST))
    while_suspended = await routed(referrals)
    await referrals.hear("partners", PostFilled(filled_at=MORNING, **POST))

    assert [while_suspended, await routed(referrals)] == ["no_open_post", "unit"]


async def test_a_declined_referral_does_not_come_back_to_who_declined_it(referrals: Referrals) -> None:
    referral_id = await referrals.receive()
    await referrals.move("iscg-95", referral_id, "decline", {"reason": "close_to_person"})
    await referrals.said()

    await referrals.hear("partners", PostFilled(filled_at=MORNING, **POST))
    await route_unrouted(referrals.runtime)

    assert await referrals.said() == []


async def test_the_communes_of_a_unit_route_until_it_closes(referrals: Referrals) -> None:
    changed = UnitChanged(
        departement="95",
        unit_id=d.UNIT_CERGY,
        force=Force.POLICE,
        kind=UnitKind.OTHER,
        communes=("95008",),
        changed_at=MORNING,
    )
    await referrals.hear("partners", changed)
    by_commune = await routed(referrals, unit_id=None, commune="95008")
    await referrals.hear("partners", UnitClosed(departement="95", unit_id=d.UNIT_CERGY, closed_at=MORNING))

    assert [by_commune, await routed(referrals, unit_id=None, commune="95008")] == ["commune", "no_coverage"]


async def test_of_what_force_a_closed_unit_was_is_told_with_the_corrections_of_its_referrals(referrals: Referrals) -> None:
    referral_id = await referrals.receive()
    closed = UnitClosed(departement="95", unit_id=d.UNIT_CERGY, closed_at=MORNING)
    at_closing = LISTS["/v1/units"][0] | {"closed_at": MORNING.isoformat()}

    async def told(penal: bool) -> object:
        await referrals.said()
        assert (await referrals.move("iscg-95", referral_id, "corrections", {"reason": "learned", "penal": penal})).status_code == 201
        [(_, event)] = await referrals.said()
        return event["force"]

    async def listed(address: str) -> AsyncIterator[dict[str, Any]]:
        for item in [at_closing] if address == "/v1/units?limit=200&closed=true" else []:
            yield item

    before = await told(penal=True)
    await referrals.hear("partners", closed)
    after = await told(penal=False)
    async with referrals.runtime.database.transaction() as session:
        await bootstrap(session, "partners", listed)

    assert (before, after, await told(penal=True)) == ("police", "police", "police")


async def test_a_full_service_warns_and_a_closed_one_is_refused(referrals: Referrals) -> None:
    service: dict[str, Any] = {"departement": "95", "service_id": d.VICTIM_SUPPORT_SERVICE, "organization_id": d.ASSOCIATION}
    await referrals.hear("partners", CapacityChanged(capacity=0, changed_at=MORNING, **service))
    full = await referrals.orient(await referrals.accepted())
    await referrals.hear("partners", ServiceClosed(closed_at=MORNING, **service))
    closed = await referrals.orient(await referrals.accepted())

    assert (full.status_code, full.json()["warnings"]) == (201, ["capacity", "untold"])
    assert (closed.status_code, closed.json()["type"].rpartition("/")[2]) == (422, "unknown-service")


ADULTS = ["18-24", "25-39", "40-59", "60-74", "75+"]
PUBLICS = {
    "a service for anybody": ([], [], {"approximate_age": 9}, []),
    "a child of nine sent to a service for adults": ([], ADULTS, {"approximate_age": 9}, ["age"]),
    "an adult sent there": ([], ADULTS, {"approximate_age": 30}, []),
    "somebody of whom no age is known": ([], ADULTS, {}, []),
    "a man sent to a service for women": (["female"], [], {"sex": "male"}, ["sex"]),
    "somebody of whom no sex is known": (["female"], [], {"sex": "unknown"}, []),
    "a boy sent to a service for women": (["female"], ADULTS, {"sex": "male", "approximate_age": 9}, ["age", "sex"]),
}


@pytest.mark.parametrize(("sexes", "age_bands", "person", "warned"), PUBLICS.values(), ids=PUBLICS.keys())
async def test_a_service_that_takes_others_warns(
    referrals: Referrals, sexes: list[str], age_bands: list[str], person: dict[str, Any], warned: list[str]
) -> None:
    heard = next(event for event in territory() if isinstance(event, ServiceRegistered) and event.service_id == d.VICTIM_SUPPORT_SERVICE)
    public = {"sexes": tuple(map(Sex, sexes)), "age_bands": tuple(map(AgeBand, age_bands))}
    await referrals.hear("partners", heard.model_copy(update=public))

    answer = await referrals.orient(
        await referrals.accepted(persons=[{"role": "victim", "sex": "female", "agreement": "accepted"} | person])
    )

    assert (answer.status_code, answer.json()["warnings"]) == (201, [*warned, "untold"])


async def test_hearing_everything_twice_changes_nothing(referrals: Referrals) -> None:
    await referrals.hear("funding", agreement((Channel.OFFICER,), 90))
    before = await referrals.snapshot(*COPIES)

    await referrals.hear("partners", *territory())
    await referrals.hear("funding", agreement((Channel.OFFICER,), 90))

    assert await referrals.snapshot(*COPIES) == before


LISTS: dict[str, list[dict[str, Any]]] = {
    "/v1/units": [{"id": str(d.UNIT_CERGY), "departement": "95", "force": "police", "communes": ["95127"], "closed_at": None}],
    "/v1/posts": [
        {
            "id": str(d.POST_CERGY),
            "departement": "95",
            "employer_id": str(d.EMPLOYER),
            "state": "filled",
            "full_time_percent": 100,
            "channels": [],
            "units": [str(d.UNIT_CERGY)],
            "communes": [],
        }
    ],
    "/v1/services": [
        {
            "id": str(d.SHELTER_SERVICE),
            "organization_id": str(d.SHELTER),
            "departement": "95",
            "kind": "shelter",
            "needs": ["shelter"],
            "communes": [],
            "capacity": 4,
        }
    ],
    "/v1/agreements": [
        {
            "id": str(d.AGREEMENT),
            "departement": "95",
            "post_ids": [str(d.POST_CERGY)],
            "channels": ["officer"],
            "targets": [{"urgency": "priority", "minutes": 90}],
            "starts_on": "2026-01-01",
            "ends_on": "2099-12-31",
        }
    ],
}


async def _read(address: str) -> AsyncIterator[dict[str, Any]]:
    for item in LISTS[address.partition("?")[0]]:
        yield item


async def nothing(address: str) -> AsyncIterator[dict[str, Any]]:
    """Of a source that knows nothing."""
    for item in list[dict[str, Any]]():
        yield item


async def test_the_copies_are_made_anew_out_of_the_sources_lists(referrals: Referrals) -> None:
    for source in ("partners", "funding"):
        async with referrals.runtime.database.transaction() as session:
            await bootstrap(session, source, _read)

    open_ones = (
        "units_heard WHERE NOT closed",
        "posts_heard WHERE state <> 'closed'",
        "services_heard WHERE NOT closed",
        "agreements_heard",
    )
    assert [len(await referrals.rows(f"SELECT id FROM {table}")) for table in open_ones] == [1, 1, 1, 1]
    assert [await routed(referrals), await routed(referrals, channel="officer")] == ["channel_not_accepted", "unit"]


async def test_a_source_that_was_restored_is_listed_alone_and_what_it_does_not_know_is_closed(referrals: Referrals) -> None:
    await referrals.hear("funding", agreement((Channel.OFFICER,)))

    async with referrals.runtime.database.transaction() as session:
        await bootstrap(session, "partners", nothing)

    open_ones = (
        "units_heard WHERE NOT closed",
        "posts_heard WHERE state <> 'closed'",
        "services_heard WHERE NOT closed",
        "agreements_heard",
    )
    assert [len(await referrals.rows(f"SELECT id FROM {table}")) for table in open_ones] == [0, 0, 0, 1]


async def test_a_change_committed_while_routing_was_tried_is_tried_again(referrals: Referrals) -> None:
    """The transaction that marked first may commit last: its mark is older than the newest one tried, and stays."""
    await route_unrouted(referrals.runtime)
    async with referrals.runtime.database.transaction() as late:
        await routing.mark_due(late, "78")
        async with referrals.runtime.database.transaction() as session:
            await routing.mark_due(session, "95")
        async with referrals.runtime.database.transaction() as session:
            tried = await routing.due(session)
    async with referrals.runtime.database.transaction() as session:
        await routing.settle(session, tried)

    assert [departement for departement, _ in tried] == ["95"]
    async with referrals.runtime.database.transaction() as session:
        assert list(await session.scalars(text("SELECT departement FROM routing_due"))) == ["78"]

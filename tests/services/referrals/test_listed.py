"""What a listener that lists anew missed meanwhile takes effect as if it had heard it: delays, notices, routing; what was parked before the list is over."""

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from libs.chassis import dead_letters, parking, streams
from libs.chassis.listener import Listener, Source
from libs.chassis.projector import Projector
from libs.contracts import demonstration as d
from libs.contracts.partners import CapacityChanged
from services.referrals import handlers
from services.referrals.app import route_unrouted
from services.referrals.handlers import bootstrap
from tests.chassis.speaking import MORNING, database, everything, say, stamp_all
from tests.planted import seen_red
from tests.services.referrals.conftest import Referrals
from tests.services.referrals.test_absences import told, wants_mail
from tests.services.referrals.test_hearing import LISTS, agreement

Lists = dict[str, list[dict[str, Any]]]


def lists(**changed: list[dict[str, Any]]) -> Lists:
    return LISTS | {f"/v1/{name}": items for name, items in changed.items()}


async def listed(referrals: Referrals, source: str, found: Lists) -> None:
    async def read(address: str) -> AsyncIterator[dict[str, Any]]:
        for item in found[address.partition("?")[0]]:
            yield item

    async with referrals.runtime.database.transaction() as session:
        await bootstrap(session, source, read)


async def due(referrals: Referrals, referral_id: Any) -> timedelta:
    found = await referrals.read_as("iscg-95", referral_id)
    return datetime.fromisoformat(found["first_contact_due_at"]) - datetime.fromisoformat(found["received_at"])


async def test_an_agreement_that_was_signed_meanwhile_sets_the_delays(referrals: Referrals) -> None:
    referral_id = await referrals.receive(danger=False)

    await listed(referrals, "funding", LISTS)

    assert await due(referrals, referral_id) == timedelta(minutes=90), "it waits by the delay of before"


async def test_an_agreement_that_was_known_already_moves_no_delay(referrals: Referrals) -> None:
    """Promised before it came into force: a calendar that moves on moves nothing."""
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    await referrals.hear("funding", agreement(minutes=90, starts_on=tomorrow))
    referral_id = await referrals.receive(danger=False)
    async with referrals.runtime.database.transaction() as session:
        await session.execute(text("UPDATE agreements_heard SET starts_on = :day, channels = '{officer}'"), {"day": date(2026, 1, 1)})

    await listed(referrals, "funding", LISTS)

    assert await due(referrals, referral_id) == timedelta(hours=24)


async def test_who_asked_a_service_that_closed_meanwhile_is_told(referrals: Referrals) -> None:
    await wants_mail(referrals, f"post:{d.POST_CERGY}", "immediate")
    await referrals.orient(await referrals.accepted())

    await listed(referrals, "partners", LISTS)
    await listed(referrals, "partners", LISTS)

    assert (await told(referrals, f"post:{d.POST_CERGY}")).count("orientation_service_closed at once") == 1, "nobody was told"
    assert (await referrals.orient(await referrals.accepted())).json()["type"].rpartition("/")[2] == "unknown-service"


SARCELLES = LISTS["/v1/posts"][0] | {"id": str(d.POST_SARCELLES)}
LEFT: dict[str, list[dict[str, Any]]] = {
    "vacant": [LISTS["/v1/posts"][0] | {"state": "vacant"}, SARCELLES],
    "suspended": [LISTS["/v1/posts"][0] | {"state": "suspended"}, SARCELLES],
    "closed, which the list does not tell": [SARCELLES],
}


@pytest.mark.parametrize("posts", LEFT.values(), ids=LEFT)
async def test_what_a_post_left_meanwhile_is_told_once_and_what_nobody_accepted_is_routed_again(
    referrals: Referrals, posts: list[dict[str, Any]]
) -> None:
    await wants_mail(referrals, "departement:95", "immediate")
    assigned, accepted = await referrals.receive(), await referrals.accepted()

    await listed(referrals, "partners", lists(posts=posts))
    await listed(referrals, "partners", lists(posts=posts))
    await route_unrouted(referrals.runtime)

    rows = {row.id: row.post_id for row in await referrals.rows("SELECT id, post_id FROM referrals")}
    assert rows == {assigned: d.POST_SARCELLES, accepted: d.POST_CERGY}
    assert (await told(referrals, "departement:95")).count("post_absent at once") == 1


async def test_what_was_parked_before_the_list_is_over_and_brings_no_old_state_back(referrals: Referrals, database_url: Any) -> None:
    speaker = database(database_url(None))
    service: dict[str, Any] = {"departement": "95", "service_id": d.VICTIM_SUPPORT_SERVICE, "organization_id": d.ASSOCIATION}
    await say(speaker, CapacityChanged(capacity=7, changed_at=MORNING, **service))
    await stamp_all(speaker)

    async def broken(*_: object) -> None:
        raise ValueError("a bug of that day")

    names = handlers.LISTENER.sources[0].ignores
    listener = Listener(
        "copies", [Source("partners", handles={**handlers._PARTNERS, CapacityChanged: broken}, ignores=names)], bootstrap=bootstrap
    )
    projector = Projector(referrals.runtime.database, listener, park_limit=10)
    await projector.ensure_cursors()
    async with referrals.runtime.database.transaction() as session:
        await session.execute(
            text("UPDATE cursors SET epoch = 1, sequence = 0, digest = :start WHERE source = 'partners'"), {"start": streams.GENESIS}
        )
    await projector.apply("partners", await everything(speaker))
    await speaker.close()
    full = LISTS["/v1/services"][0] | {"id": str(d.VICTIM_SUPPORT_SERVICE), "capacity": 0}

    async def read(address: str) -> AsyncIterator[dict[str, Any]]:
        for item in lists(services=[full])[address.partition("?")[0]]:
            yield item

    await projector.bootstrap("partners", read, lambda: streams.Place(1, 500, bytes(32)))
    assert referrals.runtime.consumer is not None
    async with referrals.runtime.database.transaction() as session:
        [letter] = await parking.page(session, status=None, after=None, limit=10)
    try:
        async with referrals.runtime.database.transaction() as session:
            await dead_letters.replay(session, referrals.runtime.consumer.projector, letter.id, "administrator")
    except dead_letters.NotParked:
        replayed = False
    else:
        replayed = True

    [row] = await referrals.rows(f"SELECT capacity FROM services_heard WHERE id = '{d.VICTIM_SUPPORT_SERVICE}'")
    assert (row.capacity, replayed) == (0, False), "an old state over a newer one"
    assert (letter.status, letter.decision_reason) == ("superseded", "listed up to number 500 of epoch 1")
    assert await projector.acted_up_to("partners") == (1, 500)


async def test_planted_a_list_that_leaves_parked_events_as_they_are_is_seen(
    referrals: Referrals, database_url: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def not_at_all(*_: object) -> None: ...

    monkeypatch.setattr("libs.chassis.projector.supersede", not_at_all)

    await seen_red(
        test_what_was_parked_before_the_list_is_over_and_brings_no_old_state_back(referrals, database_url), "an old state over a newer one"
    )


async def test_planted_a_list_that_settles_no_delay_is_seen(referrals: Referrals, monkeypatch: pytest.MonkeyPatch) -> None:
    async def not_at_all(*_: object) -> None: ...

    monkeypatch.setattr(handlers, "settle_by_agreement", not_at_all)

    await seen_red(test_an_agreement_that_was_signed_meanwhile_sets_the_delays(referrals), "it waits by the delay of before")


async def test_planted_a_list_that_tells_nobody_of_a_closed_service_is_seen(referrals: Referrals, monkeypatch: pytest.MonkeyPatch) -> None:
    async def not_at_all(*_: object) -> None: ...

    monkeypatch.setattr(handlers, "tell_closed", not_at_all)

    await seen_red(test_who_asked_a_service_that_closed_meanwhile_is_told(referrals), "nobody was told")

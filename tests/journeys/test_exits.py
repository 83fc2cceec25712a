"""How a referral ends, exit by exit: worked over HTTP, then looked at from everywhere: the police's status, the timeline, what each audience was told, the figures.

Two services without a bus between them: what referrals says internally is given to reporting's own listener as it was written. (The bus has its own journeys.)
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from libs.contracts import demonstration as d
from libs.contracts.partners import CoverageChanged
from libs.contracts.registry import EVENTS
from libs.contracts.units import police_id_of
from services.referrals.app import SERVICE as REFERRALS
from services.referrals.app import expire_orientations, route_unrouted
from services.reporting.app import SERVICE as REPORTING
from tests.services.referrals.conftest import CONTENT, MORNING, Referrals, territory
from tests.services.referrals.test_orientations import ask
from tests.serving import Served, served

AUDIENCES = {
    "police": f"police:{police_id_of('police-95')}",
    "interior": "interior",
    "justice": "justice",
    "departement": "departement:95",
    "association": f"organization:{d.ASSOCIATION}",
}


@dataclass
class World:
    referrals: Referrals
    reporting: Served
    heard: int = 0

    async def receive(self, **changes: Any) -> UUID:
        """Somebody without rules of safe contact: the test may call at any hour."""
        return await self.referrals.receive(persons=[{"role": "victim", "sex": "female", "agreement": "accepted"}], **changes)

    async def accepted(self) -> UUID:
        referral_id = await self.receive()
        assert (await self.referrals.move("iscg-95", referral_id, "accept")).status_code == 200
        return referral_id

    async def call(self, referral_id: UUID, result: str) -> None:
        [person, *_] = await self.referrals.persons(referral_id)
        body = {"person_id": person, "mode": "phone", "result": result, "attempted_at": datetime.now(UTC).isoformat()}
        answer = await self.referrals.post("iscg-95", f"/v1/referrals/{referral_id}/contacts", body)
        assert answer.status_code == 201, answer.text

    async def close(self, referral_id: UUID, reason: str, who: str = "iscg-95") -> None:
        answer = await self.referrals.move(who, referral_id, "close", {"reason": reason})
        assert answer.status_code == 200, answer.text

    async def orient(self, referral_id: UUID, service_id: UUID = d.VICTIM_SUPPORT_SERVICE, **more: Any) -> str:
        answer = await ask(self.referrals, referral_id, service_id, **more)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def status(self, referral_id: UUID) -> str:
        answer = await self.referrals.get("police-95", f"/v1/referral-statuses/{referral_id}")
        return str(answer.json()["status"])

    async def timeline(self, referral_id: UUID) -> list[str]:
        """Each step; a move with its reason."""
        answer = await self.referrals.get("coordinator-95", f"/v1/referrals/{referral_id}/timeline", CONTENT)
        assert answer.status_code == 200, answer.text
        return [
            (f"{one['code']} {one['reason'] or ''}".strip() if one["step"] == "moved" else one["step"]) for one in answer.json()["items"]
        ]

    async def told(self, audience: str) -> list[str]:
        rows = await self.referrals.rows(f"SELECT type FROM outbox WHERE stream = '{AUDIENCES[audience]}' ORDER BY position")
        short = {"fr.maillon.contact.attempted.v1": "contact"}
        return [short.get(row.type, row.type.removeprefix("fr.maillon.").removeprefix("referral.").removesuffix(".v1")) for row in rows]

    async def figures(self, by: str, measure: str = "situations") -> dict[str, int]:
        """In the Val-d'Oise, once everything said so far was heard; empty cells left out."""
        rows = await self.referrals.rows(
            f"SELECT position, type, data FROM outbox WHERE stream = 'internal' AND position > {self.heard} ORDER BY position"
        )
        await self.reporting.hear("referrals", *(EVENTS[row.type].model_validate_json(bytes(row.data)) for row in rows))
        self.heard = rows[-1].position if rows else self.heard
        answer = await self.reporting.get("coordinator-95", "/v1/figures", measure=measure, by=by, departement="95")
        assert answer.status_code == 200, answer.text
        return {cell["code"]: cell["value"] for cell in answer.json()["cells"] if cell["value"]}


@pytest.fixture
async def world(database_url: Callable[[str | None], str]) -> AsyncIterator[World]:
    async with served(REFERRALS, database_url("referrals")) as one, served(REPORTING, database_url("reporting")) as other:
        referrals = Referrals(one.client, one.runtime, one.issuer, one.openapi)
        await referrals.hear("partners", *territory())
        yield World(referrals, other)


@dataclass(frozen=True)
class Seen:
    """What is seen of one referral from each side once it has come to its end; words in the order told."""

    police_status: str
    timeline: str
    police: str
    interior: str
    justice: str
    departement: str
    association: str = ""
    counted: str = "closed"
    reason: str = ""
    orientations: str = ""


async def seen(world: World, referral_id: UUID) -> Seen:
    def words(counts: dict[str, int]) -> str:
        return " ".join(code for code, number in sorted(counts.items()) for _ in range(number))

    told = {name: " ".join(await world.told(name)) for name in AUDIENCES}
    return Seen(
        police_status=await world.status(referral_id),
        timeline=", ".join(await world.timeline(referral_id)),
        counted=words(await world.figures("status")),
        reason=words(await world.figures("close_reason")),
        orientations=words(await world.figures("status", "orientations")),
        **told,
    )


async def test_a_person_who_declines_help_is_called_once_and_the_police_learns_only_that_it_is_over(world: World) -> None:
    referral_id = await world.accepted()
    await world.call(referral_id, "reached")

    await world.close(referral_id, "declined_by_person")

    assert await seen(world, referral_id) == Seen(
        police_status="closed",
        timeline="received, accept, contact, close declined_by_person",
        police="received assigned accepted contact closed",
        interior="received assigned accepted contact closed",
        justice="received accepted contact closed",
        departement="received assigned accepted contact closed",
        reason="declined_by_person",
    )


async def test_an_unreachable_person_is_closed_as_such_after_attempts_only_of_which_the_police_learns_the_first(world: World) -> None:
    referral_id = await world.accepted()
    early = await world.referrals.move("iscg-95", referral_id, "close", {"reason": "unreachable"})
    await world.call(referral_id, "no_answer")
    await world.call(referral_id, "message_left")

    await world.close(referral_id, "unreachable")

    assert early.status_code == 409
    assert await seen(world, referral_id) == Seen(
        police_status="closed",
        timeline="received, accept, contact, contact, close unreachable",
        police="received assigned accepted closed",
        interior="received assigned accepted closed",
        justice="received accepted closed",
        departement="received assigned accepted contact contact closed",
        reason="unreachable",
    )


async def test_what_is_out_of_scope_is_closed_without_having_been_accepted(world: World) -> None:
    referral_id = await world.receive()

    await world.close(referral_id, "out_of_scope")

    assert await seen(world, referral_id) == Seen(
        police_status="closed",
        timeline="received, close out_of_scope",
        police="received assigned closed",
        interior="received assigned closed",
        justice="received closed",
        departement="received assigned closed",
        reason="out_of_scope",
    )


async def test_a_duplicate_under_another_reference_is_closed_and_both_are_counted(world: World) -> None:
    first = await world.receive()
    second = await world.receive()

    await world.close(second, "duplicate")

    assert await world.status(first) == "assigned"
    assert await seen(world, second) == Seen(
        police_status="closed",
        timeline="received, close duplicate",
        police="received assigned received assigned closed",
        interior="received assigned received assigned closed",
        justice="received received closed",
        departement="received assigned received assigned closed",
        counted="assigned closed",
        reason=" duplicate",  # the first one has none yet
    )


async def test_an_unrouted_referral_waits_for_its_post_and_the_police_learns_when_it_has_one(world: World) -> None:
    referral_id = await world.receive(unit_id=None, commune="95008")
    waiting = (await world.status(referral_id), await world.figures("status"), await world.told("police"))
    covered = CoverageChanged(
        departement="95", post_id=d.POST_CERGY, employer_id=d.EMPLOYER, units=(d.UNIT_CERGY,), communes=("95008",), changed_at=MORNING
    )

    await world.referrals.hear("partners", covered)
    await route_unrouted(world.referrals.runtime)
    assert (await world.referrals.move("iscg-95", referral_id, "accept")).status_code == 200
    await world.close(referral_id, "out_of_scope")

    assert waiting == ("received", {"unrouted": 1}, ["received"])
    assert await seen(world, referral_id) == Seen(
        police_status="closed",
        timeline="received, route commune, accept, close out_of_scope",
        police="received assigned accepted closed",
        interior="received unrouted assigned accepted closed",
        justice="received accepted closed",
        departement="received unrouted assigned accepted closed",
        reason="out_of_scope",
    )


async def test_a_reopened_referral_goes_on_and_is_counted_once_with_its_last_reason(world: World) -> None:
    referral_id = await world.accepted()
    await world.close(referral_id, "out_of_scope")
    assert (await world.referrals.move("iscg-95", referral_id, "reopen")).status_code == 200
    again = (await world.status(referral_id), await world.figures("status"), await world.figures("close_reason"))
    await world.call(referral_id, "reached")

    await world.close(referral_id, "declined_by_person")

    assert again == ("accepted", {"accepted": 1}, {"": 1})
    assert await seen(world, referral_id) == Seen(
        police_status="closed",
        timeline="received, accept, close out_of_scope, reopen, contact, close declined_by_person",
        police="received assigned accepted closed reopened contact closed",
        interior="received assigned accepted closed reopened contact closed",
        justice="received accepted closed reopened contact closed",
        departement="received assigned accepted closed reopened contact closed",
        reason="declined_by_person",
    )


async def test_a_rejected_orientation_is_replaced_by_another_of_which_the_police_learns_nothing(world: World) -> None:
    referral_id = await world.accepted()
    first = await world.orient(referral_id)
    assert (await world.referrals.answer("partner-95", first, "reject", {"reason": "no_capacity"})).status_code == 200
    second = await world.orient(referral_id, d.LEGAL_ADVICE_SERVICE, replaces_id=first)
    assert (await world.referrals.answer("partner-95", second, "accept")).status_code == 200

    await world.close(referral_id, "oriented")

    both = "orientation.requested orientation.rejected orientation.requested orientation.accepted"
    assert await seen(world, referral_id) == Seen(
        police_status="closed",
        timeline="received, accept, orientation_requested, orientation_rejected, orientation_requested, orientation_accepted,"
        " close oriented",
        police="received assigned accepted closed",
        interior=f"received assigned accepted {both} closed",
        justice=f"received accepted {both} closed",
        departement=f"received assigned accepted {both} closed",
        association=both,
        reason="oriented",
        orientations="accepted rejected",
    )


async def test_an_expired_orientation_is_no_relay_to_close_on(world: World) -> None:
    referral_id = await world.accepted()
    await world.orient(referral_id)
    async with world.referrals.runtime.database.transaction() as session:
        await session.execute(text("UPDATE orientations SET expires_at = now() - interval '1 minute'"))
    await expire_orientations(world.referrals.runtime)
    relayed = await world.referrals.move("iscg-95", referral_id, "close", {"reason": "oriented"})

    await world.close(referral_id, "out_of_scope")

    assert relayed.json()["type"].endswith("close-reason-unfounded")
    assert await seen(world, referral_id) == Seen(
        police_status="closed",
        timeline="received, accept, orientation_requested, orientation_expired, close out_of_scope",
        police="received assigned accepted closed",
        interior="received assigned accepted orientation.requested orientation.expired closed",
        justice="received accepted orientation.requested orientation.expired closed",
        departement="received assigned accepted orientation.requested orientation.expired closed",
        association="orientation.requested orientation.expired",
        reason="out_of_scope",
        orientations="expired",
    )


async def test_an_erased_referral_is_over_for_the_police_stays_counted_and_says_so_to_who_was_told(world: World) -> None:
    referral_id = await world.accepted()
    await world.orient(referral_id)
    persons = await world.referrals.persons(referral_id)
    counted = await world.figures("total", "persons")

    answer = await world.referrals.move("coordinator-95", referral_id, "erasures", {"person_ids": persons})

    assert answer.status_code == 201, answer.text
    assert await seen(world, referral_id) == Seen(
        police_status="closed",
        timeline="received, accept, orientation_requested, close declined_by_person, erase request, orientation_cancelled",
        police="received assigned accepted closed",
        interior="received assigned accepted orientation.requested orientation.cancelled closed erased",
        justice="received accepted orientation.requested orientation.cancelled closed erased",
        departement="received assigned accepted orientation.requested orientation.cancelled closed erased",
        association="orientation.requested orientation.cancelled erased",
        counted="erased",
        reason="declined_by_person",
        orientations="cancelled",
    )
    assert await world.figures("total", "persons") == counted
    facts = "".join(row.data for row in await world.reporting.rows("SELECT data FROM facts"))
    assert not any(str(person) in facts for person in persons)

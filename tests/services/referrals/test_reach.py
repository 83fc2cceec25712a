"""A refusal and an erasure reach what was asked of partners: by the API, by the answer link, by the jobs."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import event, text

from libs.contracts import demonstration as d
from tests.services.referrals.conftest import Referrals
from tests.services.referrals.test_agreement import CALM as ALL_CALM
from tests.services.referrals.test_agreement import orient, persons_with, run
from tests.services.referrals.test_erasure import erase
from tests.services.referrals.test_links import fill, link, status
from tests.services.referrals.test_orientations import CALM, PARTNER, ask, told_at_once, wishes


async def refuse(referrals: Referrals, referral_id: UUID) -> None:
    [person, *_] = await referrals.persons(referral_id)
    body = {"reason": "learned", "persons": [{"person_id": person, "agreement": "refused"}]}
    assert (await referrals.move("iscg-95", referral_id, "corrections", body)).status_code == 201


async def read(referrals: Referrals, orientation: str) -> httpx.Response:
    return await referrals.get("partner-95", f"/v1/orientations/{orientation}", "orientation")


@pytest.mark.parametrize("steps", [(), ("accept",), ("accept", "start")])
async def test_a_refusal_ends_whatever_lives_of_the_person_and_its_partner_is_told_why_at_once(
    referrals: Referrals, steps: tuple[str, ...]
) -> None:
    await wishes(referrals, PARTNER, mode="digest")
    referral_id = await referrals.accepted(**CALM)
    asked = (await referrals.orient(referral_id)).json()["id"]
    for version, step in enumerate(steps, 1):
        assert (await referrals.answer("partner-95", asked, step, version=version)).status_code == 200
    _, path = await link(referrals, orientation=asked)
    await referrals.said()

    await refuse(referrals, referral_id)

    said = await referrals.said()
    assert [type for type, _ in said] == ["referral.corrected", "orientation.cancelled"]
    assert said[-1][1]["reason"] == "person_refused"
    assert await told_at_once(referrals) == [(PARTNER, "orientation_withdrawn")]
    [listed] = (await referrals.get("partner-95", "/v1/orientations")).json()["items"]
    assert (listed["status"], listed["reason"], listed["version"]) == ("cancelled", "person_refused", len(steps) + 2)
    assert (await read(referrals, asked)).json()["type"].endswith("orientation-over")
    for step in ("accept", "start", "complete"):
        body = {"outcome": "informed"} if step == "complete" else None
        assert (await referrals.answer("partner-95", asked, step, body, version=len(steps) + 2)).status_code == 409
    assert (await referrals.post("iscg-95", f"/v1/orientations/{asked}/links")).status_code == 409
    assert (await referrals.client.get(path)).status_code == 410
    assert (await fill(referrals, path, answer="accept", version=str(len(steps) + 2))).status_code == 410


async def test_a_refusal_ends_nothing_of_anybody_else(referrals: Referrals) -> None:
    referral_id = await referrals.accepted(persons=[one | {"agreement": "accepted"} for one in referrals.body()["persons"]])
    other = (await ask(referrals, referral_id, d.LEGAL_ADVICE_SERVICE, place=1)).json()["id"]
    await referrals.said()

    await refuse(referrals, referral_id)

    assert await status(referrals, other) == "requested"
    assert await referrals.said_types() == ["referral.corrected"]


async def test_what_rests_on_a_legal_ground_outlives_a_refusal_and_keeps_the_person_for_the_delay_after_its_end(
    referrals: Referrals,
) -> None:
    referral_id = await referrals.accepted(persons=persons_with(referrals, agreement="not_asked"), **ALL_CALM)
    asked = (await orient(referrals, referral_id, legal_ground="vital_danger")).json()["id"]
    await refuse(referrals, referral_id)
    later = datetime.now(UTC) + timedelta(hours=100)

    kept = await run(referrals, later)
    shown = (await read(referrals, asked)).json()
    accepted = await referrals.answer("partner-95", asked, "accept", version=2)  # it reads first that the person refused
    ended = await referrals.answer("partner-95", asked, "fail", {"reason": "unreachable"}, 3)

    assert kept == 0
    assert shown["person"]["contact"] is not None
    assert (accepted.status_code, ended.status_code) == (200, 200)
    ended_at = datetime.now(UTC)
    assert await run(referrals, ended_at + timedelta(hours=71)) == 0
    assert await run(referrals, ended_at + timedelta(hours=73)) == 1


@pytest.mark.parametrize("steps", [(), ("accept",), ("accept", "start")])
async def test_an_erasure_ends_what_lives_of_the_person_before_it_is_said(referrals: Referrals, steps: tuple[str, ...]) -> None:
    referral_id = await referrals.accepted()
    asked = (await referrals.orient(referral_id)).json()["id"]
    for version, step in enumerate(steps, 1):
        assert (await referrals.answer("partner-95", asked, step, version=version)).status_code == 200
    _, path = await link(referrals, orientation=asked)
    await referrals.said()

    await erase(referrals, referral_id, await referrals.persons(referral_id))

    assert await referrals.said_types() == ["orientation.cancelled", "referral.closed", "referral.erased"]
    [row] = await referrals.rows("SELECT status, reason FROM orientations")
    assert (row.status, row.reason) == ("cancelled", "person_erased")
    assert (await referrals.post("iscg-95", f"/v1/orientations/{asked}/links")).status_code == 409
    assert (await fill(referrals, path, answer="accept", version=str(len(steps) + 2))).status_code == 410
    assert (await referrals.answer("partner-95", asked, "accept", version=len(steps) + 2)).status_code == 409


async def test_an_erasure_looks_for_orientations_by_their_referral_which_an_index_finds(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    asked: list[str] = []
    engine = referrals.runtime.database.engine.sync_engine

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if "orientations.person_id" in statement:
            asked.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    await erase(referrals, referral_id, await referrals.persons(referral_id))
    event.remove(engine, "before_cursor_execute", note)

    assert len(asked) >= 4
    assert not [one for one in asked if "orientations.referral_id = " not in one]


async def test_an_erased_person_is_not_worked_any_more(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    [person, other] = await referrals.persons(referral_id)
    call = {"person_id": person, "mode": "phone", "result": "reached", "attempted_at": "2026-11-23T08:30:00Z"}
    address = f"/v1/referrals/{referral_id}"
    assert (await referrals.post("iscg-95", f"{address}/contacts", call)).status_code == 201
    await erase(referrals, referral_id, [person])
    await referrals.said()

    oriented = await referrals.orient(referral_id)
    assessed = await referrals.post(
        "iscg-95", f"{address}/assessments", {"person_id": person, "needs": ["rights"], "known_to_services": "known"}
    )
    body = {"person_ids": [other, person], "place": "phone", "duration_minutes": 20, "held_at": "2026-11-23T09:00:00Z"}
    interviewed = await referrals.post("iscg-95", f"{address}/interviews", body)

    for answer in (oriented, assessed, interviewed):
        assert answer.status_code == 409
        assert answer.json()["type"].endswith("person-erased")
    assert await referrals.said() == []


@pytest.mark.parametrize("column", ["content = ''::bytea", "agreement = 'refused'"])
async def test_a_link_and_an_acceptance_look_at_the_person_even_while_the_orientation_waits(referrals: Referrals, column: str) -> None:
    asked, path = await link(referrals)
    async with referrals.runtime.database.transaction() as session:
        await session.execute(text(f"UPDATE persons SET {column}"))

    assert (await referrals.client.get(path)).status_code == 410
    assert (await fill(referrals, path, answer="accept")).status_code == 410
    assert (await referrals.answer("partner-95", asked, "accept")).status_code == 409
    assert await status(referrals, asked) == "requested"

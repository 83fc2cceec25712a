"""The tables are those of the migration; the examples of the OpenAPI document work as they stand."""

from collections.abc import Callable

from sqlalchemy import text

from libs.contracts import demonstration as d
from services.referrals.app import SERVICE
from services.referrals.models import Table
from tests.documents import differences, send, shown
from tests.services.referrals.conftest import Referrals
from tests.serving import served

STATES: dict[str, tuple[str, str | None]] = {
    "accept_referral": ("assigned", None),
    "decline_referral": ("assigned", None),
    "assign_referral": ("assigned", None),
    "erase_persons": ("assigned", None),
    "confirm_erasure": ("accepted", "requested"),
    "transfer_referral": ("assigned", None),
    "correct_referral": ("assigned", None),
    "attempt_contact": ("accepted", None),
    "hold_interview": ("contacted", None),
    "record_assessment": ("contacted", None),
    "request_orientation": ("accepted", None),
    "withdraw_contact": ("contacted", None),
    "withdraw_interview": ("contacted", None),
    "withdraw_assessment": ("contacted", None),
    "record_alert": ("accepted", None),
    "withdraw_alert": ("accepted", None),
    "record_requisition": ("accepted", None),
    "close_referral": ("accepted", "accepted"),
    "reopen_referral": ("closed", None),
    "accept_orientation": ("accepted", "requested"),
    "reject_orientation": ("accepted", "requested"),
    "cancel_orientation": ("accepted", "requested"),
    "make_orientation_link": ("accepted", "requested"),
    "start_orientation": ("accepted", "accepted"),
    "fail_orientation": ("accepted", "accepted"),
    "complete_orientation": ("accepted", "in-progress"),
    "export_person": ("accepted", "requested"),
    "export_person_document": ("accepted", "requested"),
}
"""In which state the demonstration referral, and its orientation, are when an example is sent."""


async def test_the_tables_are_those_of_the_migration(referrals: Referrals) -> None:
    assert await differences(referrals.runtime.database, Table.metadata) == []


async def test_every_example_works_as_it_stands(database_url: Callable[[str | None], str], informed: str) -> None:
    async with served(SERVICE, database_url("referrals")) as up:
        examples = shown(up.openapi())
    assert {one.operation for one in examples} >= set(STATES)

    for one in examples:
        async with served(SERVICE, database_url(informed)) as up:
            referrals = Referrals(up.client, up.runtime, up.issuer, up.openapi)
            if one.operation in STATES:
                await _put(referrals, *STATES[one.operation])
            if one.operation == "confirm_erasure":
                await _erase(referrals)
            if one.operation == "withdraw_contact":
                await _set(f"UPDATE contact_attempts SET id = '{d.CONTACT}' WHERE person_id = '{d.VICTIM}'", referrals)
            if one.operation == "withdraw_interview":
                await _hold_interview(referrals)
            if one.operation == "withdraw_assessment":
                await _assess(referrals)
            if one.operation == "withdraw_alert":
                await _note_alert(referrals)
            answer = await send(referrals, one)
            assert answer.status_code == one.example["x-status"], f"{one.operation}: {answer.text}"


async def _put(referrals: Referrals, status: str, orientation: str | None) -> None:
    await referrals.receive_demonstration()
    if orientation is not None:
        await _set("UPDATE referrals SET status = 'accepted'", referrals)
        await referrals.orient(d.REFERRAL)
        await _set(f"UPDATE orientations SET id = '{d.ORIENTATION}', status = '{orientation}', version = 1", referrals)
    if status == "contacted":
        await _set("UPDATE referrals SET first_contact_at = received_at", referrals)
        await _set(
            "INSERT INTO contact_attempts (id, referral_id, person_id, post_id, mode, result, attempted_at, overridden)"
            " SELECT gen_random_uuid(), r.id, p.id, r.post_id, 'phone', 'reached', r.received_at, '{}'"
            " FROM referrals r JOIN persons p ON p.referral_id = r.id",
            referrals,
        )
    await _set(f"UPDATE referrals SET status = '{'accepted' if status == 'contacted' else status}', version = 1", referrals)


async def _erase(referrals: Referrals) -> None:
    await referrals.post("coordinator-95", f"/v1/referrals/{d.REFERRAL}/erasures", {"person_ids": [d.VICTIM]}, version=1)
    await _set("ALTER TABLE erasure_notices DROP CONSTRAINT erasure_notices_erasure_id_fkey", referrals)
    await _set(f"UPDATE erasures SET id = '{d.ERASURE}', erased_at = '2026-11-24T10:00:00Z'", referrals)
    await _set(f"UPDATE erasure_notices SET erasure_id = '{d.ERASURE}'", referrals)


async def _hold_interview(referrals: Referrals) -> None:
    held = {"person_ids": [d.VICTIM], "place": "station", "duration_minutes": 50, "held_at": "2026-11-24T16:30:00Z"}
    await referrals.post("iscg-95", f"/v1/referrals/{d.REFERRAL}/interviews", held)
    await _set(f"UPDATE interviews SET id = '{d.INTERVIEW}'", referrals)


async def _assess(referrals: Referrals) -> None:
    needs = {"person_id": d.VICTIM, "needs": ["rights"], "known_to_services": "known"}
    await referrals.post("iscg-95", f"/v1/referrals/{d.REFERRAL}/assessments", needs)
    await _set(f"UPDATE assessments SET id = '{d.ASSESSMENT}'", referrals)


async def _note_alert(referrals: Referrals) -> None:
    sent = {"kind": "prosecutor_report", "court": d.COMMUNE_CERGY, "person_ids": [d.VICTIM], "sent_at": "2026-11-24T16:30:00Z"}
    await referrals.post("iscg-95", f"/v1/referrals/{d.REFERRAL}/alerts", sent)
    await _set(f"UPDATE alerts SET id = '{d.ALERT}'", referrals)


async def _set(statement: str, referrals: Referrals) -> None:
    async with referrals.runtime.database.transaction() as session:
        await session.execute(text(statement))

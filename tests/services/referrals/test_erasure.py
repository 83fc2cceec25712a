"""Erasing: what was sealed never opens again, what is counted stays, and everybody who was told is told of it."""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from libs.contracts import demonstration as d
from services.referrals.models import Referral
from services.referrals.rights import erasure
from services.referrals.rights.erasure import ErasureCause
from tests.services.referrals.conftest import CONTENT, Referrals


async def erase(
    referrals: Referrals,
    referral_id: UUID,
    persons: Collection[UUID],
    cause: ErasureCause = ErasureCause.REQUEST,
    *,
    narrative: bool = False,
    alerts: bool = True,
) -> UUID | None:
    async with referrals.runtime.database.transaction() as session:
        referral = await session.get_one(Referral, referral_id, with_for_update=True)
        return await erasure.erase(
            session, referrals.runtime.vault, referral, persons, cause, datetime.now(UTC), by="test", narrative=narrative, alerts=alerts
        )


async def living_keys(referrals: Referrals) -> int:
    [row] = await referrals.rows("SELECT count(*) AS living FROM vault_keys WHERE wrapped IS NOT NULL")
    return int(row.living)


async def sealed(referrals: Referrals) -> list[bytes]:
    """Every byte string that any table of the service holds of persons and situations."""
    columns = await referrals.rows(
        "SELECT table_name, column_name FROM information_schema.columns WHERE data_type = 'bytea' AND table_schema = current_schema()"
        " AND table_name NOT IN ('vault_keys', 'outbox', 'stream_events', 'streams', 'stream_epochs', 'stream_checkpoints', 'cursors',"
        " 'idempotency_keys', 'dead_letters') AND column_name <> 'request_digest'"
    )
    found: list[bytes] = []
    for column in columns:
        rows = await referrals.rows(f"SELECT {column.column_name} AS value FROM {column.table_name}")
        found += [bytes(row.value) for row in rows if row.value]
    return found


async def test_after_the_erasure_of_a_referral_no_stored_copy_opens(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    persons = await referrals.persons(referral_id)
    await referrals.orient(referral_id)
    assert await living_keys(referrals) == len(persons) + 1
    assert len(await sealed(referrals)) == len(persons) + 3  # and the two hashes of the one whose identity is known

    await erase(referrals, referral_id, persons)

    assert await living_keys(referrals) == 0
    assert await sealed(referrals) == []
    read = await referrals.read_as("iscg-95", referral_id)
    assert (read["status"], read["narrative"]) == ("erased", None)
    assert [(one["erased"], one["identity"], one["role"]) for one in read["people"]] == [
        (True, None, "victim"),
        (True, None, "alleged_perpetrator"),
    ]
    orientation = (await referrals.get("partner-95", "/v1/orientations")).json()["items"][0]["id"]
    assert (await referrals.get("partner-95", f"/v1/orientations/{orientation}", "orientation")).status_code == 409


async def test_an_erasure_is_said_to_everybody_who_was_told_and_kept_in_the_register(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    persons = await referrals.persons(referral_id)
    await referrals.orient(referral_id)
    await referrals.said()

    erasure_id = await erase(referrals, referral_id, persons)

    [cancelled, closed, erased] = await referrals.said()
    assert cancelled[0] == "orientation.cancelled"
    assert (closed[0], closed[1]["reason"]) == ("referral.closed", "declined_by_person")
    assert (erased[0], erased[1]["whole"], erased[1]["organization_ids"]) == ("referral.erased", True, [str(d.ASSOCIATION)])
    assert erased[1]["person_ids"] == [str(person) for person in persons]
    notices = await referrals.rows(f"SELECT stream FROM erasure_notices WHERE erasure_id = '{erasure_id}' ORDER BY stream")
    assert [row.stream for row in notices] == ["departement:95", "interior", "internal", "justice", f"organization:{d.ASSOCIATION}"]


async def test_one_person_is_erased_and_the_others_stay(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    [victim, other] = await referrals.persons(referral_id)
    await referrals.said()

    await erase(referrals, referral_id, [other])

    read = await referrals.read_as("iscg-95", referral_id)
    assert read["status"] == "accepted"
    assert read["narrative"] is not None
    assert [one["erased"] for one in read["people"]] == [False, True]
    [(type, said)] = await referrals.said()
    assert (type, said["whole"], said["person_ids"]) == ("referral.erased", False, [str(other)])
    assert str(victim) not in str(said)


async def test_the_narrative_goes_with_a_person_when_that_is_asked_for(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    [_, other] = await referrals.persons(referral_id)

    await erase(referrals, referral_id, [other], narrative=True)

    assert (await referrals.read_as("iscg-95", referral_id))["narrative"] is None


async def test_what_was_erased_is_not_erased_twice(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    persons = await referrals.persons(referral_id)
    assert await erase(referrals, referral_id, persons) is not None
    await referrals.said()

    assert await erase(referrals, referral_id, persons) is None

    assert await referrals.said() == []


async def test_the_same_case_sent_again_after_an_erasure_is_not_taken_up_anew(referrals: Referrals) -> None:
    body = referrals.body()
    referral_id = UUID((await referrals.post("police-95", "/v1/referrals", body)).json()["id"])
    await erase(referrals, referral_id, await referrals.persons(referral_id), ErasureCause.REFUSAL)

    again = await referrals.post("police-95", "/v1/referrals", body)

    assert again.json()["type"].endswith("external-reference-taken")


@pytest.mark.parametrize(
    ("opened", "steps"),
    [
        ("assigned", [("received", None, "assigned"), ("moved", "close", "closed"), ("moved", "erase", "erased")]),
        ("unrouted", [("received", None, "unrouted"), ("moved", "close_unrouted", "closed"), ("moved", "erase", "erased")]),
        ("closed", [("received", None, "assigned"), ("moved", "close", "closed"), ("moved", "erase", "erased")]),
    ],
)
async def test_the_timeline_of_an_erased_referral_tells_its_end(
    referrals: Referrals, opened: str, steps: list[tuple[str, str | None, str]]
) -> None:
    changes: dict[str, Any] = {"unit_id": None, "commune": "95008"} if opened == "unrouted" else {}
    referral_id = await referrals.receive(**changes)
    if opened == "closed":
        assert (await referrals.move("iscg-95", referral_id, "close", {"reason": "out_of_scope"})).status_code == 200

    await erase(referrals, referral_id, await referrals.persons(referral_id))

    items = (await referrals.get("coordinator-95", f"/v1/referrals/{referral_id}/timeline", CONTENT)).json()["items"]
    told = [(one["step"], one["code"] if one["step"] == "moved" else None, one["status"]) for one in items]
    assert told == steps
    assert (items[-1]["reason"], items[-1]["actor"]) == ("request", "test")

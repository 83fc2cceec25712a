"""The rights of persons: erasing on request, who has acted on it, the end of the retention, and a restored backup."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import text

from libs.chassis import relay
from libs.contracts import demonstration as d
from services.referrals import housekeeping
from services.referrals.app import end_retention, look_at_erasures
from services.referrals.rights import retention
from services.referrals.rights.erasure import ErasureCause
from tests.services.referrals.conftest import Referrals
from tests.services.referrals.test_erasure import erase, living_keys

OURS = ("partners", "funding", "reporting")


async def ask(referrals: Referrals, referral_id: UUID, persons: list[UUID], who: str = "coordinator-95", **more: Any) -> httpx.Response:
    body = {"person_ids": persons} | more
    return await referrals.post(who, f"/v1/referrals/{referral_id}/erasures", body, version=await referrals.version(referral_id))


async def stamp(referrals: Referrals) -> None:
    """What the relay does: every row of the outbox gets the next number of its stream."""
    connection = await referrals.runtime.database.connect()
    try:
        while await relay.stamp(connection):
            pass
    finally:
        await connection.close()


async def acknowledge(referrals: Referrals, who: str, stream: str, sequence: int) -> httpx.Response:
    said = {"epoch": 1, "sequence": sequence}
    return await referrals.client.put(f"/v1/streams/{stream}/position", json=said, headers=referrals.token(who))


async def register(referrals: Referrals, erasure_id: str) -> dict[str, Any]:
    await look_at_erasures(referrals.runtime)
    found: dict[str, Any] = (await referrals.get("coordinator-95", f"/v1/erasures/{erasure_id}")).json()
    return found


async def test_a_coordinator_erases_a_person_who_asks_for_it_and_it_is_audited(referrals: Referrals) -> None:
    referral_id = await referrals.receive()
    [victim, _] = await referrals.persons(referral_id)

    answer = await ask(referrals, referral_id, [victim])

    assert answer.status_code == 201, answer.text
    [row] = await referrals.rows("SELECT data FROM outbox WHERE stream = 'audit'")
    entry = json.loads(row.data)
    assert (entry["purpose"], entry["operation"]) == ("persons_rights", "erase_persons")
    again = await ask(referrals, referral_id, [victim])
    assert again.json()["type"].endswith("erased-already")


@pytest.mark.parametrize(("who", "status"), [("coordinator-78", 404), ("iscg-95", 403), ("police-95", 403), ("partner-95", 403)])
async def test_nobody_else_erases(referrals: Referrals, who: str, status: int) -> None:
    referral_id = await referrals.receive()

    answer = await ask(referrals, referral_id, await referrals.persons(referral_id), who)

    assert answer.status_code == status
    assert "referral.erased" not in await referrals.said_types()


async def test_the_register_names_who_has_not_acted_on_an_erasure_until_everybody_has(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    await referrals.orient(referral_id)
    association = f"organization:{d.ASSOCIATION}"
    erasure_id = (await ask(referrals, referral_id, await referrals.persons(referral_id))).json()["id"]
    await stamp(referrals)

    first = {notice["stream"]: notice for notice in (await register(referrals, erasure_id))["notices"]}

    assert first["internal"]["waiting_for"] == sorted(OURS)
    assert first[association]["waiting_for"] == [association]
    assert (first["interior"]["state"], first["interior"]["acknowledged_at"]) == ("no_reader", None)
    for service in OURS:
        assert (await acknowledge(referrals, service, "internal", first["internal"]["sequence"])).status_code == 204
    assert (await acknowledge(referrals, "partner-95", association, first[association]["sequence"] - 1)).status_code == 204
    behind = await register(referrals, erasure_id)
    assert {notice["stream"]: notice["waiting_for"] for notice in behind["notices"] if notice["waiting_for"]} == {
        association: ["partner-95"]
    }
    assert behind["completed_at"] is None
    assert [one["id"] for one in (await referrals.get("auditor", "/v1/erasures", waiting="true")).json()["items"]] == [erasure_id]

    await acknowledge(referrals, "partner-95", association, first[association]["sequence"])

    assert (await register(referrals, erasure_id))["completed_at"] is not None
    assert (await referrals.get("auditor", "/v1/erasures", waiting="true")).json()["items"] == []


async def test_a_webhook_acknowledges_by_what_it_took(referrals: Referrals) -> None:
    referral_id = await referrals.receive()
    url = "https://93.184.215.14/maillon"
    await referrals.post("justice", "/v1/subscriptions", {"stream": "justice", "url": url, "after": 0})
    erasure_id = (await ask(referrals, referral_id, await referrals.persons(referral_id))).json()["id"]
    await stamp(referrals)
    [before] = [one for one in (await register(referrals, erasure_id))["notices"] if one["stream"] == "justice"]

    async with referrals.runtime.database.transaction() as session:
        await session.execute(text(f"UPDATE subscriptions SET sequence = {before['sequence']}"))
    [after] = [one for one in (await register(referrals, erasure_id))["notices"] if one["stream"] == "justice"]

    assert (before["waiting_for"], before["acknowledged_at"]) == (["justice"], None)
    assert after["acknowledged_at"] is not None


async def test_nobody_acknowledges_what_was_not_said_nor_another_ones_stream(referrals: Referrals) -> None:
    assert (await acknowledge(referrals, "reporting", "internal", 10_000)).json()["type"].endswith("not-yet-said")
    assert (await acknowledge(referrals, "partner-95", "internal", 0)).status_code == 404


async def test_a_coordinator_reads_the_register_of_its_own_departement(referrals: Referrals) -> None:
    referral_id = await referrals.receive()
    erasure_id = (await ask(referrals, referral_id, await referrals.persons(referral_id))).json()["id"]

    assert (await referrals.get("coordinator-78", "/v1/erasures")).json()["items"] == []
    assert (await referrals.get("coordinator-78", f"/v1/erasures/{erasure_id}")).status_code == 404
    assert (await referrals.get("iscg-95", "/v1/erasures")).status_code == 403


# The end of the retention


async def age(referrals: Referrals, referral_id: UUID, days: int, contact_days: int | None = None) -> None:
    async with referrals.runtime.database.transaction() as session:
        one = {"id": referral_id, "days": days, "contact": contact_days or days}
        await session.execute(text("UPDATE referrals SET received_at = now() - make_interval(days => :days) WHERE id = :id"), one)
        aged = "UPDATE contact_attempts SET attempted_at = now() - make_interval(days => :contact) WHERE referral_id = :id"
        await session.execute(text(aged), one)


async def contacted(referrals: Referrals) -> UUID:
    referral_id = await referrals.accepted()
    [victim, _] = await referrals.persons(referral_id)
    call = {"person_id": victim, "mode": "phone", "result": "reached", "attempted_at": "2026-11-23T09:30:00Z"}
    assert (await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/contacts", call)).status_code == 201
    return referral_id


async def test_two_years_after_the_last_contact_everything_sealed_is_erased_and_not_before(referrals: Referrals) -> None:
    old, contacted_since, fresh = await contacted(referrals), await contacted(referrals), await referrals.receive()
    await age(referrals, old, 800, 731)
    await age(referrals, contacted_since, 800, 700)
    await close(referrals, old, contacted_since)

    await end_retention(referrals.runtime)

    statuses = {row.id: row.status for row in await referrals.rows("SELECT id, status FROM referrals")}
    assert statuses == {old: "erased", contacted_since: "closed", fresh: "assigned"}
    [row] = await referrals.rows("SELECT cause FROM erasures")
    assert row.cause == "retention"


async def close(referrals: Referrals, *ids: UUID) -> None:
    for referral_id in ids:
        assert (await referrals.move("iscg-95", referral_id, "close", {"reason": "completed"})).status_code == 200
    async with referrals.runtime.database.transaction() as session:
        await session.execute(text("UPDATE moves SET at = at - interval '800 days'"))


@pytest.mark.parametrize(
    "activity",
    [
        "UPDATE moves SET at = now() WHERE move = 'accept'",
        "UPDATE moves SET at = now(), move = 'reopen' WHERE move = 'accept'",
        "UPDATE assessments SET recorded_at = now()",
        "UPDATE interviews SET held_at = now()",
    ],
)
async def test_what_was_done_for_a_person_counts_like_a_contact(referrals: Referrals, activity: str) -> None:
    referral_id = await contacted(referrals)
    [victim, _] = await referrals.persons(referral_id)
    address = f"/v1/referrals/{referral_id}"
    interview = {"person_ids": [victim], "place": "phone", "duration_minutes": 20, "held_at": "2026-11-23T10:00:00Z"}
    assessment = {"person_id": victim, "needs": ["rights"], "known_to_services": "known"}
    for noun, body in (("interviews", interview), ("assessments", assessment)):
        assert (await referrals.post("iscg-95", f"{address}/{noun}", body)).status_code == 201
    await age(referrals, referral_id, 800)
    await close(referrals, referral_id)
    async with referrals.runtime.database.transaction() as session:
        await session.execute(text("UPDATE assessments SET recorded_at = now() - interval '800 days'"))
        await session.execute(text("UPDATE interviews SET held_at = now() - interval '800 days'"))
        before = await retention.due(session, datetime.now(UTC), 730)
        await session.execute(text(activity))
        after = await retention.due(session, datetime.now(UTC), 730)

    assert (before, after) == (1, 0)


async def test_an_open_case_is_never_erased_by_the_retention_but_told_so_that_somebody_closes_it(referrals: Referrals) -> None:
    referral_id = await contacted(referrals)
    await age(referrals, referral_id, 800)
    async with referrals.runtime.database.transaction() as session:
        await session.execute(text("UPDATE moves SET at = at - interval '800 days'"))

    told = await housekeeping.retain(referrals.runtime, 730, dry_run=True)
    done = await housekeeping.retain(referrals.runtime, 730, dry_run=False)
    await end_retention(referrals.runtime)

    assert told.startswith("0 saisine(s) seraient effacées")
    for sentence in (told, done):
        assert f"{referral_id} (département 95)" in sentence
    assert {row.status for row in await referrals.rows("SELECT status FROM referrals")} == {"accepted"}


async def test_a_dry_run_counts_and_changes_nothing(referrals: Referrals) -> None:
    referral_id = await contacted(referrals)
    await age(referrals, referral_id, 800)
    await close(referrals, referral_id)
    tables = ("referrals", "persons", "vault_keys", "outbox")
    before = await referrals.snapshot(*tables)

    sentence = await housekeeping.retain(referrals.runtime, 730, dry_run=True)

    assert sentence.startswith("1 saisine(s) seraient effacées")
    assert await referrals.snapshot(*tables) == before
    async with referrals.runtime.database.transaction() as session:
        assert await retention.due(session, datetime.now(UTC) - timedelta(days=100), 730) == 0
    assert await housekeeping.retain(referrals.runtime, 730, dry_run=False) == "1 saisine(s) effacée(s)."


# A backup from before an erasure


async def test_what_a_restored_backup_brought_back_is_erased_again_out_of_the_log(
    referrals: Referrals, capsys: pytest.CaptureFixture[str]
) -> None:
    referral_id = await referrals.receive()
    tables = ("referrals", "vault_keys", "persons")
    async with referrals.runtime.database.transaction() as session:
        for table in tables:
            await session.execute(text(f"CREATE TABLE backup_{table} AS TABLE {table}"))
    capsys.readouterr()
    await erase(referrals, referral_id, await referrals.persons(referral_id), ErasureCause.REQUEST)
    log = capsys.readouterr().out.splitlines()
    assert await living_keys(referrals) == 0
    async with referrals.runtime.database.transaction() as session:
        await session.execute(text("TRUNCATE referrals, persons, vault_keys, erasures CASCADE"))
        for table in tables:
            await session.execute(text(f"INSERT INTO {table} TABLE backup_{table}"))
    assert await living_keys(referrals) == 3

    done = await housekeeping.erase_again(referrals.runtime, housekeeping.erased_in([*log, '{"erasure.done" cut', "another line"]))

    assert (done, await living_keys(referrals)) == (1, 0)
    assert await housekeeping.erase_again(referrals.runtime, housekeeping.erased_in(log)) == 0

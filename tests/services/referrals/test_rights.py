"""The rights of persons: erasing on request, who has acted on it, the end of the retention, and a restored backup."""

import asyncio
import json
import os
import sys
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import text

from libs.chassis import relay
from libs.chassis.settings import Settings as ChassisSettings
from libs.chassis.worker import purge_streams
from libs.contracts import demonstration as d
from libs.contracts.types import civil_day
from libs.embedded.postgres import Postgres
from services.referrals import housekeeping
from services.referrals.app import end_retention, look_at_erasures
from services.referrals.rights import retention
from services.referrals.rights.domain import Term
from services.referrals.rights.erasure import ErasureCause
from services.referrals.settings import Settings
from tests.services.referrals.conftest import Referrals
from tests.services.referrals.test_erasure import erase, living_keys

OURS = ("partners", "funding", "reporting")
ROOT = Path(__file__).parents[3]


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


async def test_an_erasure_names_the_duplicates_in_which_the_same_person_is_still_held(referrals: Referrals) -> None:
    original, first, second = [await referrals.accepted() for _ in range(3)]
    for twice in (first, second):
        named = await referrals.move("iscg-95", twice, "close", {"reason": "duplicate", "duplicate_of": str(original)})
        assert named.status_code == 200, named.text

    answers = [await ask(referrals, one, await referrals.persons(one)) for one in (original, second, first)]
    late = await referrals.move("iscg-95", await referrals.accepted(), "close", {"reason": "duplicate", "duplicate_of": str(original)})

    assert [answer.json()["still_held_in"] for answer in answers] == [[str(first), str(second)], [str(first)], []]
    assert (late.status_code, late.json()["type"].rpartition("/")[2]) == (422, "unknown-original"), "an erased referral is no original"


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


TERM = Term(days=730, notice_days=14)


async def announced(referrals: Referrals, days: int = 15) -> None:
    """The nightly job looked, and so many days went by."""
    await end_retention(referrals.runtime)
    async with referrals.runtime.database.transaction() as session:
        await session.execute(text("UPDATE announced_ends SET announced_at = announced_at - make_interval(days => :days)"), {"days": days})


async def statuses(referrals: Referrals) -> dict[UUID, str]:
    return {row.id: row.status for row in await referrals.rows("SELECT id, status FROM referrals")}


async def old(referrals: Referrals, days: int = 800) -> UUID:
    """Closed, and last contacted so long ago."""
    referral_id = await contacted(referrals)
    await age(referrals, referral_id, days)
    await close(referrals, referral_id)
    return referral_id


async def contacted(referrals: Referrals) -> UUID:
    referral_id = await referrals.accepted()
    [victim, _] = await referrals.persons(referral_id)
    call = {"person_id": victim, "mode": "phone", "result": "reached", "attempted_at": "2026-11-23T09:30:00Z"}
    assert (await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/contacts", call)).status_code == 201
    return referral_id


async def test_two_years_after_the_last_contact_everything_sealed_is_erased_and_not_before(referrals: Referrals) -> None:
    ended, contacted_since, fresh = await contacted(referrals), await contacted(referrals), await referrals.receive()
    await age(referrals, ended, 800, 731)
    await age(referrals, contacted_since, 800, 729)
    await close(referrals, ended, contacted_since)
    await announced(referrals)

    await end_retention(referrals.runtime)

    assert await statuses(referrals) == {ended: "erased", contacted_since: "closed", fresh: "assigned"}
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
        await retention.announce(session, datetime.now(UTC) - timedelta(days=20), TERM)
        before = await retention.due(session, datetime.now(UTC), TERM)
        await session.execute(text(activity))
        after = await retention.due(session, datetime.now(UTC), TERM)

    assert (before, after) == (1, 0)


async def test_the_retention_of_who_joined_today_does_not_end_with_that_of_the_others(referrals: Referrals) -> None:
    referral_id = await old(referrals, days=725)
    joins = {"reason": "learned", "added": [{"role": "victim", "sex": "male", "agreement": "not_asked"}]}
    assert (await referrals.move("coordinator-95", referral_id, "corrections", joins)).status_code == 201
    await age(referrals, referral_id, 800)

    async with referrals.runtime.database.transaction() as session:
        last = await retention.last_contact(session, referral_id)
    await announced(referrals)
    await end_retention(referrals.runtime)

    assert last > datetime.now(UTC) - timedelta(minutes=5)
    assert await statuses(referrals) == {referral_id: "closed"}


async def test_an_open_case_is_never_erased_by_the_retention_but_told_so_that_somebody_closes_it(referrals: Referrals) -> None:
    referral_id = await contacted(referrals)
    await age(referrals, referral_id, 800)
    async with referrals.runtime.database.transaction() as session:
        await session.execute(text("UPDATE moves SET at = at - interval '800 days'"))

    told = await housekeeping.retain(referrals.runtime, TERM, dry_run=True)
    done = await housekeeping.retain(referrals.runtime, TERM, dry_run=False)
    await end_retention(referrals.runtime)

    assert told.startswith("0 saisine(s) seraient effacées")
    for sentence in (told, done):
        assert f"{referral_id} (département 95)" in sentence
    assert {row.status for row in await referrals.rows("SELECT status FROM referrals")} == {"accepted"}


async def test_a_dry_run_announces_and_changes_nothing_else(referrals: Referrals) -> None:
    referral_id = await old(referrals)
    tables = ("referrals", "persons", "vault_keys", "outbox")
    before = await referrals.snapshot(*tables)

    first = await housekeeping.retain(referrals.runtime, TERM, dry_run=True)
    await announced(referrals)
    second = await housekeeping.retain(referrals.runtime, TERM, dry_run=True)

    assert first.startswith("0 saisine(s) seraient effacées")
    assert "1 saisine(s) annoncée(s) maintenant" in first
    assert second.startswith("1 saisine(s) seraient effacées")
    assert await referrals.snapshot(*tables) == before
    assert await statuses(referrals) == {referral_id: "closed"}
    assert (await housekeeping.retain(referrals.runtime, TERM, dry_run=False)).startswith("1 saisine(s) effacée(s).")


async def test_the_command_finds_the_house_of_make_run_and_says_so_when_none_runs(
    postgres: Postgres, templates: dict[str, str], informed: str, tmp_path: Path
) -> None:
    """In another terminal, with no setting but, where it is elsewhere, the data folder."""

    async def types(folder: Path, *arguments: str) -> tuple[int | None, str, str]:
        bare = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        program = [sys.executable, "-m", "services.referrals", *arguments]
        pipes: dict[str, Any] = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE}
        done = await asyncio.create_subprocess_exec(*program, cwd=ROOT, env=bare | {"MAILLON_DATA": str(folder)}, **pipes)
        out, err = await done.communicate()
        return done.returncode, out.decode(), err.decode()

    house = postgres.folder.parent
    nowhere = await types(tmp_path, "retention", "--dry-run")
    without = await types(house, "retention", "--dry-run")
    postgres.create_database("referrals", template=templates[informed])
    try:
        tried = await types(house, "retention", "--dry-run")
    finally:
        postgres.drop_database("referrals")

    assert (nowhere[0], "MAILLON_DATA" in nowhere[2]) == (2, True)
    assert (without[0], without[2].count("\n")) == (3, 1), without[2]
    assert (tried[0], tried[2]) == (0, "")
    assert tried[1].startswith("0 saisine(s) seraient effacées")


async def test_the_retention_erases_nothing_that_was_not_announced_long_enough_before(referrals: Referrals) -> None:
    referral_id = await old(referrals)

    by_command = await housekeeping.retain(referrals.runtime, TERM, dry_run=False)
    await end_retention(referrals.runtime)
    await announced(referrals, days=13)
    await end_retention(referrals.runtime)
    too_early = await statuses(referrals)
    await announced(referrals, days=2)
    await end_retention(referrals.runtime)

    assert by_command.startswith("0 saisine(s) effacée(s).")
    assert too_early == {referral_id: "closed"}
    assert await statuses(referrals) == {referral_id: "erased"}
    assert await referrals.rows("SELECT 1 FROM announced_ends") == []


async def test_it_is_announced_before_the_end_so_that_it_is_erased_on_its_day(referrals: Referrals) -> None:
    ending, later = await old(referrals, 720), await old(referrals, 700)

    await end_retention(referrals.runtime)

    [one] = (await referrals.get("coordinator-95", "/v1/announced-ends")).json()["items"]
    assert (one["referral_id"], one["departement"]) == (str(ending), "95")
    assert one["erased_from"] == civil_day(datetime.now(UTC) + timedelta(days=14)).isoformat()  # announced for 14 days; the term ends in 10
    assert (await referrals.get("coordinator-78", "/v1/announced-ends")).json()["items"] == []
    assert (await referrals.get("auditor", "/v1/announced-ends")).json()["items"] == [one]
    assert (await referrals.get("iscg-95", "/v1/announced-ends")).status_code == 403
    assert later in await statuses(referrals)


async def test_the_announced_ends_are_read_by_pages(referrals: Referrals) -> None:
    ids = sorted([str(await old(referrals)) for _ in range(3)])
    await end_retention(referrals.runtime)

    first = (await referrals.get("coordinator-95", "/v1/announced-ends", limit=2)).json()
    second = (await referrals.get("coordinator-95", "/v1/announced-ends", limit=2, cursor=first["next"])).json()

    assert [one["referral_id"] for one in first["items"] + second["items"]] == ids
    assert second["next"] is None


def test_no_setting_of_ours_gives_another_meaning_to_one_of_the_chassis() -> None:
    """RETENTION_DAYS is how long events are kept: set to a month for the topics, it must not erase persons after a month."""
    assert vars(Settings)["__annotations__"].keys() & ChassisSettings.model_fields.keys() == set()


async def test_events_are_kept_a_month_however_long_what_is_sealed_is_kept(referrals: Referrals) -> None:
    await referrals.receive()
    await stamp(referrals)
    async with referrals.runtime.database.transaction() as session:
        await session.execute(text("UPDATE stream_events SET recorded_at = now() - interval '31 days'"))
        await session.execute(text("UPDATE streams SET sent_sequence = sequence"))

    await purge_streams(referrals.runtime)

    assert await referrals.rows("SELECT 1 FROM stream_events WHERE stream <> 'audit'") == []


@pytest.mark.parametrize("looked_at_meanwhile", [True, False])
async def test_what_was_reopened_since_it_was_announced_is_announced_anew(referrals: Referrals, looked_at_meanwhile: bool) -> None:
    """Years later its announcement must not count for another end."""
    referral_id = await old(referrals)
    await announced(referrals, days=300)
    assert (await referrals.move("iscg-95", referral_id, "reopen")).status_code == 200
    assert (await referrals.move("iscg-95", referral_id, "close", {"reason": "completed"})).status_code == 200
    if looked_at_meanwhile:
        await end_retention(referrals.runtime)
        assert (await referrals.get("coordinator-95", "/v1/announced-ends")).json()["items"] == []
    async with referrals.runtime.database.transaction() as session:
        await session.execute(text("UPDATE moves SET at = at - interval '731 days' WHERE move = 'reopen'"))

    await end_retention(referrals.runtime)

    assert await statuses(referrals) == {referral_id: "closed"}
    [one] = (await referrals.get("coordinator-95", "/v1/announced-ends")).json()["items"]
    assert one["announced_at"] > (datetime.now(UTC) - timedelta(days=1)).isoformat()


async def test_a_term_that_was_raised_takes_its_announcements_back(referrals: Referrals) -> None:
    await old(referrals)
    await end_retention(referrals.runtime)

    await housekeeping.retain(referrals.runtime, Term(days=1000, notice_days=14), dry_run=True)

    assert await referrals.rows("SELECT 1 FROM announced_ends") == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["retention", "--dryrun"],
        ["retention", "--dry"],
        ["retention", "dry-run"],
        ["retention", "--help"],
        ["retention", "-n"],
        ["erase-again"],
        ["erase-again", "--dry-run", "service.log"],
    ],
)
def test_a_command_line_that_is_not_understood_erases_nothing(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[object] = []

    async def run(*asked: object) -> str:
        ran.append(asked)
        return ""

    monkeypatch.setattr(housekeeping, "_run", run)
    monkeypatch.setattr(Settings, "load", lambda **_: None)

    with pytest.raises(SystemExit) as ended:
        housekeeping.run_and_exit(arguments)

    assert ran == []
    assert ended.value.code == (0 if "--help" in arguments else 2)
    assert "usage:" in "".join(capsys.readouterr())


# A backup from before an erasure


async def test_what_a_restored_backup_brought_back_is_erased_again_out_of_the_log(referrals: Referrals, erasures_logged: StringIO) -> None:
    referral_id = await referrals.receive()
    tables = ("referrals", "vault_keys", "persons")
    async with referrals.runtime.database.transaction() as session:
        for table in tables:
            await session.execute(text(f"CREATE TABLE backup_{table} AS TABLE {table}"))
    await erase(referrals, referral_id, await referrals.persons(referral_id), ErasureCause.REQUEST)
    log = erasures_logged.getvalue().splitlines()
    assert await living_keys(referrals) == 0
    async with referrals.runtime.database.transaction() as session:
        await session.execute(text("TRUNCATE referrals, persons, vault_keys, erasures CASCADE"))
        for table in tables:
            await session.execute(text(f"INSERT INTO {table} TABLE backup_{table}"))
    assert await living_keys(referrals) == 3

    done = await housekeeping.erase_again(referrals.runtime, housekeeping.erased_in([*log, '{"erasure.done" cut', "another line"]))

    assert (done, await living_keys(referrals)) == (1, 0)
    assert await housekeeping.erase_again(referrals.runtime, housekeeping.erased_in(log)) == 0

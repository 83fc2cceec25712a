"""The `maillon` command: what it says, in French, and the code it ends with. On a real database, and a real server in a thread."""

import asyncio
import json
import os
import threading
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import uvicorn
from joserfc.jwk import ECKey
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from structlog.testing import capture_logs
from typer.testing import CliRunner, Result

from libs.chassis import audit as log
from libs.chassis import cli, streams
from libs.chassis.audit import audit
from libs.chassis.database import Database
from libs.chassis.here import environment_here
from libs.chassis.security import Principal
from libs.chassis.signing import Signer
from libs.chassis.vault import Vault
from libs.client.cli import app
from libs.contracts.vocabularies import Purpose, Role
from libs.embedded.issuer import create_app as create_issuer
from libs.embedded.postgres import Postgres
from tests.chassis.serving import served
from tests.chassis.signing import archived, process
from tests.chassis.speaking import database as speaking_database
from tests.chassis.speaking import fact, say, stamp_all
from tests.planted import red

T = TypeVar("T")

KEY = ECKey.generate_key("P-256").as_dict(private=True)
SIGNER = Signer(KEY)
OLD, NEW = b"o" * 32, b"n" * 32
WORKER = Principal("iscg-95", "iscg-95", Role.ISCG, None, frozenset(), frozenset())


class Operator:
    """Somebody at a terminal, with the settings of one service."""

    def __init__(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.url = url
        self._monkeypatch = monkeypatch
        self.sets(MAILLON_ENVIRONMENT="development", PARTNERS_DATABASE_URL=url, SIGNING_KEY=json.dumps(KEY))

    def sets(self, **variables: str) -> None:
        for name, value in variables.items():
            self._monkeypatch.setenv(name, value)

    def unsets(self, *names: str) -> None:
        for name in names:
            self._monkeypatch.delenv(name, raising=False)

    def types(self, *arguments: str, answering: str | None = None) -> Result:
        return CliRunner().invoke(app, list(arguments), input=answering)

    def does(self, work: Callable[[Database], Awaitable[T]]) -> T:
        async def run() -> T:
            database = speaking_database(self.url)
            try:
                return await work(database)
            finally:
                await database.close()

        return asyncio.run(run())

    def executes(self, *statements: str) -> None:
        async def work(database: Database) -> None:
            async with database.transaction() as session:
                for statement in statements:
                    await session.execute(text(statement))

        self.does(work)

    def reads_cases(self, count: int) -> None:
        async def work(database: Database) -> None:
            async with database.transaction() as session:
                for _ in range(count):
                    await audit(session, WORKER, operation="read_referral", subject=f"referrals/{uuid4()}", purpose=Purpose.FOLLOW_UP)
            await stamp_all(database)

        self.does(work)

    def says(self, count: int) -> None:
        async def work(database: Database) -> None:
            await say(database, *(fact() for _ in range(count)))
            await stamp_all(database)

        self.does(work)

    def signs(self) -> str:
        """What a turn of the job writes into the service's log."""

        async def turn(database: Database) -> str:
            return await archived(process(database, SIGNER))

        return self.does(turn)


@pytest.fixture
def operator(database_url: Callable[[str | None], str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Operator:
    monkeypatch.setenv("MAILLON_DATA", str(tmp_path / "none"))
    return Operator(database_url(None), monkeypatch)


# audit verify


def test_an_intact_log_is_said_to_be_so(operator: Operator) -> None:
    operator.reads_cases(4)
    jws = operator.types("audit", "checkpoint", "--service", "partners").stdout.strip()

    said = operator.types("audit", "verify", "--service", "partners", "--checkpoint", jws)

    assert said.exit_code == 0, said.output
    assert "est intact : 4 entrées" in said.stdout
    assert "Un point de contrôle gardé hors de la base atteste la dernière entrée" in said.stdout


ALONE = "rien d'extérieur à la base n'a été comparé"


def test_the_command_says_how_far_it_was_vouched_for_and_by_whom(operator: Operator, tmp_path: Path) -> None:
    def verify(*more: str) -> str:
        said = operator.types("audit", "verify", "--service", "partners", *more)
        assert said.exit_code == 0, said.output
        return said.stdout

    archive = tmp_path / "partners.log"
    operator.reads_cases(2)
    by_nobody = verify()
    archive.write_text(operator.signs() * 2)
    by_the_database = verify()
    operator.reads_cases(1)
    partly = verify("--archive", str(archive))
    operator.signs()
    by_both = verify("--archive", str(archive))

    assert "0 gardés hors de la base, 0 de la base seule" in by_nobody
    assert ALONE in by_nobody
    assert "seul leur enchaînement est prouvé" in by_nobody
    assert "0 gardés hors de la base, 1 de la base seule" in by_the_database
    assert ALONE in by_the_database, "the word of the database alone is taken for a proof"
    assert "Un point de contrôle de la base seule atteste la dernière entrée" in by_the_database
    assert "1 gardés hors de la base, 0 de la base seule" in partly
    assert "gardé hors de la base atteste les entrées jusqu'au n° 2" in partly
    assert "prouvées par l'enchaînement seul" in partly
    assert "1 gardés hors de la base, 1 de la base seule" in by_both
    assert "gardé hors de la base atteste les entrées jusqu'au n° 2" in by_both
    assert "de la base seule atteste la dernière entrée" in by_both
    assert not any(ALONE in said for said in (partly, by_both))


def test_a_log_that_seems_whole_or_empty_without_a_word_from_outside_is_said_with_a_warning(operator: Operator) -> None:
    """Cut with the checkpoints that told of the end, the earlier one left; then emptied."""
    operator.reads_cases(2)
    operator.signs()
    operator.reads_cases(2)
    operator.signs()

    for statements, seems in ((CUT_AT_TWO, "est intact : 2 entrées"), (EMPTIED, "est vide")):
        operator.executes(*statements)
        said = operator.types("audit", "verify", "--service", "partners")
        assert (said.exit_code, seems in said.stdout) == (0, True)
        assert ALONE in said.stdout, "the word of the database alone is taken for a proof"


def test_planted_a_report_that_does_not_say_whose_word_it_is_is_seen(
    operator: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rightly = cli._report_vouched
    monkeypatch.setattr(cli, "_report_vouched", lambda seen: rightly(replace(seen, compared_outside=seen.compared_outside + 1)))

    with red("the word of the database alone is taken for a proof"):
        test_a_log_that_seems_whole_or_empty_without_a_word_from_outside_is_said_with_a_warning(operator)


def test_an_archive_without_a_checkpoint_of_the_service_ends_with_code_2(operator: Operator, tmp_path: Path) -> None:
    operator.reads_cases(2)
    own, quiet, anothers = (tmp_path / name for name in ("own.log", "quiet.log", "funding.log"))
    own.write_text(operator.signs())
    quiet.write_text('{"event": "request"}\n')
    anothers.write_text(own.read_text().replace("partners", "funding"))

    for archives in ([quiet], [anothers], [Path("/dev/null")], [quiet, anothers]):
        said = operator.types("audit", "verify", "--service", "partners", *(word for one in archives for word in ("--archive", str(one))))
        assert (said.exit_code, "aucun point de contrôle du service partners" in said.stderr) == (2, True)
        assert "est intact" not in said.stdout
    said = operator.types("audit", "verify", "--service", "partners", "--archive", str(quiet), "--archive", str(own))
    assert (said.exit_code, f"{quiet} ne contient aucun" in said.stderr) == (0, True)


TAMPERINGS = {
    "edit": ('UPDATE stream_events SET data = \'{"actor":"x"}\' WHERE sequence = 2', "L'entrée n° 2"),
    "delete": ("DELETE FROM stream_events WHERE sequence = 2", "Des entrées manquent"),
    "reorder": (
        "UPDATE stream_events a SET data = b.data FROM stream_events b"
        " WHERE (a.sequence = 2 AND b.sequence = 3) OR (a.sequence = 3 AND b.sequence = 2)",
        "déplacée",
    ),
    "truncate": ("DELETE FROM stream_events WHERE sequence >= 3", "La fin manque"),
    "behead": ("DELETE FROM stream_events WHERE sequence = 1", "Des entrées manquent"),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_a_tampered_log_ends_with_code_1_after(name: str, operator: Operator) -> None:
    operator.reads_cases(4)
    statement, sentence = TAMPERINGS[name]
    operator.executes(statement)

    said = operator.types("audit", "verify", "--service", "partners")

    assert said.exit_code == 1
    assert sentence in said.stdout
    assert "N'EST PAS INTACT" in said.stdout


def test_a_log_beheaded_as_if_its_time_were_over_ends_with_code_1(operator: Operator) -> None:
    operator.reads_cases(2)
    assert operator.types("audit", "checkpoint", "--service", "partners").exit_code == 0
    operator.reads_cases(2)
    operator.executes(
        "WITH gone AS (SELECT digest FROM stream_events WHERE stream = 'audit' AND sequence = 3)"
        " UPDATE streams SET purged_sequence = 3, purged_digest = gone.digest FROM gone WHERE stream = 'audit'",
        "DELETE FROM stream_events WHERE stream = 'audit' AND sequence <= 3",
    )

    said = operator.types("audit", "verify", "--service", "partners")

    assert said.exit_code == 1
    assert "Le début manque" in said.stdout


def test_an_auditor_needs_the_published_keys_and_the_archive_only(operator: Operator, tmp_path: Path) -> None:
    operator.reads_cases(4)
    archive, keys = tmp_path / "partners.log", tmp_path / "keys.json"
    other = {"event": "request", "note": "audit.checkpoint"}
    archive.write_text("\n".join(["not json", '{"event": "audit.checkpoint", "source', json.dumps(other), operator.signs()]))
    keys.write_text(json.dumps(SIGNER.public_jwks()))
    operator.unsets("SIGNING_KEY")
    command = ("audit", "verify", "--service", "partners", "--archive", str(archive), "--keys", str(keys))

    honest = operator.types(*command)
    operator.executes(
        "DELETE FROM stream_checkpoints",
        "DELETE FROM stream_events WHERE sequence > 2",
        "UPDATE streams SET sequence = 2, digest = (SELECT digest FROM stream_events WHERE sequence = 2)",
    )
    forged = operator.types(*command)

    assert honest.exit_code == 0, honest.output
    assert (forged.exit_code, "La fin manque" in forged.stdout) == (1, True)


JUNK = (
    "INSERT INTO stream_checkpoints (stream, epoch, sequence, digest, jws, at)"
    " SELECT 'audit', epoch, number, '\\x00', 'x', now() FROM generate_series(1, 50) number, generate_series(1, 3) epoch"
)
CUT_AT_TWO = (
    "DELETE FROM stream_checkpoints WHERE sequence > 2 OR jws = 'x'",
    "DELETE FROM stream_events WHERE sequence > 2",
    "UPDATE streams SET sequence = 2, digest = (SELECT digest FROM stream_events WHERE sequence = 2)",
)
EMPTIED = ("DELETE FROM stream_checkpoints", "DELETE FROM stream_events", "DELETE FROM streams")
CUTS = {"cut": CUT_AT_TWO, "emptied": EMPTIED}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("before", ["junk", "by hand", "both"])
def test_nothing_that_lies_in_the_database_keeps_a_head_from_the_archive(operator: Operator, tmp_path: Path, before: str, cut: str) -> None:
    """Who administers the database fills the places of the checkpoints to come, and later cuts the log; or somebody signs by hand first."""
    if before != "by hand":
        operator.executes(JUNK)
    operator.reads_cases(4)
    if before != "junk":
        operator.types("audit", "checkpoint", "--service", "partners")
    archive = tmp_path / "partners.log"
    archive.write_text(operator.signs())
    operator.executes(*CUTS[cut])

    said = operator.types("audit", "verify", "--service", "partners", "--archive", str(archive))

    assert (said.exit_code, "La fin manque" in said.stdout) == (1, True), "the log was cut and nobody knows"


@pytest.mark.parametrize("cut", CUTS)
def test_planted_heads_that_are_signed_only_where_the_database_has_room_are_missed(
    operator: Operator, tmp_path: Path, cut: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rightly = log.checkpoint

    async def where_there_is_room(session: AsyncSession, signer: Signer, source: str, stream: str = streams.AUDIT) -> log.Signed | None:
        signed = await rightly(session, signer, source, stream)
        taken = await session.scalar(text("SELECT true FROM stream_checkpoints c JOIN streams h USING (stream, epoch, sequence)"))
        return None if taken else signed

    monkeypatch.setattr(log, "checkpoint", where_there_is_room)

    with red("the log was cut and nobody knows"):
        test_nothing_that_lies_in_the_database_keeps_a_head_from_the_archive(operator, tmp_path, "junk", cut)


def test_a_place_taken_by_something_else_is_said_by_hand_too(operator: Operator) -> None:
    operator.executes(JUNK)
    operator.reads_cases(4)

    said = operator.types("audit", "checkpoint", "--service", "partners")

    assert said.exit_code == 1
    assert "autre chose que ce qui a été signé" in said.stderr
    assert said.stdout.count(".") == 2  # the signature is given all the same


@pytest.mark.parametrize(
    ("arguments", "unset", "sentence"),
    [
        (["--service", "partners", "--checkpoint", "a.b.c"], [], "n'est pas signé par ces clés"),
        (["--service", "partners"], ["SIGNING_KEY"], "SIGNING_KEY manque"),
        (["--service", "partners"], ["PARTNERS_DATABASE_URL"], "PARTNERS_DATABASE_URL manque"),
        (["--service", "no such thing"], [], "Un service s'appelle"),
        (["--service", "elsewhere"], [], "Un service s'appelle"),
        (["--service", "partners", "--keys", "/nowhere"], [], "ne contient pas de clés"),
        (["--service", "partners", "--archive", "/nowhere"], [], "archive"),
    ],
)
def test_what_is_missing_is_said_with_code_2(operator: Operator, arguments: list[str], unset: list[str], sentence: str) -> None:
    operator.unsets(*unset)

    said = operator.types("audit", "verify", *arguments)

    assert said.exit_code == 2
    assert sentence in said.stderr
    assert str(KEY["d"]) not in said.output


@pytest.mark.parametrize("database", ["empty", "away"])
def test_a_database_that_does_not_answer_is_said_with_code_3(operator: Operator, postgres: Postgres, database: str) -> None:
    if database == "empty":
        operator.sets(PARTNERS_DATABASE_URL=postgres.url("postgres"))
    else:
        operator.sets(PARTNERS_DATABASE_URL="postgresql://nobody@127.0.0.1:9/nothing")

    for command in (("audit", "verify"), ("audit", "checkpoint"), ("streams", "verify")):
        said = operator.types(*command, "--service", "partners")
        assert said.exit_code == 3, said.output
        assert ("n'est pas préparée" if database == "empty" else "ne répond pas") in said.stderr


def test_production_refuses_the_secrets_of_the_embedded_default(operator: Operator) -> None:
    operator.sets(MAILLON_ENVIRONMENT="production", SIGNING_KEY=json.dumps(KEY | {"kid": "maillon-development-partners"}))

    said = operator.types("audit", "verify", "--service", "partners")

    assert said.exit_code == 2
    assert "secret de démonstration" in said.stderr


# streams


def test_every_stream_is_verified(operator: Operator) -> None:
    operator.says(3)
    operator.reads_cases(1)

    intact = operator.types("streams", "verify", "--service", "partners")
    operator.executes("UPDATE stream_events SET data = '{}' WHERE stream = 'departement:95' AND sequence = 3")
    broken = operator.types("streams", "verify", "--service", "partners")
    alone = operator.types("streams", "verify", "--service", "partners", "--stream", "internal")

    assert intact.exit_code == 0
    assert [name in intact.stdout for name in ("« internal »", "« departement:95 »", "« audit »")] == [True] * 3
    assert broken.exit_code == 1
    assert "Le flux « departement:95 » de partners N'EST PAS INTACT" in broken.stdout
    assert alone.exit_code == 0


def test_a_new_epoch_is_opened_on_confirmation_and_leaves_an_audit_entry(operator: Operator) -> None:
    operator.says(3)
    command = ("streams", "new-epoch", "--service", "partners", "--reason", "restauration du 24 novembre")

    declined = operator.types(*command, answering="n\n")
    opened = operator.types(*command, answering="y\n")

    async def look(database: Database) -> tuple[int, str, list[str]]:
        await stamp_all(database)
        async with database.transaction() as session:
            epoch = await session.scalar(text("SELECT epoch FROM streams WHERE stream = 'internal'"))
            reason = await session.scalar(text("SELECT reason FROM stream_epochs WHERE stream = 'internal'"))
            entries = [
                bytes(data).decode() for data in await session.scalars(text("SELECT data FROM stream_events WHERE stream = 'audit'"))
            ]
        return int(epoch or 0), str(reason), entries

    epoch, reason, entries = operator.does(look)
    assert (declined.exit_code, opened.exit_code) == (1, 0)
    assert "internal : époque 2, dernier numéro valable 3." in opened.stdout
    assert (epoch, reason) == (2, "restauration du 24 novembre")
    assert len(entries) == 1
    assert "open_epoch" in entries[0]
    assert operator.types("streams", "verify", "--service", "partners").exit_code == 0


@pytest.mark.parametrize("reason", ["", "abc", "x" * 501, "deux\nlignes"])
def test_a_new_epoch_wants_a_reason(operator: Operator, reason: str) -> None:
    said = operator.types("streams", "new-epoch", "--service", "partners", "--reason", reason, "--yes")

    assert said.exit_code == 2


# vault


def vault_keys(**keys: bytes) -> str:
    return json.dumps({name: b64encode(key).decode() for name, key in keys.items()})


def test_the_vault_key_is_changed_and_the_old_one_may_go(operator: Operator) -> None:
    operator.does(_thirty_keys)
    operator.sets(VAULT_KEYS=vault_keys(old=OLD, new=NEW), VAULT_ACTIVE_KEY="new")

    said = operator.types("vault", "rewrap", "--service", "partners", "--batch", "7")
    again = operator.types("vault", "rewrap", "--service", "partners")

    assert said.exit_code == 0, said.output
    assert "30 clés de données protégées à nouveau par « new »" in said.stdout
    assert "peuvent quitter VAULT_KEYS" in said.stdout
    assert "0 clés de données" in again.stdout


async def _thirty_keys(database: Database) -> None:
    async with database.transaction() as session:
        await Vault({"old": OLD}, "old").new_keys(session, ["person"] * 30)


@pytest.mark.parametrize(
    ("settings", "code", "sentence"),
    [
        ({}, 2, "VAULT_KEYS et VAULT_ACTIVE_KEY manquent"),
        ({"VAULT_KEYS": vault_keys(new=NEW), "VAULT_ACTIVE_KEY": "new"}, 1, "'old'"),
        ({"VAULT_KEYS": vault_keys(new=NEW), "VAULT_ACTIVE_KEY": "other"}, 2, "doit nommer une des clés"),
    ],
)
def test_a_vault_that_cannot_be_opened_is_said(operator: Operator, settings: dict[str, str], code: int, sentence: str) -> None:
    operator.does(_thirty_keys)
    operator.sets(**settings)

    said = operator.types("vault", "rewrap", "--service", "partners")

    assert said.exit_code == code
    assert sentence in said.stderr
    assert b64encode(NEW).decode() not in said.output


# Over HTTP


@pytest.fixture
def live(operator: Operator, database_url: Callable[[str | None], str]) -> Iterator[Operator]:
    """A service of the chassis and an issuer, on ports of their own."""
    started, ending = threading.Event(), threading.Event()
    ports: list[int] = []

    async def serve() -> None:
        async with served(operator.url) as house:
            apps = [house.client._transport.app, create_issuer(house.issuer)]  # type: ignore[attr-defined]  # it is an ASGITransport
            servers = [uvicorn.Server(uvicorn.Config(one, port=0, log_config=None, lifespan="off")) for one in apps]
            running = [asyncio.create_task(server._serve()) for server in servers]
            while not all(server.started for server in servers):  # noqa: ASYNC110  # uvicorn has no event for it
                await asyncio.sleep(0.02)
            ports.extend(server.servers[0].sockets[0].getsockname()[1] for server in servers)
            started.set()
            await asyncio.to_thread(ending.wait)
            for server in servers:
                server.should_exit = True
            await asyncio.gather(*running)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert started.wait(120)
    operator.sets(MAILLON_PARTNERS_URL=f"http://127.0.0.1:{ports[0]}", MAILLON_TOKEN_URL=f"http://127.0.0.1:{ports[1]}/token")
    with capture_logs():  # the server's log lines are not what the command prints
        yield operator
    ending.set()
    thread.join(120)


def follow(operator: Operator, *more: str) -> Result:
    return operator.types("events", "follow", "--service", "partners", "--once", *more)


def test_a_stream_is_followed_line_by_line(live: Operator) -> None:
    live.says(3)

    lines = follow(live, "--after", "0").stdout.splitlines()
    later = follow(live, "--after", "2").stdout.splitlines()
    from_now = follow(live)
    events = [json.loads(line) for line in follow(live, "--after", "0", "--json").stdout.splitlines()]

    assert [line.split()[0] for line in lines] == ["1", "2", "3"]
    assert "fr.maillon.unit.closed.v1" in lines[0]
    assert [line.split()[0] for line in later] == ["3"]
    assert (from_now.exit_code, from_now.stdout) == (0, "")
    assert [event["sequence"] for event in events] == ["1", "2", "3"]


def test_a_follower_with_a_cursor_file_goes_on_where_it_was(live: Operator, tmp_path: Path) -> None:
    cursor = str(tmp_path / "cursor")
    live.says(2)

    first = follow(live, "--after", "0", "--cursor", cursor)
    live.says(1)
    second = follow(live, "--cursor", cursor)
    other = follow(live, "--cursor", cursor, "--stream", "departement:95")

    assert [line.split()[0] for line in first.stdout.splitlines()] == ["1", "2"]
    assert [line.split()[0] for line in second.stdout.splitlines()] == ["3"]
    assert other.exit_code == 2


def test_a_cursor_of_another_database_stops_the_command_not_the_service(live: Operator, tmp_path: Path) -> None:
    cursor = tmp_path / "cursor"
    live.says(2)
    follow(live, "--after", "0", "--cursor", str(cursor))
    kept = json.loads(cursor.read_text())

    for forged in (kept | {"sequence": 99}, kept | {"digest": "00" * 32}, kept | {"epoch": 7}):
        cursor.write_text(json.dumps(forged))
        said = follow(live, "--cursor", str(cursor))
        assert said.exit_code == 1
        assert "n'est pas dans l'historique" in said.stderr

    async def heads(database: Database) -> list[streams.Head]:
        async with database.transaction() as session:
            return await streams.heads(session)

    assert all(head.diverged_reason is None for head in live.does(heads))


def test_a_broken_stream_ends_with_a_sentence_and_code_1(live: Operator) -> None:
    live.says(3)
    live.executes("UPDATE stream_events SET data = '{}' WHERE sequence = 2")

    said = follow(live, "--after", "0")

    assert said.exit_code == 1
    assert "N'EST PAS INTACT" in said.stderr


def test_a_restored_service_is_said_and_followed_on(live: Operator, tmp_path: Path) -> None:
    cursor = str(tmp_path / "cursor")
    live.says(3)
    follow(live, "--after", "0", "--cursor", cursor)
    live.executes(
        "DELETE FROM stream_events WHERE sequence > 2",
        "UPDATE streams s SET sequence = 2, digest = (SELECT digest FROM stream_events e WHERE e.stream = s.stream AND sequence = 2)",
    )
    assert live.types("streams", "new-epoch", "--service", "partners", "--reason", "restauration", "--yes").exit_code == 0
    live.says(1)

    said = follow(live, "--cursor", cursor)

    assert said.exit_code == 0, said.output
    assert "a été restaurée" in said.stderr
    assert [line.split()[0] for line in said.stdout.splitlines()] == ["3"]


def test_parked_events_are_listed_and_a_refusal_is_a_sentence(live: Operator) -> None:
    empty = live.types("dead-letters", "list", "--service", "partners")
    letter = str(uuid4())
    live.executes(
        "INSERT INTO dead_letters (id, projection, source, stream, epoch, sequence, event_id, type, subject, attributes, data, cause, error)"
        f" VALUES ('{letter}', 'copies', 'referrals', 'internal', 1, 7, 'e', 'fr.maillon.x.v1', 'referrals/1', '{{}}', '{{}}', 'failed', 'KeyError')"
    )
    listed = live.types("dead-letters", "list", "--service", "partners")
    replayed = live.types("dead-letters", "replay", letter, "--service", "partners")
    discarded = live.types("dead-letters", "discard", letter, "--service", "partners", "--reason", "x")

    assert (empty.exit_code, empty.stdout) == (0, "Aucun événement n'est mis de côté.\n")
    assert listed.exit_code == 1
    assert f"{letter}  referrals n° 7  fr.maillon.x.v1  referrals/1  failed (KeyError)" in listed.stdout
    assert (replayed.exit_code, "n'existe pas" in replayed.stderr) == (1, True)  # this service listens to nobody
    assert (discarded.exit_code, "/reason : Au moins 5 caractères." in discarded.stderr) == (1, True)


def test_a_service_that_does_not_answer_and_an_unknown_client_are_said(live: Operator) -> None:
    unknown = live.types("dead-letters", "list", "--service", "partners", "--client-id", "nobody")
    away = live.types("dead-letters", "list", "--service", "partners", "--url", "http://127.0.0.1:9")
    nameless = live.types("dead-letters", "list", "--service", "elsewhere")
    tokenless = live.types("dead-letters", "list", "--service", "partners", "--token-url", "http://127.0.0.1:9/token")

    assert (unknown.exit_code, "Aucun jeton" in unknown.stderr) == (1, True)
    assert (away.exit_code, "ne répond pas" in away.stderr) == (1, True)
    assert nameless.exit_code == 2
    assert (tokenless.exit_code, "http://127.0.0.1:9/token" in tokenless.stderr) == (1, True)


def test_the_ports_of_make_run_are_those_of_the_commands(live: Operator, tmp_path: Path) -> None:
    for name, port in (("MAILLON_PARTNERS_URL", "PARTNERS_PORT"), ("MAILLON_TOKEN_URL", "ISSUER_PORT")):
        live.sets(**{port: str(urlsplit(os.environ[name]).port)})
        live.unsets(name)
    file = tmp_path / "communes.csv"
    file.write_text("not a list of communes")

    assert live.types("dead-letters", "list", "--service", "partners").exit_code == 0
    assert "La première ligne doit nommer les colonnes" in live.types("import", "communes", str(file)).stderr


def test_a_data_folder_where_nothing_runs_is_named(operator: Operator, tmp_path: Path) -> None:
    operator.unsets("PARTNERS_DATABASE_URL")
    operator.sets(MAILLON_DATA=str(tmp_path))

    said = operator.types("audit", "verify", "--service", "partners")

    assert (said.exit_code, "MAILLON_DATA" in said.stderr) == (2, True)


# The machine on which everything runs


def test_the_embedded_database_is_found_in_its_data_folder(operator: Operator, postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    found = environment_here(postgres.folder.parent)
    operator.unsets("PARTNERS_DATABASE_URL", "SIGNING_KEY", "MAILLON_ENVIRONMENT")
    for name in found:
        monkeypatch.delenv(name, raising=False)
    operator.sets(MAILLON_DATA=str(postgres.folder.parent))

    said = operator.types("audit", "verify", "--service", "partners")
    for name in found:
        monkeypatch.setenv(name, "")  # what the command set in this process
        monkeypatch.delenv(name)

    assert found["PARTNERS_DATABASE_URL"] == postgres.url("partners")
    assert said.exit_code == 3  # found, and without a database of that name here
    assert environment_here(Path("/nowhere")) == {}

"""A file of referrals sent by the client: however often it is sent or broken off, each line takes effect once."""

import asyncio
import json
import socket
from codecs import BOM_UTF8
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.progress import Progress
from typer.testing import CliRunner

from libs.client import cli
from libs.client import client as calls
from libs.client.client import Client, Unreachable
from libs.client.receipts import Flaw, keyed, pairs, verify_receipt
from libs.client.sending import Sent, send
from services.referrals.receiving import intake
from tests.services.referrals.conftest import Referrals
from tests.serving import app_of, listening


class Unsteady(httpx.AsyncBaseTransport):
    """Loses the answers whose number is named, and cuts those named with a length."""

    def __init__(self, inner: httpx.AsyncBaseTransport, lost: set[int], cut: dict[int, int]) -> None:
        self._inner, self._lost, self._cut = inner, lost, cut
        self.sizes: list[int] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":  # the published keys
            return await self._inner.handle_async_request(request)
        number = len(self.sizes)
        self.sizes.append(len((await request.aread()).splitlines()))
        answer = await self._inner.handle_async_request(request)
        content = await answer.aread()
        if number in self._lost:
            raise httpx.ReadError("a test")
        if number in self._cut:
            content = b"".join(content.splitlines(keepends=True)[: self._cut[number]])
        return httpx.Response(answer.status_code, content=content, headers={"content-type": answer.headers["content-type"]})


def caller(referrals: Referrals, lost: set[int] | None = None, cut: dict[int, int] | None = None) -> tuple[Client, Unsteady]:
    way = Unsteady(referrals.client._transport, lost or set(), cut or {})
    token = referrals.token("police-95")["Authorization"].removeprefix("Bearer ")
    return Client("http://referrals", token=token, transport=way, attempts=3, pause_seconds=0), way


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "LINES", 4)


@pytest.fixture
def lines(referrals: Referrals) -> list[str]:
    """Ten referrals without keys, and an empty line."""
    made = [json.dumps(referrals.body(), default=str) for _ in range(10)]
    return [*made[:5], "", *made[5:]]


@pytest.fixture
def file(lines: list[str], tmp_path: Path) -> Path:
    return written(tmp_path / "saisines.ndjson", lines)


def written(file: Path, lines: list[str]) -> Path:
    file.write_text("\n".join(lines))
    return file


async def sent(client: Client, file: Path) -> tuple[Sent, list[int]]:
    told: list[int] = []
    async with client:
        return await send(client, file, told.append), told


async def count(referrals: Referrals) -> int:
    return len(await referrals.rows("SELECT 1 FROM referrals"))


async def test_a_file_is_sent_in_pieces_and_sent_again_replayed(referrals: Referrals, file: Path, lines: list[str]) -> None:
    client, way = caller(referrals)
    first, told = await sent(client, file)
    again, _ = await sent(caller(referrals)[0], file)

    assert first.outcomes == {"created": 10, "replayed": 0, "refused": 0}
    assert again.outcomes == {"created": 0, "replayed": 10, "refused": 0}
    assert way.sizes == [4, 3, 3]
    assert told == sorted(told)
    assert told[-1] == len("\n".join(lines).encode())
    assert await count(referrals) == 10


async def test_every_receipt_is_checked_as_it_comes_and_kept_for_later(referrals: Referrals, file: Path, lines: list[str]) -> None:
    kept = BytesIO()
    async with caller(referrals)[0] as client:
        done = await send(client, file, lambda _: None, receipts=kept)
        keys = await client.get("/v1/keys")

    assert done.doubtful == []
    checked = [verify_receipt(said, possible, keys) for _, said, possible in pairs(kept.getvalue(), "\n".join(lines).encode())]
    assert len(checked) == 10


async def test_a_receipt_of_something_else_is_told_with_its_line(referrals: Referrals, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "RECEIPT", "vnd.maillon.other+jws")

    done, _ = await sent(caller(referrals)[0], file)

    assert done.outcomes["created"] == 10
    assert done.doubtful == [(number, Flaw.SIGNATURE) for number in (1, 2, 3, 4, 5, 7, 8, 9, 10, 11)]


async def test_lost_and_cut_answers_are_asked_for_again(referrals: Referrals, file: Path) -> None:
    client, _ = caller(referrals, lost={0}, cut={2: 1})

    done, _ = await sent(client, file)

    assert done.outcomes["created"] + done.outcomes["replayed"] == 10
    assert await count(referrals) == 10


async def test_a_service_that_never_answers_for_a_line_is_said(referrals: Referrals, file: Path) -> None:
    client, _ = caller(referrals, cut={0: 1, 1: 0, 2: 0})

    with pytest.raises(Unreachable):
        await sent(client, file)


async def test_a_second_referral_of_one_reference_is_told_with_the_first_one_and_a_byte_order_mark_is_no_part_of_it(
    referrals: Referrals, lines: list[str], tmp_path: Path
) -> None:
    second = json.loads(lines[0])
    file = tmp_path / "windows.ndjson"
    file.write_bytes(BOM_UTF8 + f"{lines[0]}\r\n{json.dumps(second | {'children_present': 3})}\r\n".encode())

    done, _ = await sent(caller(referrals)[0], file)

    [row] = await referrals.rows("SELECT id FROM referrals")
    [(number, why)] = done.refused
    assert (done.outcomes, number) == ({"created": 1, "replayed": 0, "refused": 1}, 2)
    assert str(row.id) in why


async def test_refused_lines_are_named_by_number_and_reason(referrals: Referrals, lines: list[str], tmp_path: Path) -> None:
    wrong: dict[str, Any] = json.loads(lines[7])
    wrong["persons"][0]["role"] = "Zébulon"
    lines[7], lines[9] = json.dumps(wrong), "not json Zébulon"
    file = written(tmp_path / "wrong.ndjson", lines)

    done, _ = await sent(caller(referrals)[0], file)

    assert done.outcomes == {"created": 8, "replayed": 0, "refused": 2}
    assert [number for number, _ in done.refused] == [8, 10]
    assert "/referral/persons/0/role" in done.refused[0][1]
    assert "Zébulon" not in str(done.refused)


def test_a_line_with_a_key_is_sent_as_it_is_and_a_referral_alone_gets_the_key_of_its_bytes() -> None:
    own = b'{"key": "k", "referral": {}}'

    assert keyed(own + b"\n") == own
    assert keyed(b'{"a": 1}') == keyed(b'{"a": 1}\r\n') != keyed(b'{"a": 2}')
    assert json.loads(keyed(b'{"a": 1}'))["referral"] == {"a": 1}


class Bar(Progress):
    """The one that is shown, and how far it came."""

    ended: tuple[float, float | None]

    def stop(self) -> None:
        [task] = self.tasks
        Bar.ended = task.completed, task.total
        super().stop()


async def test_the_command_names_the_lines_that_are_refused_keeps_the_receipts_of_the_others_and_shows_how_far_it_is(
    referrals: Referrals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "Progress", Bar)
    good = [json.dumps(referrals.body(narrative="Conflit à l'école"), default=str, ensure_ascii=False) for _ in range(2)]
    file, receipts = (
        written(tmp_path / "saisines.ndjson", [good[0], json.dumps(referrals.body(urgency="demain")), good[1]]),
        tmp_path / "reçus",
    )
    token = referrals.token("police-95")["Authorization"].removeprefix("Bearer ")
    on = socket.create_server(("127.0.0.1", 0))
    typed = ["send", str(file), "--receipts", str(receipts), "--url", f"http://127.0.0.1:{on.getsockname()[1]}", "--token", token]

    async with listening(app_of(referrals.client), on):
        said = await asyncio.to_thread(CliRunner().invoke, cli.app, typed)

    assert said.exit_code == 1, said.output
    assert [line[:10] for line in said.stderr.splitlines() if line.startswith("ligne ")] == ["ligne 2 : "]
    assert "/urgency" in said.stderr
    assert said.stdout == "2 créée(s), 0 déjà reçue(s), 1 refusée(s).\n"
    assert [json.loads(line)["line"] for line in receipts.read_text().splitlines()] == [1, 3]
    assert Bar.ended == (file.stat().st_size, file.stat().st_size)
    assert await count(referrals) == 2

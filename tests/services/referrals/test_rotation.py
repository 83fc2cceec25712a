"""The vault's key-encryption key is changed by `maillon vault rewrap` while people read and the police posts: no read fails, the old one may go.

Planted: what an operator or the vault may do wrong on the way. Each shows in what can be read, meanwhile or once the old key is gone.
"""

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncSession
from typer.testing import CliRunner, Result

from libs.chassis.vault import Rewrapped, Vault
from libs.client.cli import app
from services.referrals.app import SERVICE
from tests.planted import seen_red
from tests.services.referrals.conftest import CONTENT, Referrals, territory
from tests.serving import served

OLD, NEW = (b64encode(letter * 32).decode() for letter in (b"o", b"n"))
Known = tuple[dict[str, str], str]
"""The keys that a process knows, and the one by which it wraps."""
BEFORE: Known = ({"old": OLD}, "old")
BOTH: Known = ({"old": OLD, "new": NEW}, "new")
AFTER: Known = ({"new": NEW}, "new")


@asynccontextmanager
async def _replica(known: Known, url: str) -> AsyncIterator[Referrals]:
    keys, active = known
    async with served(SERVICE, url, vault_keys=json.dumps(keys), vault_active_key=active) as up:
        yield Referrals(up.client, up.runtime, up.issuer, up.openapi)


async def _read(up: Referrals, received: Sequence[UUID]) -> list[Any]:
    """The persons of each referral; None where the answer is another than 200."""
    answers = await asyncio.gather(*(up.get("iscg-95", f"/v1/referrals/{one}", CONTENT) for one in received))
    return [answer.json()["people"] if answer.status_code == 200 else None for answer in answers]


def _rewrap() -> Result:
    return CliRunner().invoke(app, ["vault", "rewrap", "--service", "referrals", "--batch", "1"])


async def _rotated(url: str, monkeypatch: pytest.MonkeyPatch, meanwhile: Known = BOTH) -> None:
    """`meanwhile`: what a replica knows that goes on answering while the command runs."""
    async with _replica(BEFORE, url) as up:
        await up.hear("partners", *territory())
        received = [await up.receive() for _ in range(4)]
        told = await _read(up, received)
        assert None not in told
    keys, active = BOTH
    for name, value in {"MAILLON_ENVIRONMENT": "development", "REFERRALS_DATABASE_URL": url}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("VAULT_KEYS", json.dumps(keys))
    monkeypatch.setenv("VAULT_ACTIVE_KEY", active)

    async with _replica(meanwhile, url) as up:
        up.numbers = len(received)
        rewrapping = asyncio.create_task(asyncio.to_thread(_rewrap))
        posted: list[UUID] = []
        over = False
        while not over:
            over = rewrapping.done()  # and once more after it
            posted.append(await up.receive())
            assert await _read(up, received) == told, "not read while the key was changed"
        said = await rewrapping

    async with _replica(AFTER, url) as up:
        assert await _read(up, received) == told, "not read once the old key was gone"
        assert None not in await _read(up, posted), "what was written meanwhile is not read once the old key is gone"
        assert {row.kek_id for row in await up.rows("SELECT kek_id FROM vault_keys")} == {"new"}
    assert said.exit_code == 0, said.output
    assert "« new »" in said.output
    assert "peuvent quitter VAULT_KEYS" in said.output


async def test_the_vault_key_is_changed_while_people_read_and_write_and_the_old_one_may_go(
    database_url: Callable[[str | None], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    await _rotated(database_url("referrals"), monkeypatch)


async def test_planted_a_replica_that_goes_on_writing_by_the_old_key_is_seen(
    database_url: Callable[[str | None], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was told of the new key, and not that it is the active one: what it writes after the command is left behind."""
    known = (BOTH[0], "old")

    await seen_red(
        _rotated(database_url("referrals"), monkeypatch, known), "what was written meanwhile is not read once the old key is gone"
    )


async def test_planted_a_replica_that_was_not_told_of_the_new_key_is_seen(
    database_url: Callable[[str | None], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    await seen_red(_rotated(database_url("referrals"), monkeypatch, BEFORE), "not read while the key was changed")


async def test_planted_a_rotation_that_says_it_is_done_after_its_first_batch_is_seen(
    database_url: Callable[[str | None], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old key is then removed too early."""
    rewrap = Vault.rewrap

    async def first_only(self: Vault, session: AsyncSession, limit: int = 500, after: UUID | None = None) -> Rewrapped:
        return Rewrapped((await rewrap(self, session, limit, after)).count, None)

    async def nothing_left(self: Vault, session: AsyncSession) -> dict[str, int]:
        return {self.active: 1}

    monkeypatch.setattr(Vault, "rewrap", first_only)
    monkeypatch.setattr(Vault, "wrapped_by", nothing_left)

    await seen_red(_rotated(database_url("referrals"), monkeypatch), "not read once the old key was gone")

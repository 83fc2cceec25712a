"""The vault's key-encryption key is changed by `maillon vault rewrap` while people read and the police posts: no read fails, the old one may go."""

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from uuid import UUID

import pytest
from typer.testing import CliRunner

from libs.client.cli import app
from services.referrals.app import SERVICE
from tests.services.referrals.conftest import Referrals, territory
from tests.serving import served

OLD, NEW = (b64encode(letter * 32).decode() for letter in (b"o", b"n"))
STEPS = {
    "before": ({"old": OLD}, "old"),
    "both": ({"old": OLD, "new": NEW}, "new"),
    "after": ({"new": NEW}, "new"),
}


@asynccontextmanager
async def _at(step: str, url: str) -> AsyncIterator[Referrals]:
    """A replica that knows the keys of a step."""
    keys, active = STEPS[step]
    async with served(SERVICE, url, vault_keys=json.dumps(keys), vault_active_key=active) as up:
        yield Referrals(up.client, up.runtime, up.issuer, up.openapi)


async def test_the_vault_key_is_changed_while_people_read_and_write_and_the_old_one_may_go(
    database_url: Callable[[str | None], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = database_url("referrals")
    async with _at("before", url) as up:
        await up.hear("partners", *territory())
        received = [await up.receive() for _ in range(4)]
        told = [(await up.read_as("iscg-95", one))["people"] for one in received]
    keys, active = STEPS["both"]
    for name, value in {"MAILLON_ENVIRONMENT": "development", "REFERRALS_DATABASE_URL": url}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("VAULT_KEYS", json.dumps(keys))
    monkeypatch.setenv("VAULT_ACTIVE_KEY", active)

    async with _at("both", url) as up:
        up.numbers = len(received)
        command = ["vault", "rewrap", "--service", "referrals", "--batch", "1"]
        rewrapping = asyncio.create_task(asyncio.to_thread(lambda: CliRunner().invoke(app, command)))
        posted: list[UUID] = []
        reads = 0
        while not rewrapping.done():
            posted.append(await up.receive())
            shown = await asyncio.gather(*(up.read_as("iscg-95", one) for one in received))
            assert [one["people"] for one in shown] == told
            reads += len(shown)
        said = await rewrapping
    assert said.exit_code == 0, said.output
    assert "« new »" in said.output
    assert "peuvent quitter VAULT_KEYS" in said.output
    assert reads >= len(received)

    async with _at("after", url) as up:
        assert [(await up.read_as("iscg-95", one))["people"] for one in received] == told
        assert all([(await up.read_as("iscg-95", one))["people"][0]["identity"] for one in posted])
        assert {row.kek_id for row in await up.rows("SELECT kek_id FROM vault_keys")} == {"new"}

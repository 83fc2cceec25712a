"""Destroying a person's key makes every stored copy of what the person is unreadable, in every table of every service; so does an erasure of all that was
ever typed about a referral: notes, notices, links, sessions and forms of the desk.

Every key that ever sealed something meanwhile is noted, with its context; afterwards every byte string of every table is tried with each one that
still exists. So a copy that was sealed by another key is found wherever it lies, and whatever it is called. The wrapped keys themselves are searched for too:
in every table, in PostgreSQL's statistics and, as dead rows, in the pages of the vault.
"""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest
from sqlalchemy import text

from libs.chassis import vault
from libs.chassis.database import RawConnection
from libs.chassis.vault import DataKey, SealBroken
from libs.contracts import demonstration as d
from libs.embedded.journey import referral
from libs.embedded.postgres import Postgres
from services.referrals.models import Referral
from services.referrals.rights import erasure
from services.referrals.rights.erasure import ErasureCause, erase
from tests.journeys.desk_forms import type_everywhere
from tests.journeys.house import House, house
from tests.journeys.markers import BIRTH, PHONE, WORD, found_in, rows_of
from tests.journeys.posts import POSTS, copied_posts, equals
from tests.journeys.territory import register_territory
from tests.planted import seen_red
from tests.services.referrals.conftest import CONTENT
from tests.services.referrals.desk.conftest import Desk
from tests.serving import Served
from tests.waiting import until
from tests.wrapped import nobody_else, places_of

Used = set[tuple[DataKey, str]]


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> Used:
    """Every key that sealed something, with its context."""
    noted: Used = set()
    seal = DataKey.seal

    def noting(self: DataKey, text: bytes, *, context: str) -> bytes:
        noted.add((self, context))
        return seal(self, text, context=context)

    monkeypatch.setattr(DataKey, "seal", noting)
    return noted


@pytest.fixture
async def lived(
    used: Used, database_url: Callable[[str | None], str], bootstrap_servers: str, on_kafka: bool
) -> AsyncIterator[tuple[House, list[UUID]]]:
    """Two referrals of two persons; the first of each is marked, and the keys of these two are given."""
    async with house(database_url, bootstrap_servers, on_kafka) as up:
        await register_territory(up["partners"])
        await until(lambda: equals(copied_posts(up), POSTS), seconds=60)
        await _live(up["referrals"])
        yield up, [row.key_id for row in await up["referrals"].rows("SELECT key_id FROM persons WHERE role = 'victim'")]


async def _live(referrals: Served) -> None:
    """One by one and in a batch; one is corrected, oriented and answered for."""
    body = referral("unreadable") | {"narrative": "Une dispute."}
    victim, other = body["persons"]
    victim["identity"] = {"family_name": WORD, "given_name": WORD, "birth_on": BIRTH}
    victim["contact"] = {"phones": [f"+33{PHONE}"], "email": f"{WORD}@exemple.invalid"}
    other["identity"] = {"family_name": "Autre", "given_name": "Dominique"}
    address = f"/v1/referrals/{_made(await referrals.post('police-95', '/v1/referrals', body))['id']}"
    line = json.dumps({"key": "batch-1", "referral": body | {"external_reference": "unreadable-2"}})
    headers = referrals.token("police-95") | {"Content-Type": "application/x-ndjson"}
    assert "unreadable-2" not in _made(await referrals.client.post("/v1/referrals/batch", content=line, headers=headers), text=True)
    version = _made(await referrals.post("iscg-95", f"{address}/accept", version=1))["version"]
    person = (await referrals.get("iscg-95", address, CONTENT)).json()["people"][0]["id"]
    changed = {"person_id": person, "identity": victim["identity"] | {"given_name": f"{WORD}-bis"}}
    _made(await referrals.post("iscg-95", f"{address}/corrections", {"reason": "learned", "persons": [changed]}, version=version))
    asked = {"person_id": person, "service_id": d.VICTIM_SUPPORT_SERVICE, "need": "victim_support"}
    orientation = _made(await referrals.post("iscg-95", f"{address}/orientations", asked))["id"]
    _made(await referrals.post("partner-95", f"/v1/orientations/{orientation}/accept", version=1))


def _made(answer: httpx.Response, *, text: bool = False) -> Any:
    assert answer.status_code in (200, 201), answer.text
    return answer.text if text else answer.json()


async def readable(up: House, used: Used, destroyed: list[UUID]) -> list[str]:
    """Tables in which something of the marked persons is read, plainly or by a key that was not destroyed."""
    keys = [(key, context) for key, context in used if key.id not in destroyed]
    found = {table for table, rows in (await rows_of(up)).items() if any(map(found_in, rows))}
    for name in up.urls:
        for table, column in await up[name].rows(BYTES):
            values = [
                bytes(row.value) for row in await up[name].rows(f'SELECT "{column}" AS value FROM "{table}" WHERE "{column}" <> \'\'')
            ]
            if any(found_in(text) for value in values for text in _opened(value, keys)):
                found.add(f"{name}.{table}")
    return sorted(found)


BYTES = """
    SELECT table_name, column_name FROM information_schema.columns JOIN pg_tables ON tablename = table_name
    WHERE data_type = 'bytea' AND table_schema = 'public' AND schemaname = 'public'
"""


def _opened(value: bytes, keys: list[tuple[DataKey, str]]) -> list[bytes]:
    opened = []
    for key, context in keys:
        with suppress(SealBroken):  # of another key, or not sealed at all
            opened.append(key.open(value, context=context))
    return opened


async def destroy(up: House, keys: list[UUID]) -> None:
    async with up["referrals"].runtime.database.transaction() as session:
        assert await up["referrals"].runtime.vault.destroy(session, *keys) == len(keys)


async def held(up: House, postgres: Postgres, wrapped: list[bytes]) -> list[str]:
    """Where one of the wrapped keys is held still, after the housekeeping of every service."""
    found = []
    for name, url in up.urls.items():
        connection = await asyncpg.connect(url)
        try:
            if not up.is_up(name):
                await nobody_else(connection)
                await vault.tidy(connection)
            found += [f"{name}.{place}" for place in await places_of(connection, postgres, wrapped)]
        finally:
            await connection.close()
    return found


async def test_destroying_a_persons_key_makes_every_stored_copy_unreadable(
    lived: tuple[House, list[UUID]], used: Used, postgres: Postgres
) -> None:
    up, keys = lived
    wrapped = [row.wrapped for row in await up["referrals"].rows("SELECT id, wrapped FROM vault_keys") if row.id in keys]
    assert {"referrals.public.vault_keys", "referrals.pages"} <= set(await held(up, postgres, wrapped))
    assert await readable(up, used, []) == ["referrals.corrected_contents", "referrals.persons"]  # the search is not blind

    await destroy(up, keys)

    assert await readable(up, used, keys) == []
    async with up["referrals"].runtime.database.transaction() as session:
        assert await up["referrals"].runtime.vault.open_keys(session, keys) == {}
    await up.stop_all()
    left = await held(up, postgres, wrapped)
    assert left == [], f"a wrapped key is left in {left}"


async def test_planted_a_copy_of_a_wrapped_key_is_found(lived: tuple[House, list[UUID]], used: Used, postgres: Postgres) -> None:
    up, keys = lived
    async with up["referrals"].runtime.database.transaction() as session:
        copied = (
            "UPDATE stream_events SET data = (SELECT wrapped FROM vault_keys WHERE id = :key) WHERE stream = 'interior'"  # nobody listens
        )
        await session.execute(text(copied), {"key": keys[0]})

    await seen_red(
        test_destroying_a_persons_key_makes_every_stored_copy_unreadable(lived, used, postgres),
        "a wrapped key is left in ['referrals.public.stream_events']",
    )


async def test_planted_a_vault_that_is_not_tidied_is_found(
    lived: tuple[House, list[UUID]], used: Used, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(connection: RawConnection) -> None:
        pass

    monkeypatch.setattr(vault, "tidy", nothing)

    await seen_red(
        test_destroying_a_persons_key_makes_every_stored_copy_unreadable(lived, used, postgres),
        "a wrapped key is left in ['referrals.pages']",
    )


async def test_planted_copies_sealed_by_another_key_are_found(lived: tuple[House, list[UUID]], used: Used) -> None:
    up, keys = lived
    async with up["referrals"].runtime.database.transaction() as session:
        another = await up["referrals"].runtime.vault.new_key(session, "narrative")
        copy = {"copy": another.seal(WORD.encode(), context="copy")}
        await session.execute(text("UPDATE idempotency_keys SET body = :copy WHERE status IS NOT NULL"), copy)
        await session.execute(text("UPDATE stream_events SET data = :copy WHERE stream = 'interior'"), copy)  # nobody listens to it here

    await destroy(up, keys)

    assert await readable(up, used, keys) == ["referrals.idempotency_keys", "referrals.stream_events"]


# All that is written about a referral

TOLD = ("notices", "orientation_links", "desk_sessions")
"""What stays, and holds nothing of a person."""
WRITTEN = ("alerts", "corrected_contents", "desk_kept_forms", "orientations", "persons", "referrals", "requisitions")


@pytest.fixture
async def typed(
    used: Used, database_url: Callable[[str | None], str], bootstrap_servers: str, on_kafka: bool
) -> AsyncIterator[tuple[House, UUID]]:
    """A referral with markers in every form of its pages, one of them waiting to be sent; somebody at the desk, notices of it, a link that is open."""
    async with house(database_url, bootstrap_servers, on_kafka, desk_client_id="desk") as up:
        await register_territory(up["partners"])
        await until(lambda: equals(copied_posts(up), POSTS), seconds=60)
        referrals = up["referrals"]
        for who, recipient in (("iscg-95", f"post:{d.POST_CERGY}"), ("coordinator-95", "departement:95")):
            wanted = {"address": "avertis@exemple.invalid", "mode": "immediate"}
            headers = referrals.token(who) | {"If-Match": '"0"'}
            _made(await referrals.client.put(f"/v1/notice-preferences/{recipient}", json=wanted, headers=headers))
        body = referral("typed") | {"narrative": f"Une dispute, {WORD}."}
        body["persons"][0]["identity"] = {"family_name": WORD, "given_name": WORD, "birth_on": BIRTH}
        await type_everywhere(referrals, body)
        [row] = await referrals.rows("SELECT id FROM referrals")
        await _left_open(referrals, row.id)
        yield up, row.id


async def _left_open(referrals: Served, referral_id: UUID) -> None:
    desk = Desk(referrals.client, referrals.runtime, referrals.issuer, referrals.openapi)
    asked = {"person_id": (await desk.persons(referral_id))[0], "service_id": d.VICTIM_SUPPORT_SERVICE, "need": "victim_support"}
    orientation = _made(await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/orientations", asked))["id"]
    _made(await referrals.post("iscg-95", f"/v1/orientations/{orientation}/links"))
    browser = await desk.sign_in("iscg-95", f"/desk/referrals/{referral_id}/alert")
    async with referrals.runtime.database.transaction() as session:
        await session.execute(text("DELETE FROM desk_sessions"))
    assert (await browser.submit(note=WORD, reference=WORD)).status_code == 401
    await desk.sign_in("iscg-95")


async def test_an_erasure_makes_all_that_was_written_about_a_referral_unreadable(typed: tuple[House, UUID], used: Used) -> None:
    up, referral_id = typed
    referrals = up["referrals"]
    told = {table: (await referrals.rows(f"SELECT count(*) AS number FROM {table}"))[0].number for table in TOLD}
    assert all(told.values()), told
    assert await readable(up, used, []) == sorted(f"referrals.{table}" for table in WRITTEN)  # the search is not blind

    async with referrals.runtime.database.transaction() as session:
        case = await session.get_one(Referral, referral_id)
        persons = [row.id for row in await session.execute(text("SELECT id FROM persons"))]
        await erase(session, referrals.runtime.vault, case, persons, ErasureCause.RETENTION, datetime.now(UTC), by="test")

    destroyed = [row.id for row in await referrals.rows("SELECT id FROM vault_keys WHERE wrapped IS NULL")]
    assert await readable(up, used, destroyed) == []


async def test_planted_an_erasure_that_passes_over_what_waits_to_be_sent_is_seen(
    typed: tuple[House, UUID], used: Used, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure, "_TYPED", text("SELECT CAST(:referral AS uuid)"))

    await seen_red(
        test_an_erasure_makes_all_that_was_written_about_a_referral_unreadable(typed, used), "['referrals.desk_kept_forms'] == []"
    )

"""The vault: what is sealed opens with its own key and context only, and never again once the key is destroyed."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import cast
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from libs.chassis.database import Database, RawConnection
from libs.chassis.runtime import Runtime
from libs.chassis.vault import KeyDestroyed, KeyEncryptionKeyMissing, KeyUnknown, SealBroken, Vault, VaultError, keyed_hash, tidy
from libs.chassis.worker import CHASSIS_JOBS, tidy_vault
from libs.embedded.postgres import Postgres
from tests.planted import seen_red
from tests.wrapped import places_of

OLD, NEW = secrets.token_bytes(32), secrets.token_bytes(32)
IDENTITY = b'{"name":"Marqueur-Identite"}'


@pytest.fixture
async def database(database_url: Callable[[str | None], str]) -> AsyncIterator[Database]:
    database = Database(database_url(None))
    yield database
    await database.close()


@pytest.fixture
def vault() -> Vault:
    return Vault({"2026": OLD}, "2026")


def test_what_is_sealed_opens_again() -> None:
    key = Vault({"2026": OLD}, "2026").fresh_key("person").key

    assert key.open(key.seal(IDENTITY, context="person/identity"), context="person/identity") == IDENTITY
    assert key.open(key.seal(b"", context="person/identity"), context="person/identity") == b""


def test_the_same_text_is_never_sealed_the_same_way(vault: Vault) -> None:
    key = vault.fresh_key("person").key

    sealed = {key.seal(IDENTITY, context="person/identity") for _ in range(100)}

    assert len(sealed) == 100
    assert all(IDENTITY not in one for one in sealed)


@pytest.mark.parametrize("place", [0, 1, 12, 13, 20, -16, -1])
def test_a_changed_byte_is_noticed_wherever_it_is(vault: Vault, place: int) -> None:
    key = vault.fresh_key("person").key
    sealed = bytearray(key.seal(IDENTITY, context="person/identity"))

    sealed[place] ^= 1

    with pytest.raises(SealBroken):
        key.open(bytes(sealed), context="person/identity")


def test_a_sealed_text_does_not_open_elsewhere(vault: Vault) -> None:
    key, other = vault.fresh_key("person").key, vault.fresh_key("person").key
    sealed = key.seal(IDENTITY, context="person/identity")

    for opening, context in ((key, "person/contact"), (other, "person/identity")):
        with pytest.raises(SealBroken):
            opening.open(sealed, context=context)
    for cut in (b"", sealed[:1], sealed[:28]):
        with pytest.raises(SealBroken):
            key.open(cut, context="person/identity")


def test_neither_a_key_nor_a_fresh_one_shows_its_secret(vault: Vault) -> None:
    fresh = vault.fresh_key("person")

    assert "AESGCM" not in repr(fresh.key)
    assert "wrapped" not in repr(fresh)
    assert set(vars(vault)) == {"_keks", "active"}


async def test_many_keys_are_stored_by_one_statement_in_the_order_asked(database: Database, vault: Vault) -> None:
    async with database.transaction() as session:
        keys = await vault.new_keys(session, ["person", "narrative", "person"])
        sealed = [key.seal(IDENTITY, context="x") for key in keys]

    async with database.transaction() as session:
        opened = await vault.open_keys(session, [key.id for key in keys])
        purposes = {row.id: row.purpose for row in await session.execute(text("SELECT id, purpose FROM vault_keys"))}

    assert [purposes[key.id] for key in keys] == ["person", "narrative", "person"]
    assert all(opened[key.id].open(one, context="x") == IDENTITY for key, one in zip(keys, sealed, strict=True))


async def test_the_database_holds_no_data_key_in_clear(database: Database) -> None:
    seen: list[bytes] = []

    class Watched(Vault):
        def _wrap(self, key_id: UUID, purpose: str, secret: bytes) -> bytes:
            seen.append(secret)
            return super()._wrap(key_id, purpose, secret)

    async with database.transaction() as session:
        await Watched({"2026": OLD}, "2026").new_keys(session, ["person"] * 5)
        rows = list(await session.scalars(text("SELECT vault_keys::text || encode(wrapped, 'hex') FROM vault_keys")))

    assert len(seen) == len(rows) == 5
    assert not any(secret.hex() in row for secret in seen for row in rows)


async def test_a_destroyed_key_opens_nothing_any_more_and_says_so(database: Database, vault: Vault) -> None:
    async with database.transaction() as session:
        key, kept = await vault.new_keys(session, ["person", "narrative"])

    async with database.transaction() as session:
        assert await vault.destroy(session, key.id) == 1
        assert await vault.destroy(session, key.id) == 0

    async with database.transaction() as session:
        with pytest.raises(KeyDestroyed) as refused:
            await vault.open_key(session, key.id)
        opened = await vault.open_keys(session, [key.id, kept.id])
        row = (await session.execute(text("SELECT wrapped, destroyed_at FROM vault_keys WHERE id = :id"), {"id": key.id})).one()
    assert (refused.value.status, refused.value.type) == (410, "content-erased")
    assert set(opened) == {kept.id}
    assert row.wrapped is None
    assert row.destroyed_at is not None


# What PostgreSQL keeps of a destroyed key


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[RawConnection]:
    connection = await database.connect()
    yield connection
    await connection.close()


async def test_a_destroyed_key_is_in_no_row_statistic_or_page_once_the_vault_was_tidied(
    database: Database, vault: Vault, connection: RawConnection, postgres: Postgres
) -> None:
    async with database.transaction() as session:
        keys = [
            key.id for key in await vault.new_keys(session, ["person"] * 6)
        ]  # few: a page that is nearly full is tidied by whoever reads it
    await connection.execute("ANALYZE")
    wrapped = [row["wrapped"] for row in await connection.fetch("SELECT wrapped FROM vault_keys WHERE id = ANY($1)", keys[:4])]
    assert {"public.vault_keys", "pages"} <= set(await places_of(connection, postgres, wrapped))  # the search is not blind
    async with database.transaction() as session:
        assert await vault.destroy(session, *keys[:4]) == 4

    await tidy_vault(cast(Runtime, SimpleNamespace(database=database)))

    left = await places_of(connection, postgres, wrapped)
    assert left == [], f"a destroyed key is left in {left}"


async def test_planted_a_vault_that_nobody_tidies_is_seen(
    database: Database, vault: Vault, connection: RawConnection, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(connection: RawConnection) -> None:
        pass

    monkeypatch.setattr("libs.chassis.vault.tidy", nothing)

    await seen_red(
        test_a_destroyed_key_is_in_no_row_statistic_or_page_once_the_vault_was_tidied(database, vault, connection, postgres),
        "a destroyed key is left in ['pages']",
    )


async def test_planted_statistics_of_wrapped_keys_are_seen(
    database: Database, vault: Vault, connection: RawConnection, postgres: Postgres
) -> None:
    await connection.execute("ALTER TABLE vault_keys ALTER COLUMN wrapped SET STATISTICS DEFAULT")

    await seen_red(
        test_a_destroyed_key_is_in_no_row_statistic_or_page_once_the_vault_was_tidied(database, vault, connection, postgres),
        "a destroyed key is left in ['pg_catalog.pg_statistic']",
    )


async def test_a_role_that_may_not_tidy_the_vault_is_an_error(connection: RawConnection) -> None:
    """PostgreSQL passes the table over with a warning."""
    await connection.execute("SET ROLE pg_read_all_data")

    with pytest.raises(VaultError, match="MAINTAIN"):
        await tidy(connection)


def test_every_worker_tidies_its_vault_within_minutes() -> None:
    [job] = [job for job in CHASSIS_JOBS if job.run is tidy_vault]

    assert job.every_seconds <= 600


async def test_a_key_that_never_was_is_no_erased_one(database: Database, vault: Vault) -> None:
    async with database.transaction() as session:
        with pytest.raises(KeyUnknown):
            await vault.open_key(session, uuid4())


async def test_the_vault_key_is_changed_in_batches_while_readers_and_writers_go_on(database: Database) -> None:
    before = Vault({"2026": OLD}, "2026")
    after = Vault({"2026": OLD, "2027": NEW}, "2027")
    async with database.transaction() as session:
        keys = await before.new_keys(session, ["person"] * 25)
    sealed = {key.id: key.seal(IDENTITY, context="x") for key in keys}
    erased = keys[3].id

    last, batches = None, 0
    while True:
        async with database.transaction() as session:
            batch = await after.rewrap(session, limit=10, after=last)
        last, batches = batch.last, batches + 1
        async with database.transaction() as session:  # replicas that know both read on
            both = Vault({"2026": OLD, "2027": NEW}, "2026")
            assert len(await both.open_keys(session, [key.id for key in keys])) == (25 if batches == 1 else 24)
            await both.destroy(session, erased)
        if last is None:
            break

    async with database.transaction() as session:
        assert await after.wrapped_by(session) == {"2027": 24}
        alone = Vault({"2027": NEW}, "2027")
        opened = await alone.open_keys(session, list(sealed))
        assert erased not in opened
        assert all(key.open(sealed[key_id], context="x") == IDENTITY for key_id, key in opened.items())
    assert batches == 3


async def test_a_key_destroyed_during_the_change_stays_destroyed(database: Database) -> None:
    vault = Vault({"2026": OLD, "2027": NEW}, "2026")
    changing = Vault({"2026": OLD, "2027": NEW}, "2027")
    async with database.transaction() as session:
        key = await vault.new_key(session, "person")

    async with database.transaction() as session:
        await changing.rewrap(session)

        async def destroy() -> int:
            async with database.transaction() as other:
                return await vault.destroy(other, key.id)

        waiting = asyncio.create_task(destroy())
        await asyncio.sleep(0.1)
        assert not waiting.done()

    assert await waiting == 1
    async with database.transaction() as session:
        with pytest.raises(KeyDestroyed):
            await vault.open_key(session, key.id)


async def test_a_vault_key_that_left_too_early_is_named(database: Database, vault: Vault) -> None:
    async with database.transaction() as session:
        key = await vault.new_key(session, "person")

    async with database.transaction() as session:
        with pytest.raises(KeyEncryptionKeyMissing, match="2026"):
            await Vault({"2027": NEW}, "2027").open_key(session, key.id)
        with pytest.raises(SealBroken):
            await Vault({"2026": NEW}, "2026").open_key(session, key.id)


async def test_wrapped_keys_cannot_be_exchanged_between_rows(database: Database, vault: Vault) -> None:
    async with database.transaction() as session:
        mine, other = await vault.new_keys(session, ["person", "person"])

    async with database.transaction() as session:
        await session.execute(
            text("UPDATE vault_keys SET wrapped = (SELECT wrapped FROM vault_keys WHERE id = :other) WHERE id = :mine"),
            {"mine": mine.id, "other": other.id},
        )
        with pytest.raises(SealBroken):
            await vault.open_key(session, mine.id)


@pytest.mark.parametrize(("keys", "active"), [({"a": OLD}, "b"), ({"a": OLD[:31]}, "a"), ({}, "a")])
def test_a_vault_that_could_not_work_does_not_start(keys: dict[str, bytes], active: str) -> None:
    with pytest.raises(ValueError, match="vault key"):
        Vault(keys, active)


def test_equal_texts_have_equal_keyed_hashes_under_one_key_only() -> None:
    assert keyed_hash(OLD, "martin|jeanne") == keyed_hash(OLD, "martin|jeanne")
    assert keyed_hash(OLD, "martin|jeanne") != keyed_hash(NEW, "martin|jeanne")
    assert len(keyed_hash(OLD, "")) == 32

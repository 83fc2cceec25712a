"""Where a database holds wrapped data keys: in rows of its tables, in PostgreSQL's statistics of them, in the pages of the vault as dead rows."""

import struct
from base64 import b64encode
from collections.abc import Collection, Iterator
from pathlib import Path

from libs.chassis.database import RawConnection
from libs.embedded.postgres import Postgres
from tests.waiting import until

VAULT = "vault_keys"
_TABLES = (
    "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables WHERE schemaname = 'public' OR tablename = 'pg_statistic'"
    " ORDER BY tablename"
)
_OTHERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


async def places_of(connection: RawConnection, postgres: Postgres, wrapped: Collection[bytes]) -> list[str]:
    """Tables by their names, and `pages`."""
    assert wrapped
    written = [text for key in wrapped for text in (key.hex(), b64encode(key).decode())]
    found = []
    for table in await connection.fetch(_TABLES):
        rows = await connection.fetch(f"SELECT t::text AS row FROM {table['name']} t")
        if any(text in row["row"] for row in rows for text in written):
            found.append(str(table["name"]))
    await connection.execute("CHECKPOINT")
    path = postgres.folder / await connection.fetchval("SELECT pg_relation_filepath($1)", VAULT)
    if any(key in row for row in _rows(path) for key in wrapped):
        found.append("pages")
    return found


def _rows(path: Path) -> Iterator[bytes]:
    """What line pointers of the pages lead to, dead rows included (PostgreSQL's storage/bufpage.h and itemid.h)."""
    file = path.read_bytes()
    for start in range(0, len(file), 8192):
        page = file[start : start + 8192]
        (lower,) = struct.unpack_from("=H", page, 12)
        for (pointer,) in struct.iter_unpack("=I", page[24 : max(lower, 24)]):
            yield page[pointer & 0x7FFF :][: pointer >> 17]


async def nobody_else(connection: RawConnection) -> None:
    """An older transaction would keep dead rows where they are."""

    async def alone() -> bool:
        return bool(await connection.fetchval(_OTHERS) == 0)

    await until(alone)

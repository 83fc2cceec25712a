"""The loop that learns names: it reads partners' lists, one département at a time, by this service's own token, and never while somebody waits.

Events say ids; `mark` notes which list of which département they speak of, in the listener's own transaction. The loop takes what is due, one list
at a time (a lease; SKIP LOCKED: any replica), and reads it again every few hours besides: a post that is renamed says nothing. What cannot be read is tried
again with growing pauses, behind the others. Organisations' names are public directory data; a post is called by its place, not after who holds it.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, NamedTuple
from urllib.parse import urlencode

import structlog
from prometheus_client import Counter
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis.feed import FeedError, FeedPast, FeedReplaced
from libs.chassis.health import Heartbeat
from libs.chassis.runtime import Runtime
from libs.chassis.strict import line
from libs.chassis.telemetry import REGISTRY
from libs.contracts.types import CommuneCode, Id
from libs.contracts.units import plain_label

_log = structlog.get_logger(__name__)

READS = Counter("maillon_directory_reads_total", "Lists of names read from partners", ["outcome"], registry=REGISTRY)
UNREADABLE = Counter("maillon_directory_unreadable_total", "Items of such lists that were skipped", registry=REGISTRY)

POLL_SECONDS: Final = 2.0
READ_SECONDS: Final = 240.0
LEASE: Final = timedelta(minutes=5)
"""Longer than one reading may take: nobody else takes the list meanwhile."""
AGAIN: Final = timedelta(hours=6)
MOST: Final = 20_000
"""Items of one list of one département: the largest has some thousand."""
_BATCH: Final = 200

SERVICES: Final = "services"
POSTS: Final = "posts"
UNITS: Final = "units"
COMMUNES: Final = "communes"

Name = Annotated[str, line(200)]


class _Item(BaseModel):
    """What is taken of an item; the rest of it is somebody else's."""

    model_config = ConfigDict(hide_input_in_errors=True)

    @property
    def row(self) -> dict[str, Any]:
        raise NotImplementedError


class _Service(_Item):
    id: Id
    name: Name
    organization_name: Name
    themes: Annotated[list[Annotated[str, Field(pattern=r"^[a-z_]{1,60}$")]], Field(max_length=100)]

    @property
    def row(self) -> dict[str, Any]:
        return _row(str(self.id), self.name, self.organization_name, self.themes)


class _Labelled(_Item):
    id: Id
    label: Name

    @property
    def row(self) -> dict[str, Any]:
        return _row(str(self.id), self.label)


class _Commune(_Item):
    code: CommuneCode
    name: Name

    @property
    def row(self) -> dict[str, Any]:
        return _row(self.code, self.name)


_ITEMS: Final[Mapping[str, type[_Item]]] = {SERVICES: _Service, POSTS: _Labelled, UNITS: _Labelled, COMMUNES: _Commune}
_CLOSED_TOO: Final = frozenset({SERVICES, POSTS, UNITS})
"""A closed case speaks of what is closed."""

_MARK = text(
    "INSERT INTO directory_reads (kind, departement, due_at, marks, failures) VALUES (:kind, :departement, clock_timestamp(), 1, 0)"
    " ON CONFLICT (kind, departement) DO UPDATE SET due_at = least(directory_reads.due_at, excluded.due_at), marks = directory_reads.marks + 1"
)
_WANT = text(
    "INSERT INTO directory_reads (kind, departement, due_at, marks, failures) VALUES (:kind, :departement, clock_timestamp(), 0, 0)"
    " ON CONFLICT (kind, departement) DO NOTHING"
)
_CLAIM = text(
    "UPDATE directory_reads SET due_at = :until WHERE (kind, departement) = (SELECT kind, departement FROM directory_reads WHERE due_at <= :began"
    " ORDER BY due_at, kind, departement LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING kind, departement, marks, failures"
)
_KEEP = text(
    "INSERT INTO directory_names (kind, key, departement, name, organization, themes, folded)"
    " VALUES (:kind, :key, :departement, :name, :organization, :themes, :folded)"
    " ON CONFLICT (kind, key) DO UPDATE SET departement = excluded.departement, name = excluded.name, organization = excluded.organization,"
    " themes = excluded.themes, folded = excluded.folded"
)
_READ = text(
    "UPDATE directory_reads SET failures = 0, due_at = CASE WHEN marks = :marks THEN CAST(:next AS timestamptz) ELSE :now END"
    " WHERE kind = :kind AND departement = :departement"
)
_FAILED = text(
    "UPDATE directory_reads SET failures = least(failures + 1, 30), due_at = :next WHERE kind = :kind AND departement = :departement"
)


class Claim(NamedTuple):
    """One list of one département, taken for as long as the lease lasts."""

    kind: str
    departement: str
    marks: int
    failures: int


async def mark(session: AsyncSession, kind: str, departement: str) -> None:
    """Something in this list was heard of. Whatever is heard of a département makes its communes wanted, once."""
    await session.execute(_MARK, {"kind": kind, "departement": departement})
    await session.execute(_WANT, {"kind": COMMUNES, "departement": departement})


async def claim(session: AsyncSession, began: datetime) -> Claim | None:
    row = (await session.execute(_CLAIM, {"began": began, "until": datetime.now(UTC) + LEASE})).one_or_none()
    return None if row is None else Claim(*row)


async def read_one(runtime: Runtime, began: datetime) -> bool:
    """Read one list that was due when the round began, page by page. False: none was."""
    async with runtime.database.transaction() as session:
        taken = await claim(session, began)
    if taken is None:
        return False
    asked = {"departement": taken.departement, "limit": str(_BATCH)} | ({"closed": "true"} if taken.kind in _CLOSED_TOO else {})
    try:
        async with asyncio.timeout(READ_SECONDS):
            await _keep_all(runtime, taken, f"/v1/{taken.kind}?{urlencode(asked)}")
    except (FeedError, FeedPast, FeedReplaced, TimeoutError) as error:
        pause = min(timedelta(seconds=5 * 2 ** min(taken.failures, 10)), timedelta(hours=1))
        async with runtime.database.transaction() as session:
            await session.execute(_FAILED, {"kind": taken.kind, "departement": taken.departement, "next": datetime.now(UTC) + pause})
        READS.labels("failed").inc()
        _log.warning("directory.failed", kind=taken.kind, departement=taken.departement, error=type(error).__name__)
        return True
    now = datetime.now(UTC)
    async with runtime.database.transaction() as session:
        done = {"kind": taken.kind, "departement": taken.departement, "marks": taken.marks, "now": now, "next": now + AGAIN}
        await session.execute(_READ, done)
    READS.labels("read").inc()
    return True


async def _keep_all(runtime: Runtime, taken: Claim, path: str) -> None:
    """Raises FeedError, FeedPast, FeedReplaced."""
    rows: list[dict[str, Any]] = []
    count = 0
    async for item in runtime.feed.listing("partners").read(path):
        count += 1
        if count > MOST:
            raise FeedError(f"partners: more than {MOST} items in one list of names")
        row = read_item(taken.kind, item)
        if row is None:
            UNREADABLE.inc()
            continue
        rows.append(row)
        if len(rows) == _BATCH:
            await _keep(runtime, taken, rows)
            rows = []
    await _keep(runtime, taken, rows)


def read_item(kind: str, item: Mapping[str, Any]) -> dict[str, Any] | None:
    """What is kept of an item of a list; None: it is not readable, and is skipped."""
    try:
        return _ITEMS[kind].model_validate(item).row
    except ValidationError:
        return None


async def _keep(runtime: Runtime, taken: Claim, rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        about = {"kind": taken.kind, "departement": taken.departement}
        async with runtime.database.transaction() as session:
            await session.execute(_KEEP, [about | row for row in sorted(rows, key=lambda row: str(row["key"]))])


def _row(key: str, name: str, organization: str | None = None, themes: Sequence[str] = ()) -> dict[str, Any]:
    folded = plain_label(f"{name} {organization or ''}")
    return {"key": key, "name": name, "organization": organization, "themes": list(themes), "folded": folded}


async def read_due(runtime: Runtime, heartbeat: Heartbeat) -> None:
    """Everything that is due, each list once: what is heard of meanwhile waits for the next round."""
    began = datetime.now(UTC)
    while await read_one(runtime, began):
        heartbeat.beat()


async def run(runtime: Runtime, heartbeat: Heartbeat) -> None:
    while True:
        heartbeat.beat()
        await read_due(runtime, heartbeat)
        await asyncio.sleep(POLL_SECONDS)

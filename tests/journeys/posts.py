"""What referrals heard of the posts of partners, looked at from outside; and a database backed up and restored."""

import asyncio
import subprocess
from pathlib import Path
from typing import Any
from uuid import UUID

from libs.contracts import demonstration as d
from libs.embedded.postgres import binaries
from tests.journeys.house import House
from tests.waiting import until

POSTS = {post.id for post in d.POSTS if post.departement == "95"}


async def copied_posts(up: House) -> set[UUID]:
    return {row.id for row in await up["referrals"].rows("SELECT id FROM posts_heard")}


async def equals(found: Any, wanted: Any) -> bool:
    return bool(await found == wanted)


async def parked(up: House, at_least: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await up["referrals"].get("administrator", "/v1/dead-letters", status="parked")).json()["items"]
    return found if len(found) >= at_least else []


async def state_is(up: House, post_id: UUID, state: str) -> bool:
    return [row.state for row in await up["referrals"].rows(f"SELECT state FROM posts_heard WHERE id = '{post_id}'")] == [state]


async def heard_all(up: House) -> bool:
    """Whether nothing is left to be numbered, and the listener's cursor is at the head."""
    head = await _head(up)
    return [row.sequence for row in await up["referrals"].rows("SELECT sequence FROM cursors WHERE source = 'partners'")] == [head]


async def looked(up: House) -> None:
    """The listener has asked for the head as it is now, and has looked twice more since: what it does about it is done."""
    looks: set[object] = set()

    async def often() -> bool:
        head = await _head(up)
        rows = await up["referrals"].rows("SELECT head_sequence, head_seen_at FROM cursors WHERE source = 'partners'")
        looks.update(row.head_seen_at for row in rows if row.head_sequence == head)
        return len(looks) > 3  # the first may be of before

    await until(often, seconds=60)


async def _head(up: House) -> int | None:
    """`None` while something waits for its number; a speaker that is stopped numbers nothing more, and its head is the last."""
    [head] = await up["partners"].rows(
        "SELECT sequence, diverged_at, (SELECT count(*) FROM outbox) AS waiting FROM streams WHERE stream = 'internal'"
    )
    return int(head.sequence) if not head.waiting or head.diverged_at else None


async def backup(up: House, service: str, file: Path) -> None:
    """What an operator's nightly job makes of a database that goes on working."""
    await _program("pg_dump", "--format=custom", f"--file={file}", up.urls[service])


async def restore(up: House, service: str, file: Path) -> None:
    """The database of a service that is stopped becomes what the backup holds."""
    await _program(
        "pg_restore", "--clean", "--if-exists", "--exit-on-error", "--single-transaction", f"--dbname={up.urls[service]}", str(file)
    )


async def _program(name: str, *arguments: str) -> None:
    """Raises `subprocess.CalledProcessError`."""
    await asyncio.to_thread(subprocess.run, [str(binaries() / name), *arguments], check=True, stdin=subprocess.DEVNULL)


async def diverged(up: House) -> bool:
    return bool(await up["partners"].rows("SELECT 1 FROM streams WHERE diverged_at IS NOT NULL"))


async def restored_states(up: House) -> bool:
    rows = await up["referrals"].rows("SELECT id, state FROM posts_heard")
    states = {row.id: row.state for row in rows}
    return states == {d.POST_CERGY: "filled", d.POST_SARCELLES: "vacant", d.POST_MAGNY: "filled"}

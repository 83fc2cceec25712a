"""What referrals heard of the posts of partners, looked at from outside; and a database of partners taken back to an older backup."""

from typing import Any
from uuid import UUID

from sqlalchemy import text

from libs.chassis.database import Database
from libs.contracts import demonstration as d
from tests.journeys.house import House

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
    [head] = await up["partners"].rows("SELECT sequence FROM streams WHERE stream = 'internal'")
    [cursor] = await up["referrals"].rows("SELECT sequence FROM cursors WHERE source = 'partners'")
    return bool(cursor.sequence == head.sequence)


async def restore(up: House, sequence: int) -> None:
    """What a backup taken at that number holds."""
    database = Database(up.urls["partners"])
    async with database.transaction() as session:
        await session.execute(text("UPDATE posts SET state = 'filled', closed_at = NULL, version = 1 WHERE state = 'closed'"))
        for stream in ("internal", "interior", "justice", "departement:95"):
            await session.execute(
                text("DELETE FROM stream_events WHERE stream = :s AND subject LIKE '%' AND type = 'fr.maillon.post.closed.v1'"),
                {"s": stream},
            )
            await session.execute(
                text(
                    "UPDATE streams SET (sequence, digest) = (SELECT sequence, digest FROM stream_events e WHERE e.stream = streams.stream"
                    " ORDER BY sequence DESC LIMIT 1) WHERE stream = :s"
                ),
                {"s": stream},
            )
            await session.execute(
                text("UPDATE streams SET sent_sequence = least(sent_sequence, sequence) WHERE stream = :s"), {"s": stream}
            )
    await database.close()


async def diverged(up: House) -> bool:
    return bool(await up["partners"].rows("SELECT 1 FROM streams WHERE diverged_at IS NOT NULL"))


async def restored_states(up: House) -> bool:
    rows = await up["referrals"].rows("SELECT id, state FROM posts_heard")
    states = {row.id: row.state for row in rows}
    return states == {d.POST_CERGY: "filled", d.POST_SARCELLES: "vacant", d.POST_MAGNY: "filled"}

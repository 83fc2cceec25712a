"""Streams: numbered, hash-chained logs of what this service says, one per audience. The feed is the truth, Kafka the fast path.

Numbers of a stream have no holes: sequence 1, 2, 3... An *epoch* is one unbroken history; a database restored from the past opens a new one, which states
the last number that still holds. The digest of an event covers its stored bytes, its place and its predecessor's digest:

    digest = SHA-256( previous digest (32 bytes) | epoch (4 bytes) | sequence (8 bytes) | length of attributes (4 bytes) | attributes | data )

integers unsigned and big-endian; the predecessor of the first event is 32 zero bytes. `attributes` is the canonical JSON of the CloudEvents attributes that are
known when the event is said (all but epoch, sequence, previousdigest): keys sorted, no spaces, UTF-8. `data` is the JSON text that was published.
tests/chassis/vectors/digests.json holds test vectors.
"""

import hashlib
import json
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, ClassVar, Final, NamedTuple

import structlog
from pydantic_core import to_json
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis.refusals import Refusal

_log = structlog.get_logger(__name__)

GENESIS = bytes(32)
INTERNAL = "internal"
AUDIT = "audit"
PLACED = frozenset({"epoch", "sequence", "previousdigest"})
"""The CloudEvents attributes that a place in a stream gives; everything else is known at append."""


_NAME = re.compile(r"[a-z0-9]+", re.ASCII)
_EPOCH = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
_SEQUENCE = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_EXPECTED = frozenset({"id", "source", "type", "subject", "datacontenttype"})


# a stream has a handful of such sets of names; to look at each event's again would take longer than to serialise it
@lru_cache(maxsize=256)
def _in_order(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(names))


@lru_cache(maxsize=256)
def _are_expected(names: tuple[str, ...]) -> bool:
    return _EXPECTED.issubset(names) and "data" not in names and all(map(_NAME.fullmatch, names))


def canonical(attributes: Mapping[str, str]) -> bytes:
    """The bytes of attributes that are stored, hashed and, header by header, sent."""
    names = tuple(attributes)
    ordered = _in_order(names)
    return to_json(attributes if ordered == names else {name: attributes[name] for name in ordered})


def digest(previous: bytes, epoch: int, sequence: int, attributes: bytes, data: bytes) -> bytes:
    """One link of the chain, as the head of this file defines it."""
    link = hashlib.sha256(previous)
    link.update(struct.pack(">IQI", epoch, sequence, len(attributes)))
    link.update(attributes)
    link.update(data)
    return link.digest()


def written_at(attributes: bytes) -> datetime:
    """When an entry of the audit log was written, as its bytes say. Raises ValueError, KeyError, TypeError."""
    return datetime.fromisoformat(json.loads(attributes)["recordedtime"])


WITHOUT_TOPIC = f"^({AUDIT}$|organization:|police:)"
"""As Python and PostgreSQL read it: the audit log, which nobody hears, and the streams of single organizations and police systems, which have feed and webhooks."""
_WITHOUT_TOPIC = re.compile(WITHOUT_TOPIC)


def has_topic(stream: str) -> bool:
    return _WITHOUT_TOPIC.match(stream) is None


def topic(source: str, stream: str, prefix: str = "maillon") -> str:
    """The Kafka topic of a stream. A topic name holds no colon: Apache Kafka refuses it."""
    if stream == INTERNAL:
        return f"{prefix}.{source}.v1"
    return f"{prefix}.{source}.for.{stream.replace(':', '.')}.v1"


@dataclass(frozen=True, slots=True)
class Place:
    """Where somebody stands in a stream: the last number of an epoch, and the digest there."""

    epoch: int
    sequence: int
    digest: bytes

    @classmethod
    def of_json(cls, epoch: object, sequence: object, digest: object) -> "Place":
        """Out of the members of a JSON answer. Raises ValueError."""
        if type(epoch) is not int or type(sequence) is not int or not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            raise ValueError("this is no place in a stream")
        if not (0 < epoch < 10**9 and 0 <= sequence < 10**18):
            raise ValueError("this is no place in a stream")
        return cls(epoch, sequence, bytes.fromhex(digest))


def read_position(header: str) -> tuple[int, int]:
    """Epoch and number out of a `Stream-Position` header, `<epoch>:<sequence>`. Raises ValueError."""
    epoch, _, sequence = header.partition(":")
    if not (_EPOCH.fullmatch(epoch) and (sequence == "0" or _SEQUENCE.fullmatch(sequence))):
        raise ValueError("a stream position looks like 1:42")
    return int(epoch), int(sequence)


class Record(NamedTuple):
    """One event at its place in a stream, as it is stored, sent and read back."""

    stream: str
    epoch: int
    sequence: int
    previous_digest: bytes
    attributes: bytes
    data: bytes

    @property
    def digest(self) -> bytes:
        return digest(self.previous_digest, self.epoch, self.sequence, self.attributes, self.data)

    def cloudevent(self) -> bytes:
        """The JSON text of the event in the CloudEvents JSON format, its data embedded byte for byte."""
        place = json.dumps(self.place(), separators=(",", ":")).encode()
        return b"%b,%b" % (self.attributes[:-1], place[1:-1]) + b',"data":' + self.data + b"}"

    def place(self) -> dict[str, str]:
        return {"epoch": str(self.epoch), "sequence": str(self.sequence), "previousdigest": self.previous_digest.hex()}

    @classmethod
    def of_cloudevent(cls, stream: str, event: Mapping[str, Any]) -> "Record":
        """Read back what `cloudevent` wrote: JSON without floats, so the compact text is the original one.

        Raises ValueError or KeyError when it is no event of ours.
        """
        if not isinstance(event, Mapping):
            raise ValueError("an event is an object")  # noqa: TRY004  # what is read is wrong, not how this is called
        attributes = {name: value for name, value in event.items() if name not in PLACED and name != "data"}
        return cls.of_parts(
            stream,
            attributes,
            {name: event[name] for name in PLACED},
            json.dumps(event["data"], separators=(",", ":"), ensure_ascii=False).encode(),
        )

    @classmethod
    def of_parts(cls, stream: str, attributes: Mapping[str, str], place: Mapping[str, str], data: bytes) -> "Record":
        """Raises ValueError or KeyError unless each attribute has a CloudEvents name and a printable text, and the place is written as `place` does."""
        try:  # one look at all of them: 2 µs an event instead of 10
            printable = "".join((*attributes.values(), *place.values())).isprintable()
        except TypeError:
            printable = False
        if not printable:
            raise ValueError("an attribute is a text without control characters")
        if not _are_expected(tuple(attributes)):
            raise ValueError("these are not the attributes of an event of ours")
        epoch, sequence, previous = place["epoch"], place["sequence"], place["previousdigest"]
        if not (_EPOCH.fullmatch(epoch) and _SEQUENCE.fullmatch(sequence) and _DIGEST.fullmatch(previous)):
            raise ValueError("this is no place in a stream")
        return cls(stream, int(epoch), int(sequence), bytes.fromhex(previous), canonical(attributes), data)


@dataclass(frozen=True, slots=True)
class Head:
    """Where a stream stands. `digest` is that of the event numbered `sequence` (of the genesis when 0)."""

    stream: str
    epoch: int
    sequence: int
    digest: bytes
    stamped_at: datetime | None
    sent_sequence: int
    purged_sequence: int
    purged_digest: bytes
    """The digest of the last event no longer kept: what the oldest kept one is chained to."""
    diverged_reason: str | None

    def statement(self, source: str) -> bytes:
        """The bytes that are signed: what a chain is proved against."""
        return canonical(
            {"source": source, "stream": self.stream, "epoch": str(self.epoch), "sequence": str(self.sequence), "digest": self.digest.hex()}
        )


_HEAD = "stream, epoch, sequence, digest, stamped_at, sent_sequence, purged_sequence, purged_digest, diverged_reason"


class FeedTooOld(Refusal):
    status: ClassVar[int] = 410
    type: ClassVar[str] = "feed-too-old"
    title: ClassVar[str] = "Événements trop anciens"


class EpochEnded(Refusal):
    """The caller's history went on after the point where this database was restored. `last_sequence` and `last_digest` are where it goes back to, `epoch` the one
    that goes on from there (it may be the caller's own, when a number was given twice in it)."""

    status: ClassVar[int] = 409
    type: ClassVar[str] = "epoch-ended"
    title: ClassVar[str] = "Historique remplacé"


class Diverged(Refusal):
    status: ClassVar[int] = 409
    type: ClassVar[str] = "stream-diverged"
    title: ClassVar[str] = "Flux divergent"


class NotYetSaid(Refusal):
    status: ClassVar[int] = 409
    type: ClassVar[str] = "not-yet-said"
    title: ClassVar[str] = "Numéro à venir"


_ACKNOWLEDGE = text(
    "INSERT INTO stream_readers (stream, client_id, epoch, sequence, looked_at) VALUES (:stream, :client, :epoch, :sequence, now())"
    " ON CONFLICT (stream, client_id) DO UPDATE SET epoch = excluded.epoch, sequence = excluded.sequence, acknowledged_at = now(), looked_at = now()"
)


async def acknowledge(session: AsyncSession, stream: str, client_id: str, epoch: int, sequence: int) -> None:
    """A reader has acted on everything up to that number. Its last word counts, also when it goes back. Raises NotYetSaid."""
    now = await head(session, stream)
    if (epoch, sequence) > (now.epoch, now.sequence):
        raise NotYetSaid("Ce numéro n'a pas encore été publié dans ce flux.", more={"epoch": now.epoch, "sequence": now.sequence})
    await session.execute(_ACKNOWLEDGE, {"stream": stream, "client": client_id, "epoch": epoch, "sequence": sequence})


_GIVEN = text("""
    INSERT INTO stream_readers AS r
        (stream, client_id, epoch, sequence, acknowledged_at, since_epoch, since_sequence, given_epoch, given_sequence, given_at, looked_at)
    VALUES (:stream, :client, 0, 0, NULL, :since_epoch, :since_sequence, :epoch, :sequence, now(), now())
    ON CONFLICT (stream, client_id) DO UPDATE SET
        (since_epoch, since_sequence) = (SELECT * FROM (VALUES (r.since_epoch, r.since_sequence), (excluded.since_epoch, excluded.since_sequence)) AS one
            ORDER BY 1, 2 LIMIT 1),
        (given_epoch, given_sequence) = (SELECT * FROM (VALUES (r.given_epoch, r.given_sequence), (excluded.given_epoch, excluded.given_sequence)) AS one
            ORDER BY 1 DESC NULLS LAST, 2 DESC NULLS LAST LIMIT 1),
        given_at = CASE WHEN r.given_at IS NULL OR (excluded.given_epoch, excluded.given_sequence) > (r.given_epoch, r.given_sequence)
            OR (excluded.since_epoch, excluded.since_sequence) < (r.since_epoch, r.since_sequence) THEN excluded.given_at ELSE r.given_at END,
        looked_at = excluded.looked_at
    WHERE r.given_at IS NULL OR (excluded.given_epoch, excluded.given_sequence) > (r.given_epoch, r.given_sequence)
        OR (excluded.since_epoch, excluded.since_sequence) < (r.since_epoch, r.since_sequence)
        OR r.looked_at IS NULL OR r.looked_at < now() - interval '1 hour'
""")


async def give(session: AsyncSession, client_id: str, records: Sequence[Record]) -> None:
    """Note that a reader is handed a page of a stream, which is not empty: who was told may be asked to forget (`acknowledge`).

    To be committed before the page leaves. Read again, what was given already changes no row but once an hour, when its reader looked.
    """
    first, last = records[0], records[-1]
    await session.execute(
        _GIVEN,
        {
            "stream": first.stream,
            "client": client_id,
            "since_epoch": first.epoch,
            "since_sequence": first.sequence - 1,
            "epoch": last.epoch,
            "sequence": last.sequence,
        },
    )


_LOOKED = text(
    "SELECT EXISTS (SELECT FROM stream_readers WHERE stream = :stream AND client_id = :client AND looked_at > now() - interval '1 hour')"
)
_LOOK = text(
    "INSERT INTO stream_readers (stream, client_id, epoch, sequence, acknowledged_at, since_epoch, since_sequence, looked_at)"
    " VALUES (:stream, :client, 0, 0, NULL, :epoch, :sequence, now()) ON CONFLICT (stream, client_id) DO UPDATE SET looked_at = now()"
)


async def looked_lately(session: AsyncSession, stream: str, client_id: str) -> bool:
    """Whether it is noted that a reader looked within the hour: who polls writes no more often than that."""
    return bool(await session.scalar(_LOOKED, {"stream": stream, "client": client_id}))


async def look(session: AsyncSession, client_id: str, now: Head) -> None:
    """Note that a reader looked where nothing was new to it. It was given nothing by that: no erasure waits for it."""
    await session.execute(_LOOK, {"stream": now.stream, "client": client_id, "epoch": now.epoch, "sequence": now.sequence})


async def head(session: AsyncSession, stream: str) -> Head:
    """A stream's head; one that never said anything stands at epoch 1, number 0."""
    row = (await session.execute(text(f"SELECT {_HEAD} FROM streams WHERE stream = :stream"), {"stream": stream})).one_or_none()  # noqa: S608 - a constant
    return Head(*row) if row is not None else Head(stream, 1, 0, GENESIS, None, 0, 0, GENESIS, None)


async def heads(session: AsyncSession) -> list[Head]:
    return [Head(*row) for row in await session.execute(text(f"SELECT {_HEAD} FROM streams ORDER BY stream"))]  # noqa: S608 - a constant


POSITION: Final = f"(SELECT coalesce(max(epoch), 1) || ':' || coalesce(max(sequence), 0) FROM streams WHERE stream = '{INTERNAL}')"  # noqa: S608 - a constant
"""`<epoch>:<sequence>` of the internal stream, for the `Stream-Position` header of a list: an expression of the statement that reads the list.

Whoever follows from this number on misses nothing that is not in the list; what is in the list already may come once more.
"""


async def position(session: AsyncSession) -> str:
    """For a list that is read afterwards in the same repeatable-read transaction."""
    return str(await session.scalar(text(f"SELECT {POSITION}")))


def too_old(now: Head, last: int | None = None) -> FeedTooOld:
    """`last`: up to where a reader's history holds that was replaced; None: it was not."""
    return FeedTooOld(
        "Les événements demandés ne sont plus conservés. Relisez les listes, puis suivez le flux à partir de leur en-tête Stream-Position.",
        more={"oldest_sequence": now.purged_sequence + 1} | ({} if last is None else {"last_sequence": last}),
    )


async def read(session: AsyncSession, stream: str, after: int, limit: int) -> list[Record]:
    """The events of a stream after a number, in order, at most `limit`. Raises FeedTooOld when they are no longer kept."""
    now = await head(session, stream)
    if after < now.purged_sequence:
        raise too_old(now)
    rows = await session.execute(
        text(
            "SELECT epoch, sequence, attributes, data, digest FROM stream_events WHERE stream = :stream AND sequence >= :after"
            " ORDER BY sequence LIMIT :limit"
        ),
        {"stream": stream, "after": after, "limit": limit + 1},
    )
    records: list[Record] = []
    previous = now.purged_digest
    for epoch, sequence, attributes, data, own in rows:
        if sequence > after:
            records.append(Record(stream, epoch, sequence, previous, attributes, data))
        previous = own
    return records[:limit]


_ENDED = text("SELECT after_sequence FROM stream_epochs WHERE stream = :stream AND epoch > :epoch ORDER BY after_sequence, epoch LIMIT 1")
_SHARED = text(
    "SELECT greatest(CASE WHEN acknowledged_at IS NOT NULL THEN sequence END, given_sequence) FROM stream_readers"
    " WHERE stream = :stream AND client_id = :client"
)


async def check_claim(session: AsyncSession, stream: str, client_id: str, *, epoch: int, after: int, claimed: bytes | None) -> str | None:
    """Compare where a listener says it stands with this service's own history.

    Returns `None` when they agree, or why they diverge: the listener is ahead in the same epoch, or holds another digest at the same number, or knows an epoch
    that this database does not: this database was restored from the past. Raises EpochEnded when the listener went on in a history that was replaced, FeedTooOld
    when nothing that both share is kept: it names the last number of the listener's history that holds.
    """
    now = await head(session, stream)
    if epoch > now.epoch:
        return f"a listener knows epoch {epoch}, this database only {now.epoch}"
    differs = await _differs(session, now, after, claimed)
    ended: int | None = await session.scalar(_ENDED, {"stream": stream, "epoch": epoch})
    if ended is None:
        if after > now.sequence:
            return f"a listener has seen number {after} of epoch {epoch}, this database only {now.sequence}"
        return f"a listener holds another digest at number {after} of epoch {epoch}" if differs else None
    at_most = min(ended, after - 1 if differs else after)
    if at_most == after >= now.purged_sequence:
        return None
    last = await _last_shared(session, now, client_id, at_most)
    raise EpochEnded(
        "La base de ce service a été restaurée : reprenez après le dernier numéro encore valable.",
        more={"epoch": last.epoch, "last_sequence": last.sequence, "last_digest": last.digest.hex()},
    )


async def _differs(session: AsyncSession, now: Head, after: int, claimed: bytes | None) -> bool:
    if claimed is None or after < max(now.purged_sequence, 1):
        return False
    own = await kept_digest(session, now, after)
    return own is not None and own != claimed


async def kept_digest(session: AsyncSession, now: Head, sequence: int) -> bytes | None:
    """At a number that is kept, or just before the oldest."""
    return now.purged_digest if sequence == now.purged_sequence else await digest_at(session, now.stream, sequence)


async def _last_shared(session: AsyncSession, now: Head, client_id: str, at_most: int) -> Place:
    """The last place that a reader whose history was replaced is certain to share with this database, and the epoch that goes on from there.

    Where the restored database ended is not known: it may have numbered facts before anybody looked. But what it holds of this reader's acknowledgements, or was
    handed to it by the feed, was so before the backup: the reader acknowledges only what it found equal. Nothing is known of others: they hear again what is kept.
    Raises FeedTooOld when it is not kept.
    """
    known: int | None = await session.scalar(_SHARED, {"stream": now.stream, "client": client_id})
    if at_most < now.purged_sequence:
        raise too_old(now, at_most if known is None else min(known, at_most))
    sequence = max(min(known or 0, at_most), now.purged_sequence)
    own = await kept_digest(session, now, sequence)
    if own is None:
        raise LookupError(f"number {sequence} of {now.stream} is missing")
    following: int | None = await session.scalar(
        text("SELECT epoch FROM stream_events WHERE stream = :stream AND sequence = :next"), {"stream": now.stream, "next": sequence + 1}
    )
    return Place(following or now.epoch, sequence, own)


async def digest_at(session: AsyncSession, stream: str, sequence: int) -> bytes | None:
    """The digest of one event, `None` when it is not (or no longer) kept."""
    found = await session.scalar(
        text("SELECT digest FROM stream_events WHERE stream = :stream AND sequence = :sequence"), {"stream": stream, "sequence": sequence}
    )
    return bytes(found) if found is not None else None


async def mark_diverged(session: AsyncSession, stream: str, reason: str, *, epoch: int) -> None:
    """Stop stamping and sending of the whole service until an operator opens a new epoch: the relay looks at this mark before each batch.

    `epoch`: the one in which it was found. What was found just before the operator opened a new one is settled by it, and marks nothing.
    """
    marked = await session.execute(
        text(
            "UPDATE streams SET diverged_at = now(), diverged_reason = :reason"
            " WHERE stream = :stream AND diverged_at IS NULL AND epoch = :epoch RETURNING 1"
        ),
        {"stream": stream, "reason": reason, "epoch": epoch},
    )
    if marked.first() is not None:
        _log.error("stream.diverged", stream=stream, reason=reason)


async def new_epoch(session: AsyncSession, reason: str) -> list[Head]:
    """After a restore: every stream of this service begins a new history after the last number this database holds, and the marks of divergence go.

    The lock waits for a stamp under way. Answers the new heads; listeners that were further go back to them.
    """
    await session.execute(text("LOCK TABLE streams IN EXCLUSIVE MODE"))
    await session.execute(
        text(
            "INSERT INTO stream_epochs (stream, epoch, after_sequence, after_digest, started_at, reason)"
            " SELECT stream, epoch + 1, sequence, digest, now(), :reason FROM streams"
        ),
        {"reason": reason},
    )
    await session.execute(
        text(
            "UPDATE streams SET epoch = epoch + 1, sent_sequence = least(sent_sequence, sequence), diverged_at = NULL, diverged_reason = NULL"
        )
    )
    return await heads(session)

"""The audit log: who read or did what, on which object, why, and when. A stream like any other, named "audit": numbered and chained by the relay.

An entry is written in the transaction of what it tells about, so that nothing is read without leaving a trace. It holds ids and codes only (CNIL:
minimal, apart, append-only). What keeps the log honest:

- the chain: each entry's digest covers its bytes, its place and its predecessor's digest; the stream's head holds the last one;
- checkpoints: the head, signed with its time, written to the service's own log, whatever the database holds or refuses, and kept
  in `stream_checkpoints`. Who rewrites the whole chain and its head cannot rewrite a signature in an archive of that log;
- `verify_stream`, which recomputes all of it from the stored bytes.
"""

import json
import re
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import asyncpg
import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis import streams, telemetry
from libs.chassis.database import RawConnection
from libs.chassis.outbox import append_raw
from libs.chassis.security import Principal
from libs.chassis.signing import SignatureInvalid, Signer, verify
from libs.chassis.telemetry import current_trace
from libs.contracts.vocabularies import Purpose

if TYPE_CHECKING:
    from libs.chassis.runtime import Runtime

_log = structlog.get_logger(__name__)

ENTRY = "fr.maillon.audit.entry.v1"
KEEP_DAYS = 3 * 365
"""CNIL: logs of documented internal control are kept up to three years (DOMAIN §8)."""
CHECKPOINT_SECONDS = 300
"""How often a head that moved is signed: what a forger of the whole chain could still rewrite unnoticed."""
FINDINGS = 100
"""A verification stops counting here: a chain this broken needs no longer list."""

_CODE = re.compile(r"[A-Za-z0-9_.:/-]{1,120}", re.ASCII)


class NotACode(ValueError):
    """An audit entry holds ids and codes; this looks like something else."""


def _code(value: str) -> str:
    if not _CODE.fullmatch(value):
        raise NotACode("an audit entry holds ids and codes only: letters, digits and _.:/- up to 120 characters")
    return value


async def audit(
    session: AsyncSession,
    caller: Principal,
    *,
    operation: str,
    subject: str,
    purpose: Purpose | None = None,
    detail: Mapping[str, str] | None = None,
) -> None:
    """Write one entry in the session's transaction. `subject`: `referrals/<id>`, or the collection for a list.

    `detail`: codes, never a personal value. Raises NotACode for a text that could hold one.
    """
    entry = {
        "at": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "client": caller.client_id,
        "actor": caller.subject,
        "role": caller.role.value,
        "organization": None if caller.organization is None else str(caller.organization),
        "operation": _code(operation),
        "subject": _code(subject),
        "purpose": None if purpose is None else purpose.value,
        "trace": current_trace().traceparent.split("-")[1],
        "detail": {_code(name): _code(value) for name, value in sorted((detail or {}).items())},
    }
    data = json.dumps(entry, separators=(",", ":"), ensure_ascii=False).encode()
    await append_raw(session, stream=streams.AUDIT, type=ENTRY, subject=subject, data=data)


# Checkpoints

Place = tuple[int, int, bytes]
"""Where a stream stands: epoch, number, digest."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A stream's head at one moment, as it was signed."""

    source: str
    stream: str
    epoch: int
    sequence: int
    digest: bytes
    at: datetime

    @property
    def head(self) -> Place:
        return self.epoch, self.sequence, self.digest

    def statement(self) -> bytes:
        return streams.canonical(
            {
                "source": self.source,
                "stream": self.stream,
                "epoch": str(self.epoch),
                "sequence": str(self.sequence),
                "digest": self.digest.hex(),
                "at": self.at.astimezone(UTC).isoformat(),
            }
        )

    @classmethod
    def signed(cls, jws: str, jwks: Mapping[str, Any]) -> "Checkpoint":
        """Read a signed checkpoint. Raises SignatureInvalid."""
        payload = verify(jws, jwks)
        try:
            said = json.loads(payload)
            return cls(
                source=str(said["source"]),
                stream=str(said["stream"]),
                epoch=int(said["epoch"]),
                sequence=int(said["sequence"]),
                digest=bytes.fromhex(said["digest"]),
                at=datetime.fromisoformat(said["at"]),
            )
        except (ValueError, KeyError, TypeError):
            raise SignatureInvalid("the signed text is not a checkpoint") from None


@dataclass(frozen=True, slots=True)
class Signed:
    """A checkpoint and its signature."""

    checkpoint: Checkpoint
    jws: str


_KEEP = text("""
    INSERT INTO stream_checkpoints (stream, epoch, sequence, digest, jws, at)
    VALUES (:stream, :epoch, :sequence, :digest, :jws, :at) ON CONFLICT DO NOTHING
""")
_KEPT = text(
    "SELECT epoch, sequence, digest, jws, at FROM stream_checkpoints WHERE (stream, epoch, sequence) = (:stream, :epoch, :sequence)"
)


async def checkpoint(session: AsyncSession, signer: Signer, source: str, stream: str = streams.AUDIT) -> Signed | None:
    """Sign where the stream stands; `keep` is what stores it. None: it is empty."""
    head = await streams.head(session, stream)
    if head.sequence == 0:
        return None
    one = Checkpoint(source, stream, head.epoch, head.sequence, head.digest, datetime.now(UTC))
    return Signed(one, signer.sign(one.statement()))


async def keep(session: AsyncSession, signer: Signer, signed: Signed) -> bool:
    """Store it, unless one of the same head is stored. False: the database holds something else in its place, which stays."""
    one = signed.checkpoint
    place = {"stream": one.stream, "epoch": one.epoch, "sequence": one.sequence}
    await session.execute(_KEEP, place | {"digest": one.digest, "jws": signed.jws, "at": one.at})
    row = (await session.execute(_KEPT, place)).one_or_none()
    kept = _stored(signer.public_jwks(), one.source, one.stream, *row) if row is not None else None
    return kept is not None and kept.digest == one.digest


def _stored(
    jwks: Mapping[str, Any], source: str, stream: str, epoch: int, sequence: int, digest: bytes, jws: str, at: datetime
) -> Checkpoint | None:
    """A row of `stream_checkpoints`; None where it is not what its signature says."""
    shown = Checkpoint(source, stream, epoch, sequence, bytes(digest), at)
    try:
        return shown if Checkpoint.signed(jws, jwks) == shown else None
    except SignatureInvalid:
        return None


_FORGET_CHECKPOINTS = text("""
    DELETE FROM stream_checkpoints USING streams
    WHERE streams.stream = stream_checkpoints.stream AND stream_checkpoints.sequence < streams.purged_sequence
      AND at < now() - make_interval(days => :days)
""")


async def checkpoint_audit(runtime: "Runtime") -> None:
    """The job: the head that moved since this process last signed it, through the log out of the database, and into it.

    Checkpoints are kept a month longer than what they vouch for, and the one that vouches for what is purged longer still.
    """
    async with runtime.database.transaction() as session:
        signed = await checkpoint(session, runtime.signer, runtime.service.name)
    if signed is not None and signed.checkpoint.head != runtime.signed_head:
        # before the database is asked for anything: who administers it has no say in what is known outside
        _log.info("audit.checkpoint", source=runtime.service.name, stream=streams.AUDIT, jws=signed.jws)
        async with runtime.database.transaction() as session:
            kept = await keep(session, runtime.signer, signed)
        if kept:
            runtime.signed_head = signed.checkpoint.head
        else:
            _tell_operator(runtime, signed.checkpoint)
    async with runtime.database.transaction() as session:
        await session.execute(_FORGET_CHECKPOINTS, {"days": KEEP_DAYS + 31})


def _tell_operator(runtime: "Runtime", one: Checkpoint) -> None:
    """By the log and a counter, for which there is an alert: again at each turn, until the head moves on or the database holds what was signed."""
    _log.error("audit.checkpoint_contradicted", source=one.source, stream=one.stream, epoch=one.epoch, sequence=one.sequence)
    telemetry.CHECKPOINTS_CONTRADICTED.labels(runtime.service.name).inc()


def count_from_zero(service: str) -> None:
    """For the alert: Prometheus sees no increase in a series that begins at 1."""
    telemetry.CHECKPOINTS_CONTRADICTED.labels(service)


# Verification

Kind = Literal[
    "altered",  # an entry's bytes, number or epoch do not give its digest: edited, moved, or its predecessor is not the one it was chained to
    "relabelled",  # what the table shows beside an entry (id, type, subject, of the audit log the time) is not what its bytes say
    "missing",  # numbers are absent in the middle
    "truncated",  # the last entries are absent
    "beyond-head",  # entries after the head
    "head-altered",  # the head's digest is not the last entry's
    "epoch-unexplained",  # an epoch begins that no opening explains, or elsewhere than its opening says
    "checkpoint-invalid",  # a stored checkpoint's signature does not hold, or is another stream's
    "checkpoint-contradicted",  # a signed checkpoint names another digest at a number
    "checkpoint-ahead",  # a signed checkpoint names a number that the stream no longer reaches
    "history-replaced",  # a signed checkpoint vouches for entries that a later epoch gave up
    "purged-early",  # entries are absent at the beginning that no checkpoint signed before the retention vouches for
]


@dataclass(frozen=True, slots=True)
class Finding:
    kind: Kind
    sequence: int
    sentence: str


@dataclass(frozen=True, slots=True)
class Verified:
    """What a verification saw. Intact when `findings` is empty; then `entries` entries up to `last_sequence` chain to `digest`."""

    source: str
    stream: str
    epoch: int
    first_sequence: int
    last_sequence: int
    digest: bytes
    entries: int
    vouched_sequence: int
    """The highest number that a signed checkpoint confirmed: what comes after it is proved by the chain alone. 0: none was compared."""
    vouched_outside: int
    """The same by those that were given: who administers the database can delete the others, and what they confirm with them."""
    compared_outside: int
    compared_inside: int
    """How many were given, and how many more were found in the database, signed and of what is not purged."""
    findings: tuple[Finding, ...]

    @property
    def intact(self) -> bool:
        return not self.findings


class _Findings(list[Finding]):
    def note(self, kind: Kind, sequence: int, sentence: str) -> None:
        if len(self) < FINDINGS:
            self.append(Finding(kind, sequence, sentence))


async def verify_stream(
    connection: RawConnection,
    stream: str,
    *,
    source: str,
    jwks: Mapping[str, Any],
    checkpoints: Sequence[str] = (),
    keep_days: int | None = None,
) -> Verified:
    """Recompute a stream's whole chain from its stored bytes, in one snapshot, an entry at a time: memory does not grow with the stream.

    `checkpoints`: signed ones that were kept outside the database, beside those that it holds. `keep_days`: how long entries must be kept, to tell
    a purge from a truncation of the beginning: only a checkpoint that was signed before them proves that what is purged was as old.
    Raises SignatureInvalid when one of the given `checkpoints` is not signed by a key of `jwks` or is another stream's.
    """
    given = [Checkpoint.signed(jws, jwks) for jws in checkpoints]
    if any((one.source, one.stream) != (source, stream) for one in given):
        raise SignatureInvalid("a given checkpoint is another stream's, or another service's")
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        return await _Verification(connection, source, stream, jwks, sorted(set(given), key=lambda one: one.sequence)).run(keep_days)


_LIMITS = "SELECT epoch, sequence, digest, purged_sequence, purged_digest, now() AS now FROM streams WHERE stream = $1"
_EPOCHS = "SELECT epoch, after_sequence, after_digest FROM stream_epochs WHERE stream = $1 ORDER BY epoch"
_ENTRIES = (
    "SELECT stream, epoch, sequence, event_id, type, subject, attributes, data, digest, recorded_at"
    " FROM stream_events WHERE stream = $1 ORDER BY sequence"
)
_CHECKPOINTS = "SELECT epoch, sequence, digest, jws, at FROM stream_checkpoints WHERE stream = $1 ORDER BY sequence, epoch"


class _Verification:
    """One walk over the entries in the order of their numbers, holding one digest, with the signed checkpoints walking beside it."""

    def __init__(
        self,
        connection: RawConnection,
        source: str,
        stream: str,
        jwks: Mapping[str, Any],
        given: Sequence[Checkpoint],
    ) -> None:
        self._connection, self._source, self._stream, self._jwks, self._given = connection, source, stream, jwks, given
        self._findings = _Findings()
        self._epochs: list[asyncpg.Record] = []
        self._outside = frozenset(given)
        self._first = self._sequence = self._entries = self._vouched = self._vouched_outside = 0
        self._compared = {True: 0, False: 0}
        self._digest = streams.GENESIS
        self._vouched_since: datetime | None = None
        """When the oldest checkpoint was signed that agrees with the log: all before it was there then."""

    async def run(self, keep_days: int | None) -> Verified:
        note = self._findings.note
        head = await self._connection.fetchrow(_LIMITS, self._stream)
        self._epochs = await self._connection.fetch(_EPOCHS, self._stream)
        last = 0
        if head is not None:
            last, self._first = head["sequence"], head["purged_sequence"]
            self._sequence, self._digest = self._first, bytes(head["purged_digest"])
        young = head["now"] - timedelta(days=keep_days) if head is not None and keep_days is not None else None

        vouched = self._checkpoints()
        one = await anext(vouched, None)
        while one is not None and one.sequence < self._first:  # of what is purged
            one = await anext(vouched, None)
        self._look_at_epochs()
        while one is not None and one.sequence <= self._sequence:
            self._compare(one)
            one = await anext(vouched, None)
        async for row in self._connection.cursor(_ENTRIES, self._stream, prefetch=1000):
            self._link(row)
            while one is not None and one.sequence <= self._sequence:
                self._compare(one)
                one = await anext(vouched, None)
        while one is not None:
            self._ahead(one)
            one = await anext(vouched, None)

        if self._first and young is not None and (self._vouched_since is None or self._vouched_since > young):
            self._purged_early()
        if self._sequence < last:
            note(
                "truncated", last, f"La fin manque : la tête annonce le n° {last}, la dernière entrée présente est le n° {self._sequence}."
            )
        elif self._sequence > last:
            note("beyond-head", self._sequence, f"Des entrées suivent la tête, qui est au n° {last} : jusqu'au n° {self._sequence}.")
        elif head is not None and self._digest != bytes(head["digest"]):
            note("head-altered", last, f"L'empreinte de la tête (n° {last}) n'est pas celle de la dernière entrée.")
        epoch = head["epoch"] if head is not None else 1
        if epoch != max((opened["epoch"] for opened in self._epochs), default=1):
            note("epoch-unexplained", last, f"La tête annonce l'époque {epoch}, qu'aucune ouverture n'explique.")
        return Verified(
            source=self._source,
            stream=self._stream,
            epoch=epoch,
            first_sequence=self._first + 1,
            last_sequence=self._sequence,
            digest=self._digest,
            entries=self._entries,
            vouched_sequence=self._vouched,
            vouched_outside=self._vouched_outside,
            compared_outside=self._compared[True],
            compared_inside=self._compared[False],
            findings=tuple(self._findings),
        )

    async def _checkpoints(self) -> AsyncGenerator[Checkpoint, None]:
        """The given and the stored checkpoints, merged in the order of their numbers. A stored one that is not validly signed is noted."""
        given = deque(self._given)
        async for row in self._connection.cursor(_CHECKPOINTS, self._stream, prefetch=500):
            while given and given[0].sequence <= row["sequence"]:
                yield given.popleft()
            one = _stored(self._jwks, self._source, self._stream, *row)
            if one is None:
                sentence = f"La signature du point de contrôle n° {row['sequence']} gardé dans la base n'est pas valable."
                self._findings.note("checkpoint-invalid", row["sequence"], sentence)
            elif one not in self._outside:  # each once
                yield one
        while given:
            yield given.popleft()

    def _link(self, row: asyncpg.Record) -> None:
        sequence, note = row["sequence"], self._findings.note
        if sequence <= self._first:
            note("beyond-head", sequence, f"L'entrée n° {sequence} précède le début du journal, qui est au n° {self._first + 1}.")
            return
        if sequence != self._sequence + 1:
            note("missing", self._sequence + 1, f"Des entrées manquent : du n° {self._sequence + 1} au n° {sequence - 1}.")
        epoch = max((opened["epoch"] for opened in self._epochs if opened["after_sequence"] < sequence), default=1)
        if row["epoch"] != epoch:
            sentence = f"L'entrée n° {sequence} se dit de l'époque {row['epoch']} ; à ce numéro, l'époque est {epoch}."
            note("epoch-unexplained", sequence, sentence)
        digest = streams.digest(self._digest, row["epoch"], sequence, bytes(row["attributes"]), bytes(row["data"]))
        if digest != bytes(row["digest"]):
            note("altered", sequence, f"L'entrée n° {sequence}, ou celle qui la précède, a été modifiée, déplacée ou retirée.")
        if not _is_labelled(row):
            sentence = f"Ce que la table affiche de l'entrée n° {sequence} (identifiant, type, objet, heure) n'est pas ce que dit l'entrée."
            note("relabelled", sequence, sentence)
        # go on from the stored digest: what follows is judged by itself
        self._sequence, self._digest = sequence, bytes(row["digest"])
        self._entries += 1
        self._look_at_epochs()

    def _look_at_epochs(self) -> None:
        for opened in self._epochs:
            if opened["after_sequence"] == self._sequence and bytes(opened["after_digest"]) != self._digest:
                sentence = f"L'époque {opened['epoch']} dit continuer une autre entrée n° {self._sequence} que celle qui est présente."
                self._findings.note("epoch-unexplained", self._sequence, sentence)

    def _compare(self, one: Checkpoint) -> None:
        outside = one in self._outside
        self._compared[outside] += 1
        if one.sequence < self._sequence:
            return  # the entry itself is missing, which was noted
        if one.digest == self._digest:
            self._vouched = one.sequence
            if outside:
                self._vouched_outside = one.sequence
            self._vouched_since = one.at if self._vouched_since is None else min(one.at, self._vouched_since)
        elif self._is_replaced(one):
            self._replaced(one)
        else:
            sentence = f"Le {_signed_on(one)} atteste une autre empreinte au n° {one.sequence} : l'historique a été réécrit."
            self._findings.note("checkpoint-contradicted", one.sequence, sentence)

    def _ahead(self, one: Checkpoint) -> None:
        self._compared[one in self._outside] += 1
        if self._is_replaced(one):
            self._replaced(one)
        else:
            sentence = f"La fin manque : le {_signed_on(one)} atteste le n° {one.sequence}, le journal s'arrête au n° {self._sequence}."
            self._findings.note("checkpoint-ahead", one.sequence, sentence)

    def _is_replaced(self, one: Checkpoint) -> bool:
        """Whether a later epoch gave up what the checkpoint vouches for."""
        return any(opened["epoch"] > one.epoch and opened["after_sequence"] < one.sequence for opened in self._epochs)

    def _replaced(self, one: Checkpoint) -> None:
        sentence = f"Le {_signed_on(one)} atteste le n° {one.sequence} d'une époque abandonnée depuis : légitime seulement si la base a été restaurée."
        self._findings.note("history-replaced", one.sequence, sentence)

    def _purged_early(self) -> None:
        sentence = (
            f"Le début manque : le journal commence au n° {self._first + 1}, et aucun point de contrôle signé n'atteste que les entrées"
            " retirées avaient passé le temps de leur conservation."
        )
        self._findings.note("purged-early", self._first, sentence)


def _signed_on(one: Checkpoint) -> str:
    return f"point de contrôle signé le {one.at.astimezone(UTC):%d/%m/%Y à %H:%M} (UTC)"


def _is_labelled(row: asyncpg.Record) -> bool:
    try:
        said = json.loads(bytes(row["attributes"]))
        timely = row["stream"] != streams.AUDIT or streams.written_at(row["attributes"]) == row["recorded_at"]
        return timely and (said["id"], said["type"], said["subject"]) == (row["event_id"], row["type"], row["subject"])
    except (ValueError, KeyError, TypeError):
        return False

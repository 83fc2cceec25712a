"""Who has acted on an erasure: the numbers under which it was said, held against how far each reader of those streams says it is.

A reader acknowledges by `PUT /v1/streams/{stream}/position`; our own services do it with their cursors,
but never past an event that they parked; a webhook by its 2xx. Who never reads (an organization that answers by links) confirms it by other means, which is
recorded by hand. An erasure is complete when everybody who was given events of that referral is past it; our services and the organizations that were
asked must be among them, or have confirmed it.

Who was given them (decision 0013): who has a subscription, whatever it took so far; who had one and ended it; who was handed a page by the feed; who says by
a position that it follows, and who is named by a setting as reading the topic. Nobody leaves the register by ending a subscription, nor acknowledges by
beginning another after the erasure. Who was last given anything before the referral was received is not asked.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from libs.chassis.audit import audit
from libs.chassis.pagination import Key
from libs.chassis.refusals import Conflict, Invalid, NotFound
from libs.chassis.security import Principal
from libs.chassis.streams import INTERNAL
from libs.contracts.vocabularies import Purpose, Role
from services.referrals import notices
from services.referrals.rights.models import Erasure, ErasureNotice
from services.referrals.rights.schemas import Acknowledgement, ConfirmationIn, ConfirmationOut, ErasureOut, NoticeOut
from services.referrals.rules import check_day_since


class NotTold(Invalid):
    type: ClassVar[str] = "erasure-not-told"
    title: ClassVar[str] = "Destinataire non concerné"


class OursToAct(Invalid):
    type: ClassVar[str] = "erasure-ours-to-act"
    title: ClassVar[str] = "Service de Maillon"


class AcknowledgedAlready(Conflict):
    type: ClassVar[str] = "erasure-acknowledged-already"
    title: ClassVar[str] = "Effacement déjà confirmé"


_PLACE = text(
    "UPDATE erasure_notices n SET epoch = e.epoch, sequence = e.sequence FROM stream_events e WHERE n.sequence IS NULL AND e.stream = n.stream"
    " AND e.event_id = n.event_id AND e.recorded_at > now() - interval '30 days'"
)
_READERS = (
    # by each door: from which number on it gives, how far the client acted on it, until when it gave anything
    "doors AS (SELECT stream, client_id, since_epoch, since_sequence, epoch, sequence, false AS ended,"
    "  CASE WHEN acknowledged_at IS NULL THEN given_at ELSE 'infinity' END AS until FROM stream_readers"
    " UNION ALL SELECT stream, client_id, since_epoch, since_sequence, epoch, sequence, false, 'infinity' FROM subscriptions"
    " UNION ALL SELECT stream, client_id, since_epoch, since_sequence, epoch, sequence, true, left_at FROM former_subscriptions"
    " UNION ALL SELECT stream, client_id, 0, 0, 0, 0, false, 'infinity' FROM unnest(CAST(:streams AS text[]), CAST(:clients AS text[])) AS one (stream, client_id)),"
    # whom a notice asks: who was given something of its stream before it, and since the referral was received
    " asked AS (SELECT n.erasure_id, n.stream, d.client_id, bool_and(d.ended) AS ended,"
    "  coalesce(bool_or((d.epoch, d.sequence) >= (n.epoch, n.sequence)), false) AS acted"
    "  FROM erasure_notices n JOIN erasures e ON e.id = n.erasure_id JOIN referrals f ON f.id = e.referral_id JOIN doors d ON d.stream = n.stream"
    "  WHERE n.acknowledged_at IS NULL AND d.until >= f.received_at"
    "  AND (n.sequence IS NULL OR (d.since_epoch, d.since_sequence) < (n.epoch, n.sequence)) GROUP BY n.erasure_id, n.stream, d.client_id),"
    # who has not acted: who was asked, none of whose doors is past the number; an organization that reads by no door
    " waiting AS (SELECT erasure_id, stream, client_id, ended FROM asked WHERE NOT acted"
    " UNION ALL SELECT n.erasure_id, n.stream, n.stream, false FROM erasure_notices n WHERE n.acknowledged_at IS NULL AND n.stream LIKE 'organization:%'"
    "  AND NOT EXISTS (SELECT FROM asked a WHERE a.erasure_id = n.erasure_id AND a.stream = n.stream))"
)
_ACKNOWLEDGE = text(
    f"WITH {_READERS} UPDATE erasure_notices n SET acknowledged_at = now(),"  # noqa: S608 - a constant
    " acknowledged_by = CASE WHEN EXISTS (SELECT FROM asked a WHERE a.erasure_id = n.erasure_id AND a.stream = n.stream) THEN 'stream' ELSE 'no_reader' END"
    " WHERE n.acknowledged_at IS NULL AND n.sequence IS NOT NULL"
    " AND NOT EXISTS (SELECT FROM waiting w WHERE w.erasure_id = n.erasure_id AND w.stream = n.stream)"
)
_COMPLETE = text(
    "UPDATE erasures e SET completed_at = now() WHERE e.completed_at IS NULL"
    " AND NOT EXISTS (SELECT FROM erasure_notices n WHERE n.erasure_id = e.id AND n.acknowledged_at IS NULL)"
)
_UNCONFIRMED = text("SELECT DISTINCT departement FROM erasures WHERE completed_at IS NULL AND erased_at <= :until ORDER BY departement")
_WAITING = text(
    f"WITH {_READERS} SELECT erasure_id, stream, client_id, ended FROM waiting WHERE erasure_id = ANY(CAST(:ids AS uuid[])) ORDER BY 1, 2, 3"  # noqa: S608 - a constant
)


Expected = Mapping[str, Collection[str]]
"""By stream, the clients that are asked whether they ever showed themselves at a door or not: our own services in `internal`, and readers of topics."""


def _pairs(expected: Expected) -> dict[str, Any]:
    pairs = [(stream, client) for stream, clients in expected.items() for client in clients]
    return {"streams": [stream for stream, _ in pairs], "clients": [client for _, client in pairs]}


async def look(session: AsyncSession, expected: Expected) -> None:
    """Bring the register up to what the relay numbered and the readers said."""
    await session.execute(_PLACE)
    await session.execute(_ACKNOWLEDGE, _pairs(expected))
    await session.execute(_COMPLETE)


async def tell_unconfirmed(session: AsyncSession, now: datetime, after: timedelta) -> None:
    """The coordinators of départements where an erasure has waited for somebody longer than `after`: once a week, as long as it waits."""
    late = (await session.scalars(_UNCONFIRMED, {"until": now - after})).all()
    await notices.notify(session, *(notices.of_erasures_unconfirmed(departement, now) for departement in late), now=now)


async def confirm(
    session: AsyncSession, caller: Principal, expected: Expected, erasure_id: UUID, body: ConfirmationIn, now: datetime
) -> ErasureOut:
    """By hand. Raises NotFound, NotTold, OursToAct, AcknowledgedAlready, TimeImpossible."""
    found = await session.get(Erasure, erasure_id)
    if found is None or not _sees(caller, found):
        raise NotFound
    if body.stream == INTERNAL and not set(expected.get(INTERNAL, ())).isdisjoint(
        await _waited_for(session, expected, erasure_id, INTERNAL)
    ):
        raise OursToAct("Les services de Maillon confirment en effaçant eux-mêmes.", pointers=[("/stream", "Choisissez un autre flux.")])
    notice = await session.get(ErasureNotice, (erasure_id, body.stream), with_for_update=True, populate_existing=True)
    if notice is None:
        raise NotTold(
            "Cet effacement n'a pas été annoncé à ce destinataire.", pointers=[("/stream", "Choisissez un flux de cet effacement.")]
        )
    if notice.acknowledged_at is not None and notice.acknowledged_by != Acknowledgement.NO_READER:
        raise AcknowledgedAlready("Ce destinataire a déjà confirmé l'effacement.")
    check_day_since(body.confirmed_on, found.erased_at, now, "/confirmed_on")
    notice.acknowledged_at, notice.acknowledged_by = now, Acknowledgement.HAND
    notice.confirmed_on, notice.confirmed_how, notice.recorded_by = body.confirmed_on, body.how, caller.subject
    await session.flush()
    await session.execute(_COMPLETE)
    await session.refresh(found)
    detail = {"stream": body.stream, "how": str(body.how), "on": body.confirmed_on.isoformat()}
    await audit(
        session, caller, operation="confirm_erasure", subject=f"erasures/{erasure_id}", purpose=Purpose.PERSONS_RIGHTS, detail=detail
    )
    [told] = await register(session, [found], expected)
    return told


async def _waited_for(session: AsyncSession, expected: Expected, erasure_id: UUID, stream: str) -> list[str]:
    rows = await session.execute(_WAITING, {"ids": [erasure_id]} | _pairs(expected))
    return [row.client_id for row in rows if row.stream == stream]


def _notice(one: ErasureNotice, waiting: Mapping[str, bool]) -> NoticeOut:
    """`waiting`: who has not acted, and whether all that gave them anything are subscriptions that were ended."""
    if one.acknowledged_at is not None:
        state = Acknowledgement(one.acknowledged_by or Acknowledgement.STREAM)
    elif one.stream.startswith("organization:") and one.stream in waiting:
        # it is waited for under the name of its stream while nobody reads it; no client is called so
        state = Acknowledgement.NO_READER
    else:
        state = Acknowledgement.LEFT if waiting and all(waiting.values()) else Acknowledgement.WAITING
    return NoticeOut(
        stream=one.stream,
        sequence=one.sequence,
        state=state,
        acknowledged_at=None if state is Acknowledgement.NO_READER else one.acknowledged_at,
        confirmation=ConfirmationOut.of(one, how=one.confirmed_how) if state is Acknowledgement.HAND else None,
        waiting_for=list(waiting),
        left=[client for client, left in waiting.items() if left],
    )


def _sees(caller: Principal, erasure: Erasure) -> bool:
    return caller.role in (Role.ADMINISTRATOR, Role.AUDITOR) or caller.covers_departement(erasure.departement)


async def erasures(
    session: AsyncSession, caller: Principal, expected: Expected, *, waiting: bool | None, after: Key | None, limit: int
) -> list[ErasureOut]:
    """The register, oldest first; `waiting`: only those that somebody has not acted on yet (or only the others)."""
    query = select(Erasure)
    departements = caller.departements()
    if caller.role is Role.COORDINATOR and departements is not None:
        query = query.where(col(Erasure.departement).in_(departements))
    if waiting is not None:
        query = query.where(col(Erasure.completed_at).is_(None) if waiting else col(Erasure.completed_at).is_not(None))
    if after is not None:
        query = query.where(col(Erasure.id) > after[0])
    return await register(session, (await session.scalars(query.order_by(col(Erasure.id)).limit(limit + 1))).all(), expected)


async def erasure(session: AsyncSession, caller: Principal, expected: Expected, erasure_id: UUID) -> ErasureOut:
    """Raises NotFound."""
    found = await session.get(Erasure, erasure_id)
    if found is None or not _sees(caller, found):
        raise NotFound
    [told] = await register(session, [found], expected)
    return told


async def register(session: AsyncSession, rows: Sequence[Erasure], expected: Expected) -> list[ErasureOut]:
    """These erasures, with who has acted on each, and who has not."""
    ids = [row.id for row in rows]
    notices = (
        await session.scalars(select(ErasureNotice).where(col(ErasureNotice.erasure_id).in_(ids)).order_by(col(ErasureNotice.stream)))
    ).all()
    waiting: dict[tuple[UUID, str], dict[str, bool]] = {}
    for row in await session.execute(_WAITING, {"ids": ids} | _pairs(expected)):
        waiting.setdefault((row.erasure_id, row.stream), {})[row.client_id] = row.ended
    return [
        ErasureOut(
            id=row.id,
            referral_id=row.referral_id,
            departement=row.departement,
            person_ids=row.person_ids,
            whole=row.whole,
            cause=row.cause,
            erased_at=row.erased_at,
            completed_at=row.completed_at,
            notices=[_notice(one, waiting.get((row.id, one.stream), {})) for one in notices if one.erasure_id == row.id],
        )
        for row in rows
    ]

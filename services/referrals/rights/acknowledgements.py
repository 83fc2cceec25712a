"""Who has acted on an erasure: the numbers under which it was said, held against how far each reader of those streams says it is.

A reader acknowledges by `PUT /v1/streams/{stream}/position`; our own services do it with their cursors,
but never past an event that they parked; a webhook by its 2xx. Who never reads (an organization that answers by links) confirms it by other means, which is
recorded by hand. An erasure is complete when every known reader of every stream it was said in is past it; our services and the organizations that were
asked must be among them, or have confirmed it.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import ClassVar
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
from services.referrals.models import Erasure, ErasureNotice
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
    "readers AS (SELECT stream, client_id, epoch, sequence FROM stream_readers"
    " UNION ALL SELECT stream, client_id, epoch, sequence FROM subscriptions),"
    # who has not: a reader none of whose doors is past the number, one of ours that never said anything, an organization that never did
    " waiting AS (SELECT n.erasure_id, n.stream, r.client_id FROM erasure_notices n JOIN readers r ON r.stream = n.stream"
    "  WHERE n.acknowledged_at IS NULL GROUP BY n.erasure_id, n.stream, r.client_id"
    "  HAVING NOT coalesce(bool_or((r.epoch, r.sequence) >= (n.epoch, n.sequence)), false)"
    " UNION ALL SELECT n.erasure_id, n.stream, ours.client_id FROM erasure_notices n, unnest(CAST(:ours AS text[])) AS ours (client_id)"
    "  WHERE n.acknowledged_at IS NULL AND n.stream = 'internal'"
    "  AND NOT EXISTS (SELECT FROM readers r WHERE r.stream = n.stream AND r.client_id = ours.client_id)"
    " UNION ALL SELECT n.erasure_id, n.stream, n.stream FROM erasure_notices n WHERE n.acknowledged_at IS NULL AND n.stream LIKE 'organization:%'"
    "  AND NOT EXISTS (SELECT FROM readers r WHERE r.stream = n.stream))"
)
_ACKNOWLEDGE = text(
    f"WITH {_READERS} UPDATE erasure_notices n SET acknowledged_at = now(),"  # noqa: S608 - a constant
    " acknowledged_by = CASE WHEN EXISTS (SELECT FROM readers r WHERE r.stream = n.stream) THEN 'stream' ELSE 'no_reader' END"
    " WHERE n.acknowledged_at IS NULL AND n.sequence IS NOT NULL"
    " AND NOT EXISTS (SELECT FROM waiting w WHERE w.erasure_id = n.erasure_id AND w.stream = n.stream)"
)
_COMPLETE = text(
    "UPDATE erasures e SET completed_at = now() WHERE e.completed_at IS NULL"
    " AND NOT EXISTS (SELECT FROM erasure_notices n WHERE n.erasure_id = e.id AND n.acknowledged_at IS NULL)"
)
_WAITING = text(
    f"WITH {_READERS} SELECT erasure_id, stream, client_id FROM waiting WHERE erasure_id = ANY(CAST(:ids AS uuid[])) ORDER BY 1, 2, 3"  # noqa: S608 - a constant
)


async def look(session: AsyncSession, ours: Collection[str]) -> None:
    """Bring the register up to what the relay numbered and the readers said. `ours`: the clients of our own services."""
    await session.execute(_PLACE)
    await session.execute(_ACKNOWLEDGE, {"ours": list(ours)})
    await session.execute(_COMPLETE)


async def confirm(
    session: AsyncSession, caller: Principal, ours: Collection[str], erasure_id: UUID, body: ConfirmationIn, now: datetime
) -> ErasureOut:
    """By hand. Raises NotFound, NotTold, OursToAct, AcknowledgedAlready, TimeImpossible."""
    found = await session.get(Erasure, erasure_id)
    if found is None or not _sees(caller, found):
        raise NotFound
    if body.stream == INTERNAL:
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
    [told] = await register(session, [found], ours)
    return told


def _notice(one: ErasureNotice, waiting_for: list[str]) -> NoticeOut:
    if one.acknowledged_at is not None:
        state = Acknowledgement(one.acknowledged_by or Acknowledgement.STREAM)
    else:
        # an organization is waited for under the name of its stream while nobody reads it; no client is called so
        unread = one.stream.startswith("organization:") and one.stream in waiting_for
        state = Acknowledgement.NO_READER if unread else Acknowledgement.WAITING
    return NoticeOut(
        stream=one.stream,
        sequence=one.sequence,
        state=state,
        acknowledged_at=None if state is Acknowledgement.NO_READER else one.acknowledged_at,
        confirmation=ConfirmationOut.of(one, how=one.confirmed_how) if state is Acknowledgement.HAND else None,
        waiting_for=waiting_for,
    )


def _sees(caller: Principal, erasure: Erasure) -> bool:
    return caller.role in (Role.ADMINISTRATOR, Role.AUDITOR) or caller.covers_departement(erasure.departement)


async def erasures(
    session: AsyncSession, caller: Principal, ours: Collection[str], *, waiting: bool | None, after: Key | None, limit: int
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
    return await register(session, (await session.scalars(query.order_by(col(Erasure.id)).limit(limit + 1))).all(), ours)


async def erasure(session: AsyncSession, caller: Principal, ours: Collection[str], erasure_id: UUID) -> ErasureOut:
    """Raises NotFound."""
    found = await session.get(Erasure, erasure_id)
    if found is None or not _sees(caller, found):
        raise NotFound
    [told] = await register(session, [found], ours)
    return told


async def register(session: AsyncSession, rows: Sequence[Erasure], ours: Collection[str]) -> list[ErasureOut]:
    """These erasures, with who has acted on each, and who has not."""
    ids = [row.id for row in rows]
    notices = (
        await session.scalars(select(ErasureNotice).where(col(ErasureNotice.erasure_id).in_(ids)).order_by(col(ErasureNotice.stream)))
    ).all()
    waiting: dict[tuple[UUID, str], list[str]] = {}
    for row in await session.execute(_WAITING, {"ids": ids, "ours": list(ours)}):
        waiting.setdefault((row.erasure_id, row.stream), []).append(row.client_id)
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
            notices=[_notice(one, waiting.get((row.id, one.stream), [])) for one in notices if one.erasure_id == row.id],
        )
        for row in rows
    ]

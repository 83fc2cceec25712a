"""Erasing: the keys of what was sealed are destroyed, the hash by which a person was found goes, the counts stay.

One person of a referral, or all of it. The fact is said to everybody who was told of the referral, and each must say that it has
acted on it: `erasures` and `erasure_notices` are the register (GET /v1/erasures). The narrative speaks of everybody: it goes with the
last person, or when it is asked for. The words of an alert or of a requisition go with the last person they name; that it was sent, or
asked for, stays. Those of an alert outlive a refusal to be contacted, which is no reason to forget what the law had somebody send (CASF
L.226-2-1): they go when one of those they name asks for it, also once they are erased themselves, or at the end of the retention. What is not
sealed (roles, codes, places, dates) stays, for figures.
The police's own reference stays too, so that the same case
sent again is not taken up anew, and its list shows no erasure; at the end of the retention it goes (retention.py).
What was typed about the referral into a form of the desk and waits to be sent (desk/kept.py) goes whole: who it speaks of, nobody can tell.

A backup restored from before an erasure holds the keys again: each erasure is also written to the service's log, out of the database,
and `python -m services.referrals erase-again LOG` destroys the keys once more (libs.chassis.streams: after a new epoch).
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from libs.chassis import outbox
from libs.chassis.ids import new_id
from libs.chassis.streams import AUDIT
from libs.chassis.vault import Vault
from libs.contracts.referrals import ReferralErased
from libs.contracts.types import Code
from libs.contracts.vocabularies import CloseReason, ReferralStatus, Role
from services.referrals import notices
from services.referrals.delays.calls import recount
from services.referrals.domain import Move
from services.referrals.models import Person, Referral
from services.referrals.orientations.following import end_erased
from services.referrals.orientations.models import Orientation
from services.referrals.rights.held import check_not_held
from services.referrals.rights.models import Erasure, ErasureNotice
from services.referrals.working.applied import leave_to_minors
from services.referrals.working.corrections import corrected_state
from services.referrals.working.work import note_move, say_closed

_log = structlog.get_logger(__name__)


class ErasureCause(Code):
    REQUEST = "request", "Demande de la personne"
    REFUSAL = "refusal", "Refus d'être contacté"
    RETENTION = "retention", "Fin de la durée de conservation"
    RESTORED = "restored", "Effacement refait après la restauration d'une sauvegarde"


_CLOSED_BY: Final[Mapping[ErasureCause, CloseReason]] = {
    ErasureCause.REQUEST: CloseReason.DECLINED_BY_PERSON,
    ErasureCause.REFUSAL: CloseReason.CONTACT_REFUSED,
    ErasureCause.RETENTION: CloseReason.COMPLETED,
    ErasureCause.RESTORED: CloseReason.COMPLETED,
}
"""Why an open referral ends when nobody is left in it."""

_WORDS: Final[Mapping[str, str]] = {
    table: f"UPDATE {table} SET content = '' WHERE referral_id = :referral AND content <> ''"  # noqa: S608 - constants
    " AND (CAST(:everybody AS boolean)"
    " OR (person_ids && CAST(:named AS uuid[]) AND person_ids <@ CAST(:gone AS uuid[]))) RETURNING key_id"
    for table in ("alerts", "requisitions")
}
"""Besides the persons' and the narrative's: what blanks words that are sealed of several persons, once nobody whom they name is left, one of them
erased now; and gives their keys."""

_TYPED: Final = text(
    "DELETE FROM desk_kept_forms WHERE split_part(path, '/', 4) IN (SELECT CAST(CAST(:referral AS uuid) AS text)"
    " UNION ALL SELECT CAST(id AS text) FROM orientations WHERE referral_id = :referral"
    " UNION ALL SELECT CAST(id AS text) FROM requisitions WHERE referral_id = :referral)"
)
"""`/desk/referrals/<id>/close`, and the pages of its orientations and requisitions."""


async def erase(
    session: AsyncSession,
    vault: Vault,
    referral: Referral,
    person_ids: Collection[UUID],
    cause: ErasureCause,
    now: datetime,
    *,
    by: str,
    narrative: bool = False,
    alerts: bool = True,
) -> UUID | None:
    """Erase persons of a referral that the caller has locked. With the last one goes the whole referral, closed first when it was open.

    `narrative`: destroy it now, whoever is left. `alerts`: their words go as those of requisitions. `by`: who asked, the subject of the token, or the
    job. Gives the id in the register; `None` when nothing was left to erase. Raises HeldBySupport, HeldByRequisition of what a person asked for; the jobs pass
    over what is held.
    """
    persons = (await session.scalars(select(Person).where(col(Person.referral_id) == referral.id).order_by(col(Person.position)))).all()
    living = [person for person in persons if person.content]
    named = [person for person in persons if person.id in person_ids]
    going = [person for person in named if person.content]
    whole = referral.status != ReferralStatus.ERASED and len(going) == len(living)
    if cause is ErasureCause.REQUEST:
        await check_not_held(session, referral.id, [person.id for person in named], narrative=whole or narrative)
    keys = [person.key_id for person in going]
    if (whole or narrative) and referral.narrative is not None and referral.narrative_key_id is not None:
        keys.append(referral.narrative_key_id)
        referral.narrative = None
    words = await _blank_words(session, referral, persons, named, whole=whole, alerts=alerts)
    if not keys and not words:
        return None
    keys += words
    erased = [person.id for person in (named if words else going)]
    await leave_to_minors(session, vault, living, going)
    await vault.destroy(session, *keys)
    await session.execute(_TYPED, {"referral": referral.id})
    for person in going:
        person.content, person.identity_hash, person.name_hash = b"", None, None
    asked = await session.scalars(
        select(col(Orientation.organization_id))
        .where(col(Orientation.referral_id) == referral.id, col(Orientation.person_id).in_([person.id for person in going]))
        .distinct()
        .order_by(col(Orientation.organization_id))
        .limit(100)
    )
    organizations = tuple(asked)
    await end_erased(session, referral, [person.id for person in going], now)
    if whole:
        await _end(session, referral, cause, now, by=by)
        if referral.post_id is not None:
            await notices.untrue(session, notices.of_post(referral.post_id), referral.id)
    first = referral.first_contact_at
    if not whole:  # where others are left, one of them may be whom it is there to help now: what counts is told, the police never
        await recount(session, referral)
    referral.version += 1
    await session.flush()
    made = await _register(
        session,
        referral,
        erased,
        organizations,
        cause,
        now,
        whole=whole,
        narrative=whole or narrative,
        alerts=alerts,
        by=by,
    )
    if referral.first_contact_at != first:
        await outbox.append(session, await corrected_state(session, referral, persons, now))
    return made


async def _blank_words(
    session: AsyncSession, referral: Referral, persons: Collection[Person], named: Collection[Person], *, whole: bool, alerts: bool
) -> list[UUID]:
    """What speaks of nobody by name goes with everybody. Gives the keys, which the caller destroys."""
    given = {
        "referral": referral.id,
        "everybody": whole or len(named) == len(persons),
        "named": [person.id for person in named],
        "gone": [person.id for person in persons if not person.content or person in named],
    }
    statements = [statement for table, statement in _WORDS.items() if alerts or table != "alerts"]
    return [key for statement in statements for key in await session.scalars(text(statement), given)]


async def _end(session: AsyncSession, referral: Referral, cause: ErasureCause, now: datetime, *, by: str) -> None:
    """Closed first when it was open; both are moves of its timeline. What a person asks for is erased by the coordination, the rest by a job."""
    role = Role.COORDINATOR if cause is ErasureCause.REQUEST else None
    status = ReferralStatus(referral.status)
    if status is not ReferralStatus.CLOSED:
        note_move(
            session,
            referral,
            Move.CLOSE_UNROUTED if status is ReferralStatus.UNROUTED else Move.CLOSE,
            now,
            post_id=referral.post_id,
            reason=_CLOSED_BY[cause],
            actor=by,
            role=role,
        )
        await say_closed(session, referral, _CLOSED_BY[cause], now)
    note_move(session, referral, Move.ERASE, now, post_id=referral.post_id, reason=cause, actor=by, role=role)


async def _register(
    session: AsyncSession,
    referral: Referral,
    person_ids: list[UUID],
    organizations: tuple[UUID, ...],
    cause: ErasureCause,
    now: datetime,
    *,
    whole: bool,
    narrative: bool,
    alerts: bool,
    by: str,
) -> UUID:
    erasure = Erasure(
        id=new_id(),
        referral_id=referral.id,
        departement=referral.departement,
        person_ids=person_ids,
        whole=whole,
        cause=cause,
        erased_at=now,
        erased_by=by,
    )
    session.add(erasure)
    await session.flush()
    told = await outbox.append(
        session,
        ReferralErased(
            referral_id=referral.id,
            departement=referral.departement,
            person_ids=tuple(person_ids),
            organization_ids=organizations,
            whole=whole,
            erased_at=now,
        ),
    )
    session.add_all(
        ErasureNotice(erasure_id=erasure.id, stream=one.stream, event_id=one.event_id, epoch=None, sequence=None)
        for one in told
        if one.stream != AUDIT
    )
    await session.flush()
    _log.info(
        "erasure.done",
        referral_id=str(referral.id),
        person_ids=[str(one) for one in person_ids],
        narrative=narrative,
        alerts=alerts,
        erased_at=now.isoformat(),
    )
    return erasure.id

"""Alerts: an information préoccupante (CASF L.226-2-1) or a report to the prosecutor (CASF L.226-4, CPP 40), noted as sent.

Maillon sends nothing: it keeps what, to whom, when, by whom, about whom. What is written in words is sealed with a key of its own, which is destroyed
when nobody it names is left (erasure.py); that it was sent stays. What was noted by mistake is withdrawn: it stays in sight, and counts no longer.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar, Final
from uuid import UUID

from sqlalchemy import Select, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from libs.chassis import outbox
from libs.chassis.ids import new_id
from libs.chassis.refusals import Conflict, Invalid
from libs.chassis.security import Principal
from libs.chassis.vault import DataKey, Vault
from libs.contracts.referrals import AlertRecorded, AlertWithdrawn
from libs.contracts.types import departement_of
from libs.contracts.vocabularies import AgeBand, AlertKind
from services.referrals import notices
from services.referrals.domain import MINORS, Move
from services.referrals.justice.models import Alert
from services.referrals.justice.schemas import AlertIn, AlertMadeOut, AlertOut, AlertWords, Mistake, WithdrawAlertIn
from services.referrals.models import Person
from services.referrals.rules import check_kept, check_past
from services.referrals.working.work import locked_for, people_of, still_noted, take_back

ALERT: Final = "alert/words"
"""The vault's context."""


class NotAMinor(Invalid):
    """An information préoccupante is about children (CASF L.226-2-1)."""

    type: ClassVar[str] = "not-a-minor"
    title: ClassVar[str] = "Personne majeure"


class NobodyConcerned(Invalid):
    type: ClassVar[str] = "nobody-concerned"
    title: ClassVar[str] = "Aucune personne concernée"


class WithdrawnAlready(Conflict):
    type: ClassVar[str] = "alert-withdrawn-already"
    title: ClassVar[str] = "Déjà retirée"


def check_concerned(kind: AlertKind, persons: Sequence[Person], children_present: int) -> None:
    """Whom an alert may concern. Raises NotAMinor, NobodyConcerned."""
    if not persons and not (kind is AlertKind.CONCERNING_INFORMATION and children_present):
        raise NobodyConcerned(
            "Indiquez la ou les personnes concernées.",
            pointers=[("/person_ids", "Aucune personne n'est indiquée, et la saisine ne signale pas d'enfant présent.")],
        )
    adults = [place for place, one in enumerate(persons) if one.age_band not in MINORS and one.age_band != AgeBand.UNKNOWN]
    if kind is AlertKind.CONCERNING_INFORMATION and adults:
        raise NotAMinor(
            "Une information préoccupante concerne des mineurs ; pour un majeur en danger, faites un signalement au procureur.",
            pointers=[(f"/person_ids/{place}", "Cette personne est majeure.") for place in adults],
        )


async def record(session: AsyncSession, caller: Principal, vault: Vault, referral_id: UUID, body: AlertIn, now: datetime) -> AlertMadeOut:
    """Raises NotFound, MoveRefused, UnknownPerson, ContentErased, NotAMinor, NobodyConcerned, TimeImpossible."""
    check_past(body.sent_at, now, "/sent_at")
    referral = await locked_for(session, caller, referral_id, Move.ALERT)
    persons = await people_of(session, referral.id, body.person_ids)
    for person in persons:
        check_kept(person.content)
    check_concerned(body.kind, persons, referral.children_present)
    key: DataKey | None = None
    if body.reference is not None or body.note is not None:
        key = await vault.new_key(session, "alert")
    words = AlertWords(reference=body.reference, note=body.note).model_dump_json().encode()
    alert = Alert(
        id=new_id(),
        referral_id=referral.id,
        kind=body.kind,
        recipient=body.court or "",
        departement=departement_of(body.court) if body.court is not None else body.departement or referral.departement,
        person_ids=body.person_ids,
        sent_at=body.sent_at,
        recorded_at=now,
        recorded_by=caller.subject,
        recorded_by_role=caller.role,
        key_id=key.id if key is not None else None,
        content=key.seal(words, context=ALERT) if key is not None else None,
    )
    session.add(alert)
    referral.version += 1
    await session.flush()
    await outbox.append(
        session,
        AlertRecorded(
            referral_id=referral.id,
            departement=referral.departement,
            alert_id=alert.id,
            post_id=referral.post_id,
            kind=body.kind,
            sent_at=body.sent_at,
            recorded_at=now,
        ),
        occurred_at=body.sent_at,
    )
    await notices.tell_post(session, caller, referral, notices.NoticeKind.REFERRAL_CHANGED, now)
    return AlertMadeOut(id=alert.id, referral_id=referral.id, version=referral.version)


async def withdraw(
    session: AsyncSession, caller: Principal, referral_id: UUID, alert_id: UUID, body: WithdrawAlertIn, now: datetime
) -> AlertMadeOut:
    """Raises NotFound, MoveRefused, WithdrawnAlready."""
    referral = await locked_for(session, caller, referral_id, Move.ALERT)
    already = WithdrawnAlready("Cette information préoccupante ou ce signalement a déjà été retiré.")
    alert = await still_noted(session, referral.id, Alert, alert_id, already)
    await take_back(session, caller, referral, alert, body.reason, now)
    left: list[str] = await session.scalar(kinds_sent(referral.id))
    await outbox.append(
        session,
        AlertWithdrawn(
            referral_id=referral.id,
            departement=referral.departement,
            alert_id=alert.id,
            post_id=referral.post_id,
            kind=AlertKind(alert.kind),
            last=alert.kind not in left,
            withdrawn_at=now,
        ),
    )
    await notices.tell_post(session, caller, referral, notices.NoticeKind.REFERRAL_CHANGED, now)
    return AlertMadeOut(id=alert.id, referral_id=referral.id, version=referral.version)


async def of_referral(session: AsyncSession, vault: Vault, referral_id: UUID) -> list[AlertOut]:
    """Oldest first, their words opened."""
    rows = (
        await session.scalars(select(Alert).where(col(Alert.referral_id) == referral_id).order_by(col(Alert.sent_at), col(Alert.id)))
    ).all()
    keys = await vault.open_keys(session, [row.key_id for row in rows if row.key_id is not None])
    return [_told(row, keys.get(row.key_id) if row.key_id is not None else None) for row in rows]


def _told(row: Alert, key: DataKey | None) -> AlertOut:
    words = AlertWords(reference=None, note=None)
    if key is not None and row.content:
        words = AlertWords.model_validate_json(key.open(row.content, context=ALERT))
    return AlertOut(
        id=row.id,
        referral_id=row.referral_id,
        kind=AlertKind(row.kind),
        departement=row.departement,
        court=row.recipient or None,
        person_ids=row.person_ids,
        sent_at=row.sent_at,
        recorded_at=row.recorded_at,
        recorded_by=row.recorded_by,
        reference=words.reference,
        note=words.note,
        erased=row.key_id is not None and not row.content,
        withdrawn_at=row.withdrawn_at,
        withdrawn_because=Mistake(row.withdrawn_because) if row.withdrawn_because is not None else None,
    )


def kinds_sent(referral_id: UUID) -> Select[Any]:
    """The kinds of what was sent for a referral."""
    kinds = select(func.coalesce(func.array_agg(col(Alert.kind)), text("'{}'")))
    return kinds.where(col(Alert.withdrawn_at).is_(None), col(Alert.referral_id) == referral_id)

"""What is held on one person of a referral, gathered from every table of `held.EXPORTED`; nothing of the other persons."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import SQLModel, col

from libs.chassis.audit import audit
from libs.chassis.refusals import Invalid, NotFound
from libs.chassis.security import Principal
from libs.chassis.vault import DataKey, Vault
from libs.contracts import referrals as said
from libs.contracts.envelope import Event
from libs.contracts.types import civil_day
from libs.contracts.vocabularies import OrientationStatus, PersonRole, Purpose, ReferralStatus
from services.referrals import queries
from services.referrals.delays.models import Overdue
from services.referrals.exports.held import LEFT_OUT, OF_OTHERS, REFERENCE, SHARED
from services.referrals.exports.names import names_of
from services.referrals.exports.recipients import facts_of_moves, facts_of_orientation, recipients
from services.referrals.exports.schemas import (
    ExportedAssessment,
    ExportedContact,
    ExportedCorrection,
    ExportedErasure,
    ExportedInterview,
    ExportedLink,
    ExportedMove,
    ExportedNotice,
    ExportedOrientation,
    ExportedOverdue,
    ExportedPerson,
    ExportedReferral,
    ExportOut,
    LeftOut,
    Reading,
)
from services.referrals.models import Person, Referral
from services.referrals.orientations.models import Orientation, OrientationLink
from services.referrals.orientations.telling import reason_text_of
from services.referrals.persons import NARRATIVE, opened_content
from services.referrals.rights import acknowledgements, retention
from services.referrals.rights.models import Erasure
from services.referrals.schemas import PersonContent
from services.referrals.working.corrections_schemas import ChangeOut
from services.referrals.working.models import Assessment, ContactAttempt, CorrectedContent, Correction, Interview, Moved
from services.referrals.working.work import content_of, narrative_of

M = TypeVar("M", bound=SQLModel)


class WrongPurpose(Invalid):
    """An export is made for the person who asks for it, and for nothing else."""

    type: ClassVar[str] = "wrong-purpose"
    title: ClassVar[str] = "Motif non prévu"


READINGS: Final[Mapping[str, str]] = {
    "read_referral": "Lecture du dossier",
    "read_timeline": "Lecture de la chronologie",
    "list_corrections": "Lecture des corrections",
    "read_orientation": "Lecture par la structure sollicitée, ou de l'orientation",
    "show_answer_page": "Page de réponse ouverte par la structure sollicitée",
    "export_person": "Export au titre du droit d'accès",
}
"""Operations of the audit log by which somebody read content of the person. The others would tell what another person asked for, of an inquiry, or of an alert."""

_ERASED: Final = "Vos données ont été effacées ; il n'en reste que des codes et des dates, pour les statistiques."
_ERASED_BUT_SENT: Final = (
    "Vos données ont été effacées ; il en reste des codes et des dates, pour les statistiques."
    " Ce que la loi a pu faire transmettre pour protéger une personne est gardé, s'il y en a,"
    " jusqu'à la fin de la conservation, ou jusqu'à ce que son effacement soit demandé."
)
"""Until the end of the retention, of whoever was erased before: whether anything was sent, and is erased by now, an export does not tell (LEFT_OUT)."""
_OPEN: Final = (
    "La saisine est encore ouverte : la fin de la conservation n'est pas fixée."
    " Une fois close, vos données seront effacées {days} jours après le dernier contact."
)
_CLOSED: Final = (
    "Vos données sont effacées {days} jours après le dernier contact : un nouveau contact d'ici là prolonge cette durée,"
    " comme l'accompagnement d'une personne de cette situation, ou la loi."
)
"""How long the person's data are kept, by what the retention does (rights/retention.py)."""

_AUDITED = text(
    "SELECT data FROM (SELECT 0 AS door, sequence AS place, data FROM stream_events WHERE stream = 'audit' AND subject = ANY(CAST(:subjects AS text[]))"
    " UNION ALL SELECT 1, position, data FROM outbox WHERE stream = 'audit' AND subject = ANY(CAST(:subjects AS text[]))) AS entries ORDER BY door, place"
)


def check_purpose(purpose: Purpose) -> None:
    """Raises WrongPurpose."""
    if purpose is not Purpose.PERSONS_RIGHTS:
        raise WrongPurpose("Un export se fait au seul titre des droits des personnes : X-Purpose: persons_rights.")


async def export(
    session: AsyncSession, caller: Principal, vault: Vault, referral_id: UUID, person_id: UUID, *, retention_days: int, now: datetime
) -> ExportOut:
    """Audited in the same transaction. Raises NotFound."""
    referral = await queries.visible(session, caller, referral_id)
    person = await session.get(Person, person_id)
    if person is None or person.referral_id != referral.id:
        raise NotFound
    others = await session.scalar(
        select(func.count()).select_from(Person).where(col(Person.referral_id) == referral.id, col(Person.id) != person.id)
    )
    # where only an alleged perpetrator or a witness is registered, what is written speaks of a victim all the same
    alone = person.role == PersonRole.VICTIM and not others and not referral.children_present
    gathered = _Gathered(session, vault, referral, person, alone=alone)
    await audit(
        session, caller, operation="export_person", subject=f"referrals/{referral.id}/persons/{person.id}", purpose=Purpose.PERSONS_RIGHTS
    )
    found = await gathered.all(retention_days, now)
    return found.model_copy(update={"names": await names_of(session, found)})


class _Gathered:
    """One export in the making."""

    def __init__(self, session: AsyncSession, vault: Vault, referral: Referral, person: Person, *, alone: bool) -> None:
        self._session, self._vault = session, vault
        self._referral, self._person, self._alone = referral, person, alone
        self._facts: set[type[Event]] = set()

    async def all(self, retention_days: int, now: datetime) -> ExportOut:
        moved = await self._of_referral(Moved, Moved.at)
        moves = [self._move(row) for row in moved]
        first = moved[0] if moved else None
        self._facts |= facts_of_moves(
            [one.move for one in moves], routed=(first.post_before if first is not None else self._referral.post_id) is not None
        )
        overdue = await self._of_referral(Overdue, Overdue.due_at)
        contacts = [ExportedContact.of(row) for row in await self._of_person(ContactAttempt, ContactAttempt.attempted_at)]
        assessments = [ExportedAssessment.of(row) for row in await self._of_person(Assessment, Assessment.recorded_at)]
        held = [row for row in await self._of_referral(Interview, Interview.held_at) if self._person.id in row.person_ids]
        interviews = [ExportedInterview.of(row) for row in held]
        corrections = await self._corrections()
        orientations = await self._orientations()
        for happened, event in (
            (overdue, said.ReferralOverdue),
            (contacts, said.ContactAttempted),
            ([one for one in contacts if one.withdrawn_at is not None], said.ContactWithdrawn),
            (assessments, said.AssessmentRecorded),
            ([one for one in assessments if one.withdrawn_at is not None], said.AssessmentWithdrawn),
            (interviews, said.InterviewHeld),
            ([one for one in interviews if one.withdrawn_at is not None], said.InterviewWithdrawn),
            (corrections, said.ReferralCorrected),
        ):
            if happened:
                self._facts.add(event)
        organizations: dict[UUID, set[type[Event]]] = {}
        for one in orientations:
            told = facts_of_orientation(
                OrientationStatus(one.status),
                answered=one.answered_at is not None,
                started=one.started_at is not None,
                updated=one.updated_at is not None,
            )
            self._facts |= told
            organizations.setdefault(one.organization_id, set()).update(told)
        erasures = await self._erasures(organizations)
        if erasures:
            self._facts.add(said.ReferralErased)
            for told in organizations.values():
                told.add(said.ReferralErased)
        content = await content_of(self._session, self._vault, self._person)
        last = await retention.last_contact(self._session, self._referral.id)
        gone = _ERASED_BUT_SENT if self._referral.client_id else _ERASED
        kept = gone if content is None else _CLOSED if self._referral.status == ReferralStatus.CLOSED else _OPEN
        return ExportOut(
            made_at=now,
            person=ExportedPerson.of(
                self._person,
                **{name: getattr(content, name) if content else None for name in PersonContent.model_fields},
                found_by_identity=self._person.identity_hash is not None,
                found_by_name=self._person.name_hash is not None,
                erased=content is None,
            ),
            referral=ExportedReferral.of(
                self._referral,
                alone=self._alone,
                narrative=await narrative_of(self._session, self._vault, self._referral) if self._alone else None,
                **({} if self._alone else dict.fromkeys(SHARED)),
            ),
            moves=moves,
            overdues=[ExportedOverdue.of(row) for row in overdue] if self._alone else [],  # how urgent it is, by their due times
            contacts=contacts,
            interviews=interviews,
            assessments=assessments,
            orientations=orientations,
            corrections=corrections,
            erasures=erasures,
            recipients=recipients(self._facts, organizations, departement=self._referral.departement, client_id=self._referral.client_id),
            readings=await self._readings([one.id for one in orientations]),
            kept_until=civil_day(last + timedelta(days=retention_days)) if kept == _CLOSED else None,
            kept_because=kept.format(days=retention_days),
            left_out=[LeftOut(what=what, why=why) for what, why in (REFERENCE, *([] if self._alone else [OF_OTHERS]), *LEFT_OUT.values())],
            names={},
        )

    async def _rows(self, table: type[M], condition: ColumnElement[bool], by: Any) -> Sequence[M]:
        return (await self._session.scalars(select(table).where(condition).order_by(col(by), col(table.id)))).all()  # type: ignore[attr-defined]  # every table here has an id

    async def _of_referral(self, table: type[M], by: Any) -> Sequence[M]:
        return await self._rows(table, col(table.referral_id) == self._referral.id, by)  # type: ignore[attr-defined]  # every table given here has it

    async def _of_person(self, table: type[M], by: Any) -> Sequence[M]:
        return await self._rows(table, col(table.person_id) == self._person.id, by)  # type: ignore[attr-defined]  # every table given here has it

    def _move(self, row: Moved) -> ExportedMove:
        # a reason (declined by the person, contact refused) may be another person's
        return ExportedMove.of(row, status=row.status_after, post_id=row.post_after, reason=row.reason if self._alone else None)

    async def _key(self, key_id: UUID | None) -> DataKey | None:
        return None if key_id is None else (await self._vault.open_keys(self._session, [key_id])).get(key_id)

    async def _corrections(self) -> list[ExportedCorrection]:
        made = await self._of_referral(Correction, Correction.corrected_at)
        kept = (
            await self._session.scalars(select(CorrectedContent).where(col(CorrectedContent.correction_id).in_([one.id for one in made])))
        ).all()
        found = []
        for one in made:
            changes = [
                ChangeOut(field=field, **values)
                for field, values in sorted(one.changes.items())
                # of the situation, what was learned meanwhile is what somebody told
                if field.startswith(f"/persons/{self._person.id}/") or (self._alone and not field.startswith("/persons/"))
            ]
            mine = [before for before in kept if before.correction_id == one.id and before.person_id == self._person.id]
            narrative = [before for before in kept if before.correction_id == one.id and before.person_id is None and self._alone]
            if changes or mine or narrative:
                found.append(
                    ExportedCorrection.of(
                        one,
                        changes=changes,
                        before=await self._before(mine),
                        narrative_before=await self._narrative_before(narrative),
                    )
                )
        return found

    async def _before(self, kept: Sequence[CorrectedContent]) -> PersonContent | None:
        for one in kept:
            key = await self._key(one.key_id)
            if key is not None:
                return opened_content(key, one.before)
        return None

    async def _narrative_before(self, kept: Sequence[CorrectedContent]) -> str | None:
        for one in kept:
            key = await self._key(one.key_id)
            if key is not None:
                return key.open(one.before, context=NARRATIVE).decode()
        return None

    async def _orientations(self) -> list[ExportedOrientation]:
        rows = await self._of_person(Orientation, Orientation.requested_at)
        links = (
            await self._session.scalars(
                select(OrientationLink)
                .where(col(OrientationLink.orientation_id).in_([one.id for one in rows]))
                .order_by(col(OrientationLink.created_at), col(OrientationLink.id))
            )
        ).all()
        return [
            ExportedOrientation.of(
                one,
                reason_text=await reason_text_of(self._session, self._vault, one, self._person),
                links=[ExportedLink.of(link) for link in links if link.orientation_id == one.id],
            )
            for one in rows
        ]

    async def _erasures(self, organizations: Mapping[UUID, object]) -> list[ExportedErasure]:
        rows = [one for one in await self._of_referral(Erasure, Erasure.erased_at) if self._person.id in one.person_ids]
        rows = rows[:1]  # a later one is of words about an alert, of which an export tells nothing
        own = {f"organization:{one}" for one in organizations}  # to whom another person was oriented is that person's
        return [
            ExportedErasure.of(
                one,
                notices=[
                    ExportedNotice.of(notice)
                    for notice in one.notices
                    if not notice.stream.startswith("organization:") or notice.stream in own
                ],
            )
            for one in await acknowledgements.register(self._session, rows, {})
        ]

    async def _readings(self, orientations: Sequence[UUID]) -> list[Reading]:
        referral = f"referrals/{self._referral.id}"
        subjects = [referral, f"{referral}/persons/{self._person.id}", *(f"orientations/{one}" for one in orientations)]
        entries = [json.loads(bytes(row.data)) for row in await self._session.execute(_AUDITED, {"subjects": subjects})]
        return [
            Reading.model_validate_json(
                json.dumps(
                    {
                        "at": one["at"],
                        "operation": one["operation"],
                        "label": READINGS[one["operation"]],
                        "role": one["role"],
                        "organization": one["organization"],
                        "purpose": one["purpose"],
                    }
                )
            )
            for one in entries
            if one["operation"] in READINGS
        ]

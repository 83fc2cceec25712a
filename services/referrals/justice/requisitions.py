"""The register of judicial requisitions: who asked for what on which ground, what was handed over, when and by whom.

Append-only: an entry is never changed nor deleted (a trigger of the database keeps it so); a later entry corrects or completes it and both stay. At an
erasure the register keeps the fact, in codes and dates, and loses the words: the authority's name, the reference and the scope were sealed with
a key of the entry's own.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar, Final
from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased
from sqlmodel import col

from libs.chassis.audit import audit
from libs.chassis.ids import new_id
from libs.chassis.pagination import Key
from libs.chassis.refusals import Conflict, Invalid, NotFound
from libs.chassis.security import Principal
from libs.chassis.vault import Vault
from libs.contracts.vocabularies import Purpose, ReferralStatus, Role
from services.referrals.justice.models import Requisition
from services.referrals.justice.schemas import RequisitionIn, RequisitionOut, RequisitionSummary, RequisitionWords
from services.referrals.models import Person, Referral
from services.referrals.rules import ContentErased, check_past
from services.referrals.working.work import may_see, people_of

REQUISITION: Final = "requisition/words"
"""The vault's context."""

_Later = aliased(Requisition)


class UnknownEntry(Invalid):
    type: ClassVar[str] = "unknown-requisition"
    title: ClassVar[str] = "Réquisition inconnue"


class CorrectedAlready(Conflict):
    type: ClassVar[str] = "requisition-corrected-already"
    title: ClassVar[str] = "Entrée déjà corrigée"


async def record(
    session: AsyncSession, caller: Principal, vault: Vault, referral_id: UUID, body: RequisitionIn, now: datetime
) -> RequisitionSummary:
    """Add an entry; about who was erased, of whom nothing is left to hand over, without its words.

    Raises NotFound, UnknownPerson, ContentErased, UnknownEntry, CorrectedAlready.
    """
    check_past(body.received_at, now, "/received_at")
    if body.handed_over_at is not None:
        check_past(body.handed_over_at, now, "/handed_over_at")
    referral = await session.get(Referral, referral_id, with_for_update=True, populate_existing=True)
    if referral is None or not may_see(caller, referral):
        raise NotFound
    wordless = referral.status == ReferralStatus.ERASED or _all_erased(await people_of(session, referral.id, body.person_ids))
    if body.corrects_id is not None:
        await _check_corrected(session, referral, body.corrects_id)
    key = await vault.new_key(session, "requisition")
    words = RequisitionWords(authority_name=body.authority_name, reference=body.reference, scope=body.scope)
    entry = Requisition(
        id=new_id(),
        referral_id=referral.id,
        departement=referral.departement,
        ground=body.ground,
        authority=body.authority,
        key_id=key.id,
        # of who was erased nothing is kept in words, in no register either
        content=b"" if wordless else key.seal(words.model_dump_json().encode(), context=REQUISITION),
        asked=[str(one) for one in body.asked],
        person_ids=body.person_ids,
        handed_over=[str(one) for one in body.handed_over],
        received_at=body.received_at,
        handed_over_at=body.handed_over_at,
        recorded_at=now,
        recorded_by=caller.subject,
        corrects_id=body.corrects_id,
    )
    session.add(entry)
    await session.flush()
    await audit(
        session,
        caller,
        operation="record_requisition",
        subject=f"referrals/{referral.id}",
        purpose=Purpose.JUDICIAL_REQUISITION,
        detail={"requisition": str(entry.id), "handed_over": ":".join(entry.handed_over) or "nothing"},
    )
    return _summary(entry, None)


def _all_erased(persons: Sequence[Person]) -> bool:
    """Whether nobody that the entry names is left. Raises ContentErased where some are: words about these would speak of the others too."""
    erased = [place for place, person in enumerate(persons) if not person.content]
    if erased and len(erased) < len(persons):
        raise ContentErased(
            "Les données d'une de ces personnes ont été effacées : inscrivez à part ce qui la concerne, l'entrée est gardée sans ses mots.",
            pointers=[(f"/person_ids/{place}", "Les données de cette personne ont été effacées.") for place in erased],
        )
    return bool(erased)


async def _check_corrected(session: AsyncSession, referral: Referral, corrects_id: UUID) -> None:
    """The referral is locked: nobody else corrects the same entry now."""
    first = await session.get(Requisition, corrects_id)
    if first is None or first.referral_id != referral.id:
        raise UnknownEntry(
            "L'entrée à corriger n'est pas au registre de cette saisine.",
            pointers=[("/corrects_id", "Aucune entrée de cette saisine ne porte cet identifiant.")],
        )
    later = await session.scalar(select(col(Requisition.id)).where(col(Requisition.corrects_id) == corrects_id))
    if later is not None:
        raise CorrectedAlready("Cette entrée a déjà été corrigée : corrigez la plus récente.", more={"corrected_by_id": str(later)})


def _register(caller: Principal) -> Select[Requisition, UUID]:
    """The entries of the caller's perimeter, for a social worker those of their posts' referrals, each with the id of the one that corrects it."""
    query = select(Requisition, col(_Later.id)).outerjoin(_Later, col(_Later.corrects_id) == col(Requisition.id))
    if caller.role is Role.ISCG:
        theirs = select(col(Referral.id)).where(col(Referral.post_id).in_(caller.ids("post")))
        return query.where(col(Requisition.referral_id).in_(theirs))
    departements = caller.departements()
    return query if departements is None else query.where(col(Requisition.departement).in_(departements))


async def register(
    session: AsyncSession, caller: Principal, *, referral_id: UUID | None, after: Key | None, limit: int
) -> list[RequisitionSummary]:
    """In the order of recording; one more than `limit` when there are more."""
    query = _register(caller)
    if referral_id is not None:
        query = query.where(col(Requisition.referral_id) == referral_id)
    if after is not None:
        query = query.where(col(Requisition.id) > after[0])
    rows = (await session.execute(query.order_by(col(Requisition.id)).limit(limit + 1))).all()
    return [_summary(entry, later) for entry, later in rows]


async def entry(session: AsyncSession, caller: Principal, vault: Vault, requisition_id: UUID) -> RequisitionOut:
    """With its words. Raises NotFound."""
    row = (await session.execute(_register(caller).where(col(Requisition.id) == requisition_id))).one_or_none()
    if row is None:
        raise NotFound
    found, later = row
    key = (await vault.open_keys(session, [found.key_id])).get(found.key_id)
    words: dict[str, str | None] = dict.fromkeys(RequisitionWords.model_fields)
    if key is not None and found.content:
        words |= RequisitionWords.model_validate_json(key.open(found.content, context=REQUISITION)).model_dump()
    return RequisitionOut.model_validate(_summary(found, later).model_dump() | words)


def _summary(entry: Requisition, later: UUID | None) -> RequisitionSummary:
    return RequisitionSummary.of(entry, corrected_by_id=later, erased=not entry.content)

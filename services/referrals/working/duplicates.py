"""A case that was sent twice: closed as a duplicate, it names the referral that it repeats, within the caller's perimeter.

Told to who works it, in no event: the police learns of no other referral, be it its own.
"""

from typing import ClassVar
from uuid import UUID

from sqlalchemy import and_, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from libs.chassis.refusals import Conflict, Invalid
from libs.contracts.vocabularies import CloseReason, ReferralStatus
from services.referrals.models import Referral
from services.referrals.receiving.references import of_reference
from services.referrals.receiving.repeats import Sees
from services.referrals.working.schemas import CloseIn


class UnknownOriginal(Invalid):
    type: ClassVar[str] = "unknown-original"
    title: ClassVar[str] = "Saisine d'origine inconnue"


class OriginalIsDuplicate(Conflict):
    """Closed for each other, neither would count."""

    type: ClassVar[str] = "original-is-duplicate"
    title: ClassVar[str] = "Saisine d'origine close comme doublon"


class OriginalOfDuplicates(Conflict):
    """Closed as a duplicate of none that is named, neither it nor those that name it would count."""

    type: ClassVar[str] = "original-of-duplicates"
    title: ClassVar[str] = "Saisine d'origine d'autres doublons"


async def original_of(session: AsyncSession, referral: Referral, body: CloseIn, sees: Sees) -> UUID | None:
    """What a closing names as the original; its row is kept as it is until the end of the transaction.

    Raises UnknownOriginal, OriginalIsDuplicate, OriginalOfDuplicates.
    """
    given = {"/duplicate_of": body.duplicate_of, "/duplicate_reference": body.duplicate_reference}
    pointers = [pointer for pointer, value in given.items() if value is not None]
    if not pointers:
        if body.reason is CloseReason.DUPLICATE:
            await _check_nobody_names(session, referral)
        return None
    if body.reason is not CloseReason.DUPLICATE or len(pointers) > 1:
        sentence = "La saisine d'origine s'indique pour un doublon seulement, et d'une seule façon."
        raise UnknownOriginal(sentence, pointers=[(pointer, sentence) for pointer in pointers])
    if body.duplicate_reference is not None:
        named = and_(of_reference(body.duplicate_reference), col(Referral.departement) == referral.departement)
    else:
        named = col(Referral.id) == body.duplicate_of
    found = await session.scalars(select(Referral).where(named, col(Referral.id) != referral.id).limit(_MOST).with_for_update(read=True))
    originals = [one for one in found if sees(one) and one.status != ReferralStatus.ERASED]
    if len(originals) != 1:
        many = "Plusieurs saisines de votre périmètre portent cette référence : indiquez laquelle par son identifiant."
        sentence = many if originals else "Aucune autre saisine de votre périmètre n'est celle-là."
        raise UnknownOriginal(sentence, pointers=[(pointer, sentence) for pointer in pointers])
    [original] = originals
    if original.close_reason == CloseReason.DUPLICATE:
        named_there = await told_original(session, original.duplicate_of, sees)
        more = {"duplicate_of": str(named_there)} if named_there is not None else {}
        sentence = "La saisine d'origine est elle-même close comme doublon : indiquez celle qu'elle répète, ou rouvrez-la d'abord."
        raise OriginalIsDuplicate(sentence, more=more, pointers=[(pointer, sentence) for pointer in pointers])
    return original.id


async def _check_nobody_names(session: AsyncSession, referral: Referral) -> None:
    named = select(col(Referral.id)).where(col(Referral.duplicate_of) == referral.id, col(Referral.close_reason) == CloseReason.DUPLICATE)
    if await session.scalar(named.limit(1)) is not None:
        sentence = "D'autres saisines sont closes comme doublons de celle-ci : indiquez celle qu'elle répète elle-même, ou choisissez un autre motif."
        raise OriginalOfDuplicates(sentence, pointers=[("/duplicate_of", sentence)])


async def told_original(session: AsyncSession, original_id: UUID | None, sees: Sees) -> UUID | None:
    """The original that a closing named, to who sees it."""
    original = await session.get(Referral, original_id) if original_id is not None else None
    return original.id if original is not None and sees(original) else None


_MOST = 100
"""Units of a département that may have used one reference."""


async def duplicates_of(session: AsyncSession, referral: Referral, sees: Sees) -> list[UUID]:
    """The referrals that are closed as repeating this one, oldest reception first."""
    found = await session.scalars(
        select(Referral)
        .where(col(Referral.duplicate_of) == referral.id, col(Referral.close_reason) == CloseReason.DUPLICATE)
        .order_by(col(Referral.received_at), col(Referral.id))
        .limit(_MOST)
    )
    return [one.id for one in found if sees(one)]


async def still_held_in(session: AsyncSession, referral: Referral, sees: Sees) -> list[UUID]:
    """The other referrals of the same case, its original and their duplicates, that are not erased: who is erased here may be held there still."""
    repeated = [referral.id, *([referral.duplicate_of] if referral.duplicate_of is not None else [])]
    duplicate = and_(col(Referral.duplicate_of).in_(repeated), col(Referral.close_reason) == CloseReason.DUPLICATE)
    found = await session.scalars(
        select(Referral)
        .where(
            or_(col(Referral.id).in_(repeated), duplicate), col(Referral.id) != referral.id, col(Referral.status) != ReferralStatus.ERASED
        )
        .order_by(col(Referral.received_at), col(Referral.id))
        .limit(_MOST)
    )
    return [one.id for one in found if sees(one)]

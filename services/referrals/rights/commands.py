"""The rights of persons, as a coordinator exercises them for who asks."""

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from libs.chassis.audit import audit
from libs.chassis.etag import match
from libs.chassis.refusals import Conflict, NotFound
from libs.chassis.security import Principal
from libs.chassis.vault import Vault
from libs.contracts.vocabularies import Purpose, ReferralStatus
from services.referrals import notices
from services.referrals.models import Person, Referral
from services.referrals.rights import erasure
from services.referrals.rights.erasure import ErasureCause
from services.referrals.rights.held import check_not_held
from services.referrals.rights.schemas import ErasureIn, ErasureMadeOut
from services.referrals.working.duplicates import still_held_in
from services.referrals.working.work import anybody_of, may_see


class ErasedAlready(Conflict):
    type: ClassVar[str] = "erased-already"
    title: ClassVar[str] = "Déjà effacé"


async def check_erasable(session: AsyncSession, caller: Principal, referral_id: UUID, body: ErasureIn) -> None:
    """Whether an erasure would be refused for what holds the persons, before it is confirmed. Raises NotFound, HeldBySupport, HeldByRequisition."""
    referral = await session.get(Referral, referral_id)
    if referral is None or not may_see(caller, referral):
        raise NotFound
    living = set(await session.scalars(select(col(Person.id)).where(col(Person.referral_id) == referral.id, col(Person.content) != b"")))
    whole = referral.status != ReferralStatus.ERASED and living.issubset(body.person_ids)
    await check_not_held(session, referral.id, body.person_ids, narrative=whole or body.narrative)


async def erase(
    session: AsyncSession, caller: Principal, vault: Vault, referral_id: UUID, version: int, body: ErasureIn, now: datetime
) -> ErasureMadeOut:
    """Raises NotFound outside the perimeter, StaleVersion, UnknownPerson, ErasedAlready, HeldBySupport, HeldByRequisition."""
    referral = await session.get(Referral, referral_id, with_for_update=True, populate_existing=True)
    if referral is None or not may_see(caller, referral):
        raise NotFound
    match(referral.version, version)
    for person_id in body.person_ids:
        await anybody_of(session, referral.id, person_id)
    made = await erasure.erase(
        session, vault, referral, body.person_ids, ErasureCause.REQUEST, now, by=caller.subject, narrative=body.narrative
    )
    if made is None:
        raise ErasedAlready("Les données de ces personnes ont déjà été effacées.")
    await notices.tell_post(session, caller, referral, notices.NoticeKind.REFERRAL_ERASED, now)
    await audit(session, caller, operation="erase_persons", subject=f"referrals/{referral.id}", purpose=Purpose.PERSONS_RIGHTS)
    held = await still_held_in(session, referral, lambda one: may_see(caller, one))
    return ErasureMadeOut(id=made, referral_id=referral.id, version=referral.version, still_held_in=held)

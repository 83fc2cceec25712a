"""The log of corrections: who corrected what, when and why, with what was there before."""

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from libs.chassis.security import Principal
from libs.chassis.vault import Vault
from libs.contracts.vocabularies import Role
from services.referrals.persons import NARRATIVE, opened_content
from services.referrals.queries import visible
from services.referrals.schemas import PersonContent
from services.referrals.working.corrections_schemas import ChangeOut, ContentBefore, CorrectionList, CorrectionOut
from services.referrals.working.models import CorrectedContent, Correction


async def log(session: AsyncSession, caller: Principal, vault: Vault, referral_id: UUID) -> CorrectionList:
    """Every correction with what was there before, oldest first; of who was erased nothing opens any more. Raises NotFound."""
    await visible(session, caller, referral_id)
    made = (
        await session.scalars(
            select(Correction).where(col(Correction.referral_id) == referral_id).order_by(col(Correction.corrected_at), col(Correction.id))
        )
    ).all()
    kept = (await session.scalars(select(CorrectedContent).where(col(CorrectedContent.correction_id).in_([one.id for one in made])))).all()
    keys = await vault.open_keys(session, [one.key_id for one in kept])

    def narrative(of: UUID) -> str | None:
        for one in kept:
            if one.correction_id == of and one.person_id is None and one.key_id in keys:
                return keys[one.key_id].open(one.before, context=NARRATIVE).decode()
        return None

    def content(one: CorrectedContent) -> PersonContent | None:
        if one.key_id not in keys:
            return None
        return opened_content(keys[one.key_id], one.before)

    return CorrectionList(
        items=[
            CorrectionOut(
                id=one.id,
                reason=one.reason,
                actor=one.actor,
                actor_role=Role(one.actor_role) if one.actor_role is not None else None,
                corrected_at=one.corrected_at,
                changes=[ChangeOut(field=field, **values) for field, values in sorted(one.changes.items())],
                persons_before=[
                    ContentBefore(person_id=before.person_id, content=content(before))
                    for before in kept
                    if before.correction_id == one.id and before.person_id is not None
                ],
                narrative_before=narrative(one.id),
            )
            for one in made
        ]
    )

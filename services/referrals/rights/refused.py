"""Who refused to be contacted is counted and never called; their personal data goes after a short delay (DOMAIN §3)."""

from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis.vault import Vault
from services.referrals.models import Referral
from services.referrals.orientations.models import LIVING
from services.referrals.rights.erasure import ErasureCause, erase
from services.referrals.rights.held import ASKED_FOR

_DUE = (
    "FROM persons p JOIN referrals r ON r.id = p.referral_id"
    " WHERE p.agreement = 'refused' AND p.content <> ''::bytea AND coalesce(p.refused_at, r.received_at) <= :until"
    " AND NOT EXISTS (SELECT FROM orientations o WHERE o.referral_id = r.id AND o.person_id = p.id AND o.legal_ground IS NOT NULL"
    f" AND (o.{LIVING} OR o.ended_at > :until))"
    f" AND NOT {ASKED_FOR}"
)
_NEXT = text(f"SELECT DISTINCT p.referral_id {_DUE} ORDER BY p.referral_id LIMIT :limit")
_STILL = text(f"SELECT p.id {_DUE} AND p.referral_id = :referral")


async def erase_refused(session: AsyncSession, vault: Vault, now: datetime, delay: timedelta, limit: int = 50) -> int:
    """Erase who refused longer than `delay` ago, some referrals at a time; gives how many were looked at.

    Who is oriented on a legal ground is kept until that orientation has ended, and counts anew from then: a partner that rejects a minor in danger, days
    later, leaves time to find another. Who is named by a requisition without answer waits too (held.py).
    The delay leaves time to correct a mistake. An agreement given meanwhile keeps the person: it is looked at again under the lock.
    """
    ids = (await session.scalars(_NEXT, {"until": now - delay, "limit": limit})).all()
    for referral_id in ids:
        referral = await session.get_one(Referral, referral_id, with_for_update=True, populate_existing=True)
        still = (await session.scalars(_STILL, {"referral": referral.id, "until": now - delay})).all()
        if still:
            await erase(session, vault, referral, still, ErasureCause.REFUSAL, now, by="referrals")
    return len(ids)

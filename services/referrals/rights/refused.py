"""Who refused to be contacted is counted and never called; their personal data goes after a short delay (DOMAIN §3).

A refusal ends no referral in which danger, a child or a minor is told of (decision 0018): where all those refuse whom it is there to help, be an alleged
perpetrator left in it, nobody is erased before the post, or the coordinator, has closed it, and once more the delay after that. They are told of it when the
delay has passed. Whoever corrects a referral may take away what held it: the delay counts anew from then.
"""

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis.vault import Vault
from services.referrals import notices
from services.referrals.domain import MINORS
from services.referrals.models import OPEN, Referral
from services.referrals.orientations.models import LIVING
from services.referrals.rights.domain import TELLING
from services.referrals.rights.erasure import ErasureCause, erase
from services.referrals.rights.held import ASKED_FOR

_REFUSED: Final = "p.agreement = 'refused' AND p.content <> ''::bytea AND coalesce(p.refused_at, r.received_at) <= :until"
_MINORS: Final = ", ".join(f"'{band}'" for band in sorted(MINORS))
_THEMES: Final = ", ".join(f"'{theme}'" for theme in sorted(TELLING))
_TO_HELP: Final = (
    "(o.role = 'victim' OR NOT EXISTS (SELECT FROM persons n WHERE n.referral_id = r.id AND n.role = 'victim')"
    " AND (o.role <> 'alleged_perpetrator' OR NOT EXISTS (SELECT FROM persons n WHERE n.referral_id = r.id AND n.role <> 'alleged_perpetrator')))"
)
"""A person `o` whom the referral is there to help, by all whom it names (working/helping.py): no accused or neighbour speaks for a victim who refuses."""
_TO_SETTLE: Final = (
    f"(r.danger OR r.urgency = 'immediate' OR r.children_present > 0 OR r.themes && ARRAY[{_THEMES}]"  # noqa: S608 - constants
    f" OR EXISTS (SELECT FROM persons m WHERE m.referral_id = r.id AND m.content <> ''::bytea AND m.age_band IN ({_MINORS})))"
    " AND NOT EXISTS (SELECT FROM persons o WHERE o.referral_id = r.id AND o.content <> ''::bytea AND o.agreement <> 'refused'"
    f" AND {_TO_HELP})"
)
"""A referral `r` of which a refusal would destroy, though somebody may be in danger, what nobody may have looked at."""
_ASKED_BY_LAW: Final = (
    "EXISTS (SELECT FROM orientations o WHERE o.referral_id = r.id AND o.legal_ground IS NOT NULL AND o.status = 'requested')"
)

_DUE = (
    f"FROM persons p JOIN referrals r ON r.id = p.referral_id WHERE {_REFUSED}"  # noqa: S608 - constants
    " AND NOT EXISTS (SELECT FROM orientations o WHERE o.referral_id = r.id AND o.person_id = p.id AND o.legal_ground IS NOT NULL"
    f" AND (o.{LIVING} OR o.ended_at > :until))"
    f" AND NOT ({_TO_SETTLE} AND (r.closed_at IS NULL OR r.closed_at > :until))"
    f" AND NOT {ASKED_FOR}"
    " AND NOT EXISTS (SELECT FROM corrections c WHERE c.referral_id = r.id AND c.corrected_at > :until)"
)
_NEXT = text(f"SELECT DISTINCT p.referral_id {_DUE} ORDER BY p.referral_id LIMIT :limit")
_STILL = text(f"SELECT p.id {_DUE} AND p.referral_id = :referral")
_LEFT_OPEN = text(
    "SELECT DISTINCT r.id, r.post_id, r.departement FROM persons p JOIN referrals r ON r.id = p.referral_id"  # noqa: S608 - constants
    f" WHERE {_REFUSED} AND r.{OPEN} AND {_TO_SETTLE} AND NOT {_ASKED_BY_LAW}"
    " AND (CAST(:after AS uuid) IS NULL OR r.id > CAST(:after AS uuid)) ORDER BY r.id LIMIT :limit"
)
"""Which can be closed: not while a partner, asked on a legal ground, has still to answer."""


async def tell_left_open(session: AsyncSession, now: datetime, delay: timedelta, limit: int = 1000) -> None:
    """Remind who can end them of all the referrals that refusals, longer than `delay` ago, would have ended; `limit` of them at a time."""
    after = None
    while left := (await session.execute(_LEFT_OPEN, {"until": now - delay, "limit": limit, "after": after})).all():
        told = [notice for row in left for notice in notices.of_refusal(row.id, row.post_id, row.departement, now)]
        await notices.notify(session, *told, now=now)
        after = left[-1].id


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
            await erase(session, vault, referral, still, ErasureCause.REFUSAL, now, by="referrals", alerts=False)
    return len(ids)

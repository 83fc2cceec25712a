"""Referrals whose due time has passed without a contact: said once for each due time, shown in the worklists, counted for who watches."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from prometheus_client import Gauge
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis import outbox
from libs.chassis.ids import new_id
from libs.chassis.telemetry import REGISTRY
from libs.contracts.referrals import ReferralOverdue
from libs.contracts.vocabularies import Urgency
from services.referrals import notices
from services.referrals.models import WAITING, Referral

OVERDUE = Gauge("maillon_referrals_overdue", "Referrals past their due time without a contact", ["urgency"], registry=REGISTRY)

_PASSED = text(
    "SELECT id, departement, post_id, urgency, due_at FROM referrals"  # noqa: S608 - our own words
    f" WHERE {WAITING} AND NOT overdue_said AND due_at <= :now ORDER BY due_at, id LIMIT :limit FOR UPDATE SKIP LOCKED"
)
_SAY_ONCE = text(
    "INSERT INTO overdues (id, referral_id, due_at, urgency, post_id, noticed_at)"
    " SELECT said.id, r.id, r.due_at, r.urgency, r.post_id, :now FROM unnest(CAST(:said AS uuid[]), CAST(:ids AS uuid[])) AS said (id, referral_id)"
    " JOIN referrals r ON r.id = said.referral_id"
    " ON CONFLICT DO NOTHING RETURNING referral_id"
)
_SAID = text("UPDATE referrals SET overdue_said = true WHERE id = ANY(CAST(:ids AS uuid[]))")
_COUNT = text(f"SELECT urgency, count(*) AS number FROM referrals WHERE {WAITING} AND due_at <= now() GROUP BY urgency")  # noqa: S608


async def notice(session: AsyncSession, now: datetime, limit: int) -> int:
    """Say the next ones, longest overdue first. Returns how many were looked at: fewer than `limit` at the end.

    What another transaction is changing is passed over, and found the next time. A due time that came back (the urgency was corrected to and fro)
    is not said again.
    """
    rows = (await session.execute(_PASSED, {"now": now, "limit": limit})).all()
    if not rows:
        return 0
    new = await _say(session, rows, now)
    await session.execute(_SAID, {"ids": [row.id for row in rows]})
    told = [one for row in new for one in notices.of_overdue(row.id, row.post_id, row.departement, row.due_at)]
    await notices.notify(session, *told, now=now)
    return len(rows)


async def say_late(session: AsyncSession, referral: Referral, now: datetime) -> None:
    """Of a referral that the caller has locked and recounted, after a correction or a withdrawal: its first contact is one after the due time, which passed
    unsaid because another had been taken for it. Nobody is mailed: nobody waits any more."""
    first = referral.first_contact_at
    if first is not None and first > referral.due_at and not referral.overdue_said:
        referral.overdue_said = True
        await session.flush()
        await _say(session, [referral], now)


async def _say(session: AsyncSession, rows: Sequence[Any], now: datetime) -> list[Any]:
    """Which of these referrals had this due time not said yet."""
    ids = [row.id for row in rows]
    new = set(await session.scalars(_SAY_ONCE, {"ids": ids, "said": [new_id() for _ in ids], "now": now}))
    said = [row for row in rows if row.id in new]
    for row in said:
        await outbox.append(
            session,
            ReferralOverdue(
                referral_id=row.id,
                departement=row.departement,
                post_id=row.post_id,
                urgency=Urgency(row.urgency),
                due_at=row.due_at,
                noticed_at=now,
            ),
        )
    return said


async def measure(session: AsyncSession) -> None:
    """Set the gauge, of every urgency: one that fell to zero says so."""
    counted = {row.urgency: row.number for row in await session.execute(_COUNT)}
    for urgency in Urgency:
        OVERDUE.labels(urgency.value).set(counted.get(urgency.value, 0))

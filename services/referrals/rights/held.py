"""What keeps a person's content for a time, though its end has come or the person asks for it.

- A partner supports somebody of the referral (`SUPPORTED`): the contact goes on, the two years of the CNIL (délibération 2023-095) have not begun.
  Of what rests on a legal ground, a child in danger above all, the person's request ends nothing (GDPR art. 17.3 b): an erasure is refused while it lives.
- A judicial requisition waits for its answer (`ASKED_FOR`; CPP 60-1, 77-1-1): to destroy what it asks for would be to withhold it (GDPR art. 17.3 b).
  It is answered by an entry that says when, be it that nothing was handed over (justice/requisitions.py). Jobs leave the whole referral alone meanwhile; who
  asks for an erasure is refused what the requisition names, for it may be another person's.
"""

from collections.abc import Collection
from typing import ClassVar, Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis.refusals import Conflict
from services.referrals.orientations.models import LIVING

SUPPORTED: Final = f"EXISTS (SELECT FROM orientations o WHERE o.referral_id = r.id AND o.{LIVING})"
_UNANSWERED: Final = (
    "FROM requisitions q WHERE q.referral_id = r.id AND q.handed_over_at IS NULL"
    " AND NOT EXISTS (SELECT FROM requisitions later WHERE later.corrects_id = q.id)"
)
ASKED_FOR: Final = f"EXISTS (SELECT {_UNANSWERED})"
"""Conditions on a referral `r`."""

_WAITS = text(
    f"SELECT q.id FROM referrals r CROSS JOIN LATERAL (SELECT q.id {_UNANSWERED}"  # noqa: S608 - constants
    " AND (q.person_ids = '{}' OR q.person_ids && CAST(:persons AS uuid[]) OR CAST(:narrative AS boolean))) AS q"
    " WHERE r.id = :referral ORDER BY q.id LIMIT 1"
)


_OBLIGED = text(
    "SELECT o.id FROM orientations o WHERE o.referral_id = :referral AND o.person_id = ANY(CAST(:persons AS uuid[]))"  # noqa: S608 - a constant
    f" AND o.legal_ground IS NOT NULL AND o.{LIVING} ORDER BY o.id LIMIT 1"
)


class HeldBySupport(Conflict):
    type: ClassVar[str] = "erasure-held-by-support"
    title: ClassVar[str] = "Accompagnement fondé sur un motif légal"


class HeldByRequisition(Conflict):
    type: ClassVar[str] = "erasure-held-by-requisition"
    title: ClassVar[str] = "Réquisition sans réponse"


async def check_not_held(session: AsyncSession, referral_id: UUID, person_ids: Collection[UUID], *, narrative: bool) -> None:
    """Of a referral that the caller has locked; the narrative speaks of everybody. Raises HeldBySupport, HeldByRequisition."""
    lives = await session.scalar(_OBLIGED, {"referral": referral_id, "persons": list(person_ids)})
    if lives is not None:
        raise HeldBySupport(
            "Un partenaire est sollicité pour cette personne, ou l'accompagne, sur un motif légal : attendez la fin de cette orientation,"
            " ou faites-y d'abord mettre fin, puis effacez.",
            more={"orientation_id": str(lives)},
        )
    waits = await session.scalar(_WAITS, {"referral": referral_id, "persons": list(person_ids), "narrative": narrative})
    if waits is not None:
        raise HeldByRequisition(
            "Une réquisition judiciaire sur ces données attend sa réponse : inscrivez-la au registre, même si rien n'est remis, puis effacez.",
            more={"requisition_id": str(waits)},
        )

"""To which département a referral belongs, which it never leaves (decision 0012): who says so when it would be another than it may be."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from libs.contracts.types import departement_of
from services.referrals.models import Referral
from services.referrals.receiving.routing import atlas
from services.referrals.rules import OutsidePerimeter


def outside(commune: str, home: str) -> OutsidePerimeter:
    """Of a request by which the referral would belong to a département that its client does not work for."""
    if home != departement_of(commune):
        sentence, pointer = "Cette unité n'est compétente que dans d'autres départements que les vôtres.", "/unit_id"
    else:
        sentence, pointer = (
            "Cette commune n'est pas dans votre périmètre : indiquez celle de vos unités qui transmet la saisine.",
            "/commune",
        )
    return OutsidePerimeter(sentence, pointers=[(pointer, sentence)])


async def check_stays(session: AsyncSession, referral: Referral, unit_id: UUID | None, commune: str | None) -> None:
    """Of what a correction says instead; no `commune`: the one that is there. Raises OutsidePerimeter."""
    place = commune or referral.commune
    if unit_id == referral.unit_id and departement_of(place) in (referral.departement, departement_of(referral.commune)):
        return  # the same unit, which may have closed since, took in facts of there
    home = (await atlas(session, [(unit_id, place)])).home(unit_id, place, {referral.departement})
    if home == referral.departement:
        return
    by_commune = home == departement_of(place) and place != referral.commune
    what, pointer = ("commune", "/commune") if by_commune else ("unité", "/unit_id")
    raise OutsidePerimeter(
        f"Cette {what} est d'un autre département : close « hors champ », la saisine est à transmettre à nouveau par l'unité pour ce département.",
        pointers=[(pointer, f"Cette {what} est d'un autre département.")],
    )

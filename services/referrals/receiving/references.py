"""The police's own reference of a referral: of its unit as it was received, without a unit of the client (the two unique indexes)."""

from uuid import UUID

from sqlalchemy import ColumnElement, and_, or_
from sqlmodel import col

from services.referrals.models import Referral


def of_reference(external_reference: str, unit_id: UUID | None = None) -> ColumnElement[bool]:
    """The condition that a referral carries this reference, of one unit when it is named, as it was received."""
    reference, unit = col(Referral.external_reference) == external_reference, col(Referral.first_unit_id)
    if unit_id is not None:
        return and_(reference, unit == unit_id)
    # each side is a range of one of the two unique indexes
    return or_(and_(reference, unit.is_not(None)), and_(reference, unit.is_(None)))

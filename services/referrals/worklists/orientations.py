"""The orientations that wait for a partner, and those of a social worker's and a coordinator's referrals; with counts."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Column, ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis.database import columns_of
from libs.chassis.pagination import Key
from libs.chassis.security import Principal
from libs.contracts.vocabularies import OrientationStatus, Role, Urgency
from services.referrals.directory.called import called
from services.referrals.models import Referral
from services.referrals.orientations.domain import ORIENTATION_LIVES
from services.referrals.orientations.models import Orientation
from services.referrals.orientations.schemas import OrientationListed, OrientationSummary
from services.referrals.worklists.pages import Conditions, head, numbers
from services.referrals.worklists.schemas import OrientationCounts, OrientationStateCount

ORIENTATIONS: Final = columns_of(Orientation)
REFERRALS: Final = columns_of(Referral)
_LISTED = select(*(ORIENTATIONS[name] for name in OrientationSummary.model_fields), REFERRALS.urgency, REFERRALS.danger).where(
    ORIENTATIONS.referral_id == REFERRALS.id
)
_URGENCY = select(REFERRALS.urgency).where(REFERRALS.id == ORIENTATIONS.referral_id).scalar_subquery()


@dataclass(frozen=True, slots=True)
class WantedOrientations:
    """`answer_before`: those still to be answered that expire by then, the first to expire first; otherwise in the order of asking.

    `urgencies`: those that live, of a situation that urgent.
    """

    statuses: Sequence[OrientationStatus] = ()
    urgencies: Sequence[Urgency] = ()
    requested_since: datetime | None = None
    answer_before: datetime | None = None

    @property
    def at(self) -> Column[datetime]:
        return ORIENTATIONS.expires_at if self.answer_before is not None else ORIENTATIONS.requested_at

    def place(self, row: OrientationListed) -> Key:
        return row.expires_at if self.answer_before is not None else row.requested_at, row.id


def _keys(caller: Principal) -> list[Conditions]:
    """A partner's own; of a social worker's posts, those of the referrals they have now; a coordinator's by département."""
    match caller.role:
        case Role.PARTNER:
            return [[ORIENTATIONS.organization_id == caller.organization]]
        case Role.ISCG:
            return [[ORIENTATIONS.current_post_id == post_id] for post_id in sorted(caller.ids("post"))]
        case _:
            departements = caller.departements()
            return [[]] if departements is None else [[ORIENTATIONS.departement == one] for one in sorted(departements)]


async def page(
    session: AsyncSession, caller: Principal, wanted: WantedOrientations, *, after: Key | None, limit: int
) -> list[OrientationListed]:
    """One more than `limit` when there are more."""
    statuses = set(wanted.statuses)
    since: list[ColumnElement[bool]] = []
    if wanted.urgencies:
        since.append(_URGENCY.in_(sorted(set(wanted.urgencies))))
        statuses = (statuses or set(ORIENTATION_LIVES)) & ORIENTATION_LIVES
    if wanted.requested_since is not None:
        since.append(ORIENTATIONS.requested_at >= wanted.requested_since)
    if wanted.answer_before is not None:
        since.append(ORIENTATIONS.expires_at <= wanted.answer_before)
        statuses = (statuses or {OrientationStatus.REQUESTED}) & {OrientationStatus.REQUESTED}
    if not statuses and (wanted.urgencies or wanted.answer_before is not None):
        return []
    states: list[Conditions] = [[ORIENTATIONS.status == one] for one in sorted(statuses)] or [[]]
    ranges = [[*key, *state, *since] for key in _keys(caller) for state in states]
    if not ranges:
        return []
    found = head(ranges, (wanted.at, ORIENTATIONS.id), after, limit)
    rows = (await session.execute(_LISTED.where(ORIENTATIONS.id.in_(found)).order_by(wanted.at, ORIENTATIONS.id))).all()
    names = await called(session, services=[one.service_id for one in rows])
    return [OrientationListed.of(one, **names.of_service(one.service_id)) for one in rows]


async def counts(session: AsyncSession, caller: Principal) -> OrientationCounts:
    ranges = [(status.value, [*key, ORIENTATIONS.status == status]) for key in _keys(caller) for status in OrientationStatus]
    number = await numbers(session, ranges)
    return OrientationCounts(states=[OrientationStateCount(status=status, **number(status.value)) for status in OrientationStatus])

"""The orientations that wait for a partner, and those of a social worker's and a coordinator's referrals; with counts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from libs.chassis.database import RawConnection
from libs.chassis.pagination import Key
from libs.chassis.security import Principal
from libs.contracts.vocabularies import OrientationStatus, Role, Urgency
from services.referrals.directory.names import SERVICES
from services.referrals.orientations.domain import ORIENTATION_LIVES
from services.referrals.orientations.schemas import OrientationListed
from services.referrals.worklists.pages import EVERYWHERE, Condition, Conditions, Question, Within, keys_of, numbers, where
from services.referrals.worklists.schemas import OrientationCounts, OrientationStateCount

_ELSEWHERE: Final = {
    "urgency": "referrals.urgency",
    "danger": "referrals.danger",
    "service_name": "named.name",
    "organization_name": "named.organization",
}
_LISTED: Final = ", ".join(f"{_ELSEWHERE.get(name, f'orientations.{name}')} AS {name}" for name in OrientationListed.model_fields)
_URGENCY: Final = "(SELECT urgency FROM referrals WHERE referrals.id = orientations.referral_id) = ANY({})"


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
    def order(self) -> tuple[str, str]:
        return "expires_at" if self.answer_before is not None else "requested_at", "id"

    def place(self, row: Mapping[str, Any]) -> Key:
        """Where one of the list stands in that order."""
        at, id = self.order
        return row[at], row[id]


def _within(caller: Principal) -> Within | None:
    """A partner's own; of a social worker's posts, those of the referrals they have now; a coordinator's by département."""
    match caller.role:
        case Role.PARTNER:
            return Within("organization_id", "uuid", [caller.organization])
        case Role.ISCG:
            return Within("current_post_id", "uuid", sorted(caller.ids("post")))
        case _:
            departements = caller.departements()
            return EVERYWHERE if departements is None else Within("departement", "text", sorted(departements))


def _ranges(wanted: WantedOrientations) -> list[Conditions]:
    statuses = set(wanted.statuses)
    since: list[Condition] = []
    if wanted.urgencies:
        since.append(where(_URGENCY, sorted(set(wanted.urgencies))))
        statuses = (statuses or set(ORIENTATION_LIVES)) & ORIENTATION_LIVES
    if wanted.requested_since is not None:
        since.append(where("requested_at >= {}", wanted.requested_since))
    if wanted.answer_before is not None:
        since.append(where("expires_at <= {}", wanted.answer_before))
        statuses = (statuses or {OrientationStatus.REQUESTED}) & {OrientationStatus.REQUESTED}
    if not statuses and (wanted.urgencies or wanted.answer_before is not None):
        return []
    states: list[Conditions] = [[where("status = {}", one)] for one in sorted(statuses)] or [[]]
    return [[*state, *since] for state in states]


async def page(
    connection: RawConnection, caller: Principal, wanted: WantedOrientations, *, after: Key | None, limit: int
) -> list[dict[str, Any]]:
    """The fields of `OrientationListed` of each; one more than `limit` when there are more."""
    asked = Question("orientations", _within(caller))
    *keys, id = keys_of(wanted.order)
    found = asked.head(_ranges(wanted), wanted.order, after, limit)
    rows = await connection.fetch(
        f"SELECT {_LISTED} FROM ({found}) AS found JOIN orientations ON orientations.id = {id}"
        " JOIN referrals ON referrals.id = orientations.referral_id"
        f" LEFT JOIN directory_names AS named ON named.kind = '{SERVICES}' AND named.key = CAST(orientations.service_id AS text)"
        f" ORDER BY {', '.join([*keys, id])}",
        *asked.values,
    )
    return [dict(row) for row in rows]


async def counts(connection: RawConnection, caller: Principal) -> OrientationCounts:
    ranges = [(status.value, [where("status = {}", status)]) for status in OrientationStatus]
    number = await numbers(connection, Question("orientations", _within(caller)), ranges)
    return OrientationCounts(states=[OrientationStateCount(status=status, **number(status.value)) for status in OrientationStatus])

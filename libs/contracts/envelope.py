"""What every event is, before and on the wire: a thin fact, and the CloudEvent that carries it."""

from typing import ClassVar, Literal, NamedTuple
from uuid import UUID

from pydantic import BaseModel, ConfigDict

Classification = Literal["public", "internal", "restricted"]


class Part(BaseModel):
    """A thin value inside an event. Readers ignore what they do not know: within a version only optional additions are made."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


class Event(Part):
    """A past fact, thin by construction: ids, codes, dates, places down to the commune, counts, cents.

    Never a name, a contact, free text or a birth date. `aggregate` names the thing whose facts must stay in order and the field that holds
    its id: `("referrals", "referral_id")`. The CloudEvents subject is made of the two.
    """

    type: ClassVar[str]
    aggregate: ClassVar[tuple[str, str]]
    classification: ClassVar[Classification] = "internal"

    @property
    def aggregate_id(self) -> UUID:
        value: UUID = getattr(self, self.aggregate[1])
        return value


class Projection(NamedTuple):
    """What one audience is told of one event: made by `libs.contracts.projecting.project`, published as it is."""

    audience: str
    """The stream's name: `internal`, `interior`, `departement:95`..."""
    event_id: str
    """The CloudEvents id: the event's own for `internal`, a keyed pseudonym of it for every other audience."""
    subject: str
    """`<collection>/<id>`, the id being a pseudonym where the audience may not fetch the object."""
    data: bytes
    """The JSON text of the data, UTF-8: these very bytes are stored, hashed and sent."""
    by_day: bool = False
    """Whether the audience is told the day of the fact only, in the attributes of the CloudEvent as well (`types.day_of`)."""

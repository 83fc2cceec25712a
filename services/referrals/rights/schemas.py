"""What requests and answers about the rights of persons hold."""

from typing import Annotated

from pydantic import AfterValidator, Field

from libs.chassis.strict import Answer, Body
from libs.contracts.demonstration import ASSOCIATION
from libs.contracts.types import Code, Day, DepartementCode, Id, Instant
from services.referrals.rights.domain import HeldBecause
from services.referrals.rights.erasure import ErasureCause
from services.referrals.schemas import MAX_PERSONS, unique


class ErasureIn(Body):
    """`narrative`: destroy it now too; it goes in any case with the last person."""

    person_ids: Annotated[list[Id], Field(min_length=1, max_length=MAX_PERSONS), AfterValidator(unique)]
    narrative: bool = False


class Acknowledgement(Code):
    """Whether those who were told in a stream have acted on it."""

    WAITING = "waiting", "Attendu"
    LEFT = "left", "Attendu de qui s'est désabonné"
    NO_READER = "no_reader", "Personne ne lit ce flux"
    STREAM = "stream", "Confirmé par la lecture du flux"
    HAND = "hand", "Confirmé à la main"


class ConfirmedHow(Code):
    LETTER = "letter", "Courrier"
    EMAIL = "email", "Courriel"
    PHONE = "phone", "Téléphone"


class ConfirmationIn(Body):
    """An organization (or another who was told in a stream of its own) said by other means that it has erased too."""

    stream: Annotated[str, Field(pattern=r"^[a-z]+(?::[0-9A-Za-z-]{1,40})?$", examples=[f"organization:{ASSOCIATION}"])]
    confirmed_on: Day
    how: ConfirmedHow


class ConfirmationOut(Answer):
    confirmed_on: Day
    how: ConfirmedHow
    recorded_by: str


class NoticeOut(Answer):
    """`sequence`: the number in that stream. `waiting_for`: the clients that have not acted on it yet, or the organization, when nobody reads its stream:
    it acknowledges by reading, or by `confirmation`. `left`: those of them that ended their subscription before they took it: what they were given they hold;
    the state is `left` when nobody else is waited for. A ministry's or a département's stream that nobody reads was told to nobody."""

    stream: str
    sequence: int | None
    state: Acknowledgement
    acknowledged_at: Instant | None
    confirmation: ConfirmationOut | None
    waiting_for: list[str]
    left: list[str]


class ErasureOut(Answer):
    """`completed_at`: since when nobody is waited for any more."""

    id: Id
    referral_id: Id
    departement: DepartementCode
    person_ids: list[Id]
    whole: bool
    cause: ErasureCause
    erased_at: Instant
    completed_at: Instant | None
    notices: list[NoticeOut]


class ErasureMadeOut(Answer):
    """`still_held_in`: other referrals of the same case, which this one repeats or which repeat it, where the persons may be held still: each is
    erased by itself."""

    id: Id
    referral_id: Id
    version: int
    still_held_in: list[Id]


class ErasureList(Answer):
    items: list[ErasureOut]
    next: str | None


class AnnouncedEndOut(Answer):
    """A closed referral whose retention ends: everything sealed of it is erased from that day on, unless something is done for a person until then."""

    referral_id: Id
    departement: DepartementCode
    last_contact_at: Instant
    announced_at: Instant
    erased_from: Day


class AnnouncedEndList(Answer):
    items: list[AnnouncedEndOut]
    next: str | None


class HeldEndOut(Answer):
    """A referral that is past the end of its retention and cannot be erased yet."""

    referral_id: Id
    departement: DepartementCode
    last_contact_at: Instant
    because: HeldBecause


class HeldEndList(Answer):
    items: list[HeldEndOut]
    next: str | None

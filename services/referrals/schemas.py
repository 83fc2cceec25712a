"""Persons as requests bring them and answers tell them, and the shapes that every activity shares. What one activity brings and says is in its folder."""

from datetime import date
from typing import Annotated, TypeVar
from uuid import UUID

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from libs.chassis.strict import Answer, Body, line, prose
from libs.contracts.types import Code, Day, Id
from libs.contracts.vocabularies import AgeBand, ContactAgreement, ContactMode, KnownToServices, PersonRole, Sex
from services.referrals.domain import OLDEST, OLDEST_PERSON

MAX_PERSONS = 50
MAX_WINDOWS = 14

T = TypeVar("T", str, int, UUID)


def unique(values: list[T]) -> list[T]:
    if len(set(values)) != len(values):
        raise PydanticCustomError("duplicate_items", "Une valeur est donnée deux fois.")
    return values


def _birth(day: date) -> date:
    if not OLDEST.date() <= day <= date(2100, 1, 1):
        raise PydanticCustomError("birth_date", "Cette date de naissance n'est pas possible.")
    return day


Birth = Annotated[Day, AfterValidator(_birth)]
Hour = Annotated[str, Field(pattern=r"^(?:[01][0-9]|2[0-3]):[0-5][0-9]$", examples=["09:30"])]
Phone = Annotated[str, Field(pattern=r"^\+[1-9][0-9]{5,14}$", examples=["+33639980001"])]
"""International form (E.164), without spaces."""
Email = Annotated[
    str,
    Field(
        max_length=254, pattern=r"^[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,63}$", examples=["camille@exemple.invalid"]
    ),
]
Natinf = Annotated[int, Field(ge=1, le=99_999)]
"""A number of the offence nomenclature: up to five digits (DOMAIN §7)."""


class Identity(Body):
    family_name: Annotated[str, line(100)]
    given_name: Annotated[str, line(100)]
    birth_on: Birth | None = None


class Contact(Body):
    phones: Annotated[list[Phone], Field(max_length=5), AfterValidator(unique)] = Field(default_factory=list)
    email: Email | None = None
    address: Annotated[str, line(300)] | None = None


class ContactWindow(Body):
    """When it is safe, on the days of the week 1 (Monday) to 7, in local time."""

    days: Annotated[list[Annotated[int, Field(ge=1, le=7)]], Field(min_length=1, max_length=7), AfterValidator(unique)]
    begins: Hour
    ends: Hour


class SafeContact(Body):
    """In couple violence a call at the wrong hour endangers (DOMAIN §3). These rules travel with every orientation."""

    modes: Annotated[list[ContactMode], Field(max_length=6), AfterValidator(unique)]
    """The only ways to contact this person."""
    windows: Annotated[list[ContactWindow], Field(max_length=MAX_WINDOWS)] = Field(default_factory=list)
    voicemail_allowed: bool
    text_allowed: bool
    """Not denied where `modes` has it (422 `contradiction`)."""
    read_by_others: bool
    """Whether somebody else may be reading the telephone."""
    code_word: Annotated[str, line(60)] | None = None
    note: Annotated[str, prose(500)] | None = None


class PersonIn(Body):
    role: PersonRole
    sex: Sex
    identity: Identity | None = None
    approximate_age: Annotated[int, Field(ge=0, le=OLDEST_PERSON)] | None = None
    """In years, when the date of birth is not known. Beside one: of the day of the facts, of today or between, a year more or less (422 `contradiction`)."""
    contact: Contact | None = None
    safe_contact: SafeContact | None = None
    agreement: ContactAgreement
    known_to_services: KnownToServices = KnownToServices.NOT_KNOWN_WHETHER


class RulesOf(Code):
    """Whose safe-contact rules apply to a person."""

    PERSON = "person", "Celles de la personne"
    ADULTS = "adults", "Celles des adultes par qui ce mineur est appelé"


class PersonOut(Answer):
    id: Id
    role: PersonRole
    sex: Sex
    age_band: AgeBand
    agreement: ContactAgreement
    known_to_services: KnownToServices
    erased: bool
    identity: Identity | None
    approximate_age: int | None
    contact: Contact | None
    safe_contact: SafeContact | None
    """Those that apply. To a minor without any: what each of the adults through whom they are called allows, without code word or note."""
    safe_contact_of: RulesOf | None

    @property
    def own_safe_contact(self) -> SafeContact | None:
        return self.safe_contact if self.safe_contact_of is RulesOf.PERSON else None


class PersonNumbered(PersonOut):
    number: int
    """Its place among the persons of the referral, from 1: by it two of whom no name is known are told apart."""


class PersonContent(Body):
    """What is sealed of a person, as JSON."""

    identity: Identity | None
    approximate_age: int | None
    contact: Contact | None
    safe_contact: SafeContact | None

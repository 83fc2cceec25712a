"""How a person is called on the pages of the desk, in forms, lists and the history alike."""

from libs.contracts.vocabularies import Sex
from services.referrals.domain import within_sentence
from services.referrals.schemas import PersonNumbered, PersonOut


def named(person: PersonOut) -> str:
    """Who is not identified is told apart by their number in the referral, sex and age: the wrong one must not be called."""
    if person.identity is not None:
        return f"{person.role.label} – {person.identity.given_name} {person.identity.family_name}"
    number = f" n° {person.number}" if isinstance(person, PersonNumbered) else ""
    age = f"environ {person.approximate_age} ans" if person.approximate_age is not None else person.age_band.label
    return f"{person.role.label}{number} – " + (f"{person.sex.label}, {within_sentence(age)}" if person.sex is not Sex.UNKNOWN else age)

"""How long a person's content is kept."""

from dataclasses import dataclass
from typing import Final

from libs.contracts.types import Code
from libs.contracts.vocabularies import Theme

TELLING: Final = frozenset(
    {
        Theme.CHILD_NOT_RETURNED,
        Theme.CHILD_IN_DANGER,
        Theme.RUNAWAY_MINOR,
        Theme.MINOR_ADRIFT,
        Theme.SCHOOL_VIOLENCE,
        Theme.PARENTING,
        Theme.SUICIDE_ATTEMPT,
    }
)
"""Themes that tell of a child, or of somebody in danger, by themselves (decision 0018)."""


@dataclass(frozen=True, slots=True)
class Term:
    """How long what is sealed is kept after the last contact, and how long before its end that is announced, in days."""

    days: int
    notice_days: int


class HeldBecause(Code):
    """Why what is past the term is not erased."""

    OPEN = "open", "Encore ouverte : close, elle sera effacée"
    SUPPORTED = "supported", "Accompagnée par une structure : l'orientation est à terminer"
    ASKED_FOR = "asked_for", "Visée par une réquisition : la réponse est à inscrire au registre"

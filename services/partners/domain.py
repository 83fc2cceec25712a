"""The rules of the partner network: identifiers, the moves of a post, units and their territory. Pure: no database, no HTTP."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID, uuid5

from libs.chassis.refusals import Conflict, Invalid, Pointer, Refusal
from libs.contracts.types import Code, departement_of
from libs.contracts.units import plain_label
from libs.contracts.vocabularies import Force, PostForce, UnitKind

MAX_COMMUNES = 1000
"""Of one unit, post or service: the bound of the events that list them (libs/contracts/partners.py)."""


# Identifiers (DOMAIN §7)

LA_POSTE = "356000000"


def _luhn(digits: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def is_siren(text: str) -> bool:
    """Nine digits that satisfy Luhn's formula; never all zeros."""
    return len(text) == 9 and text.isascii() and text.isdigit() and text != "0" * 9 and _luhn(text)


def is_siret(text: str) -> bool:
    """Fourteen digits: a SIREN, then five digits, all of which satisfy Luhn's formula.

    The establishments of La Poste are too many for that: the sum of their digits is a multiple of five (its head office satisfies Luhn).
    """
    if len(text) != 14 or not text.isascii() or not text.isdigit() or not is_siren(text[:9]):
        return False
    return _luhn(text) or (text[:9] == LA_POSTE and sum(map(int, text)) % 5 == 0)


# Refusals


class SiretTaken(Conflict):
    type: ClassVar[str] = "siret-taken"
    title: ClassVar[str] = "SIRET déjà enregistré"

    def __init__(self, organization_id: UUID | None) -> None:
        super().__init__(
            "Une structure ouverte porte déjà ce SIRET.",
            pointers=[("/siret", "Une structure ouverte porte déjà ce SIRET.")],
            more={"organization_id": str(organization_id)} if organization_id is not None else {},
        )


class IdTaken(Conflict):
    type: ClassVar[str] = "id-taken"
    title: ClassVar[str] = "Identifiant déjà pris"

    def __init__(self) -> None:
        super().__init__(
            "Cet identifiant désigne déjà un objet dont le contenu diffère.", pointers=[("/id", "Cet identifiant est déjà pris.")]
        )


class Closed(Conflict):
    type: ClassVar[str] = "closed"
    title: ClassVar[str] = "Objet fermé"

    def __init__(self) -> None:
        super().__init__("Cet objet est fermé : plus aucun changement n'est possible.")


class ForceFixed(Conflict):
    type: ClassVar[str] = "force-fixed"
    title: ClassVar[str] = "Changement de force impossible"

    def __init__(self) -> None:
        sentence = "Une unité ne change pas de force : fermez-la et enregistrez-en une autre."
        super().__init__(sentence, pointers=[("/force", sentence)])


class StillUsed(Conflict):
    """Closing would leave something hanging in the air."""

    type: ClassVar[str] = "still-used"
    title: ClassVar[str] = "Encore utilisé"


class Unknown(Invalid):
    """The request names something that is not in the directory, or is closed."""

    type: ClassVar[str] = "unknown-reference"
    title: ClassVar[str] = "Référence inconnue"

    def __init__(self, pointers: Iterable[Pointer]) -> None:
        super().__init__("La demande désigne un objet que l'annuaire ne connaît pas, ou qui est fermé.", pointers=pointers)


class CoverageEmpty(Invalid):
    type: ClassVar[str] = "coverage-empty"
    title: ClassVar[str] = "Ressort vide"

    def __init__(self) -> None:
        super().__init__(
            "Un poste couvre au moins une unité ou une commune.", pointers=[("/units", "Indiquez au moins une unité ou une commune.")]
        )


class TooManyCommunes(Invalid):
    type: ClassVar[str] = "too-many-communes"
    title: ClassVar[str] = "Ressort trop grand"

    def __init__(self, pointer: str) -> None:
        super().__init__(
            f"Une unité est compétente dans {MAX_COMMUNES} communes au plus.", pointers=[(pointer, f"{MAX_COMMUNES} communes au plus.")]
        )


class MoveRefused(Refusal):
    type: ClassVar[str] = "post-move-refused"
    title: ClassVar[str] = "Changement impossible pour ce poste"


class AbsenceOver(Invalid):
    type: ClassVar[str] = "absence-over"
    title: ClassVar[str] = "Absence déjà terminée"

    def __init__(self) -> None:
        sentence = "Le dernier jour de l'absence est déjà passé."
        super().__init__(sentence, pointers=[("/until_on", sentence)])


class NoReplacement(Invalid):
    """The post named cannot stand in."""

    type: ClassVar[str] = "no-replacement"
    title: ClassVar[str] = "Remplacement impossible"

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, pointers=[("/replacement_post_id", sentence)])


# Posts


class PostState(Code):
    FILLED = "filled", "Pourvu"
    VACANT = "vacant", "Vacant"
    SUSPENDED = "suspended", "Suspendu"
    CLOSED = "closed", "Fermé"


POST_STATES: Mapping[str, PostState] = {str(state): state for state in PostState}


class Move(Code):
    OPEN = "open", "Ouvrir, sans titulaire"
    OPEN_FILLED = "open_filled", "Ouvrir, avec un titulaire"
    FILL = "fill", "Pourvoir"
    VACATE = "vacate", "Déclarer vacant"
    SUSPEND = "suspend", "Suspendre"
    CLOSE = "close", "Fermer"


MOVES: Mapping[Move, Mapping[PostState | None, PostState]] = {
    Move.OPEN: {None: PostState.VACANT},
    Move.OPEN_FILLED: {None: PostState.FILLED},
    Move.FILL: {PostState.VACANT: PostState.FILLED, PostState.SUSPENDED: PostState.FILLED},
    Move.VACATE: {PostState.FILLED: PostState.VACANT, PostState.SUSPENDED: PostState.VACANT},
    Move.SUSPEND: {
        PostState.FILLED: PostState.SUSPENDED,
        PostState.VACANT: PostState.SUSPENDED,
        PostState.SUSPENDED: PostState.SUSPENDED,
    },
    Move.CLOSE: {PostState.FILLED: PostState.CLOSED, PostState.VACANT: PostState.CLOSED, PostState.SUSPENDED: PostState.CLOSED},
}
"""Every legal move of a post: from which state (`None`: none yet) to which. Filling or vacating ends a suspension; suspending anew says another
end or another replacement; closing is final."""


def moved(state: PostState | None, move: Move) -> PostState:
    """The state after a move. Raises MoveRefused when the table does not have it."""
    after = MOVES[move].get(state)
    if after is None:
        now = state.label.lower() if state is not None else "inexistant"
        raise MoveRefused(
            f"Un poste {now} ne permet pas : {move.label.lower()}.",
            more={"state": str(state) if state is not None else "none", "move": str(move)},
        )
    return after


def moves_from(state: PostState | None) -> list[Move]:
    """The moves that a state allows."""
    return [move for move, table in MOVES.items() if state in table]


FORCES_SERVED: Mapping[str, frozenset[Force]] = {
    PostForce.POLICE: frozenset({Force.POLICE}),
    PostForce.GENDARMERIE: frozenset({Force.GENDARMERIE}),
    PostForce.MIXED: frozenset(Force),
}
"""Whose units a post may cover: only a mixed one covers both forces."""


# Units and their territory

INSTITUTIONS: Mapping[str, Force] = {"PN": Force.POLICE, "GN": Force.GENDARMERIE}
"""The `institution` column of the Interior's jurisdiction file."""

_KINDS: tuple[tuple[str, UnitKind], ...] = (
    ("prefecture de police", UnitKind.PREFECTURE),
    ("commissariat", UnitKind.COMMISSARIAT),
    ("brigade", UnitKind.BRIGADE),
    ("compagnie", UnitKind.COMPANY),
    ("groupement", UnitKind.GROUP),
)


def unit_kind_of(label: str) -> UnitKind:
    """The kind that a unit's label in the jurisdiction file tells: the file has no column for it."""
    plain = plain_label(label)
    return next((kind for word, kind in _KINDS if word in plain), UnitKind.OTHER)


def home_departement(populations: Mapping[str, int]) -> str:
    """The département of a unit that works on both sides of a border (Avignon): where most of its people live.

    `populations` by commune; a tie goes to the département with more communes, then to the lower code.
    """
    people: dict[str, tuple[int, int]] = {}
    for commune, population in populations.items():
        before = people.get(departement_of(commune), (0, 0))
        people[departement_of(commune)] = (before[0] + population, before[1] + 1)
    return min(people, key=lambda code: (-people[code][0], -people[code][1], code))


def location_id_of(service_id: UUID, name: str, address: str, commune: str) -> UUID:
    """The id of a service's location: the same place keeps its id when the list around it changes."""
    return uuid5(service_id, f"{name}\n{address}\n{commune}")


# What is known of a service's answers


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers of a service to orientations over the last twelve months."""

    accepted: int
    rejected: int
    expired: int
    median_delay_minutes: int | None
    """From the request to the answer; `None` when nothing was answered."""

    @property
    def acceptance_percent(self) -> int | None:
        """Accepted out of all that ended with an answer or without one; `None` when there was none."""
        ended = self.accepted + self.rejected + self.expired
        return round(100 * self.accepted / ended) if ended else None

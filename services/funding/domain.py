"""The rules of funding: how firm a contribution is and may become, what a plan lacks. Money is integer cents of euro. Pure: no database, no HTTP."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from libs.chassis.refusals import Conflict, Invalid
from libs.contracts.types import Code
from libs.contracts.vocabularies import Firmness

MAX_CONTRIBUTIONS = 50
"""Of one plan: the bound of the events that list its shares (libs/contracts/funding.py)."""


class Status(Code):
    """Where a contribution stands: its firmness, or refused."""

    FORECAST = Firmness.FORECAST.value, Firmness.FORECAST.label
    REQUESTED = Firmness.REQUESTED.value, Firmness.REQUESTED.label
    GRANTED = Firmness.GRANTED.value, Firmness.GRANTED.label
    AGREED = Firmness.AGREED.value, Firmness.AGREED.label
    PAID = Firmness.PAID.value, Firmness.PAID.label
    REFUSED = "refused", "Refusée"


class StartingFirmness(Code):
    """How firm a contribution may be when it is written into a plan: paid comes by a move."""

    FORECAST = Firmness.FORECAST.value, Firmness.FORECAST.label
    REQUESTED = Firmness.REQUESTED.value, Firmness.REQUESTED.label
    GRANTED = Firmness.GRANTED.value, Firmness.GRANTED.label
    AGREED = Firmness.AGREED.value, Firmness.AGREED.label


class Move(Code):
    """What may be done with a contribution."""

    REQUEST = "request", "Demander"
    GRANT = "grant", "Accorder"
    REFUSE = "refuse", "Refuser"
    AGREE = "agree", "Conventionner"
    PAY = "pay", "Verser"


MOVES: Mapping[Move, tuple[frozenset[Status], Status]] = {
    Move.REQUEST: (frozenset({Status.FORECAST}), Status.REQUESTED),
    Move.GRANT: (frozenset({Status.REQUESTED}), Status.GRANTED),
    Move.REFUSE: (frozenset({Status.FORECAST, Status.REQUESTED, Status.GRANTED}), Status.REFUSED),
    Move.AGREE: (frozenset({Status.GRANTED}), Status.AGREED),
    Move.PAY: (frozenset({Status.AGREED}), Status.PAID),
}
"""Every legal move: from which states, to which. A signed agreement binds: nothing is refused after it."""

AMOUNT_OPEN = frozenset({Status.FORECAST, Status.REQUESTED})
"""While nothing is decided the amount may change; a grant may give another one than was asked for; then it is fixed."""

FUNDED_FROM = Firmness.FORECAST
"""From which firmness a contribution counts as funding: every one that was not refused. So `gap` is what nobody even plans to pay."""

FIRM_FROM = Firmness.GRANTED
"""From which firmness a contribution is firm: its funder has decided. So `budget - firm` is what the post still depends on."""

_FIRMNESS = tuple(Firmness)


def is_at_least(firmness: Firmness, floor: Firmness) -> bool:
    return _FIRMNESS.index(firmness) >= _FIRMNESS.index(floor)


def moves_from(status: Status) -> list[Move]:
    return [move for move, (sources, _) in MOVES.items() if status in sources]


def moved(status: Status, move: Move) -> Status:
    """The state after a move. Raises MoveNotAllowed."""
    sources, target = MOVES[move]
    if status not in sources:
        raise MoveNotAllowed(status)
    return target


def firmness_of(status: Status) -> Firmness | None:
    """None when refused."""
    return None if status is Status.REFUSED else Firmness(status.value)


@dataclass(frozen=True, slots=True)
class Balance:
    """A plan's money: the budget, and the contributions that were not refused, by firmness."""

    budget_cents: int
    by_firmness: Mapping[Firmness, int]

    @property
    def funded_cents(self) -> int:
        return sum(amount for firmness, amount in self.by_firmness.items() if is_at_least(firmness, FUNDED_FROM))

    @property
    def firm_cents(self) -> int:
        return sum(amount for firmness, amount in self.by_firmness.items() if is_at_least(firmness, FIRM_FROM))

    @property
    def gap_cents(self) -> int:
        return self.budget_cents - self.funded_cents


def balance_of(budget_cents: int, contributions: Iterable[tuple[Status, int]]) -> Balance:
    """Raises Overfunded: contributions above the budget are a mistake, or the same euro declared twice (DOMAIN §6)."""
    by_firmness = dict.fromkeys(Firmness, 0)
    for status, amount in contributions:
        if (firmness := firmness_of(status)) is not None:
            by_firmness[firmness] += amount
    balance = Balance(budget_cents, by_firmness)
    if balance.gap_cents < 0:
        raise Overfunded(-balance.gap_cents)
    return balance


def cost_per_situation(budget_cents: int, situations: int) -> int | None:
    """Whole cents, rounded down; None without a situation."""
    return budget_cents // situations if situations else None


# Refusals


class MoveNotAllowed(Conflict):
    type: ClassVar[str] = "move-not-allowed"
    title: ClassVar[str] = "Étape impossible"

    def __init__(self, status: Status) -> None:
        allowed = moves_from(status)
        said = " ou ".join(f"« {move.label.lower()} »" for move in allowed)
        super().__init__(
            f"Cette contribution est « {status.label.lower()} » : "
            + (f"l'étape suivante est {said}." if allowed else "aucune étape ne suit."),
            more={"status": status.value, "moves": " ".join(allowed)},
        )


class AmountFixed(Conflict):
    type: ClassVar[str] = "amount-fixed"
    title: ClassVar[str] = "Montant arrêté"

    def __init__(self) -> None:
        super().__init__("Le montant d'une contribution ne change plus une fois accordée ou refusée.")


class Overfunded(Conflict):
    type: ClassVar[str] = "plan-overfunded"
    title: ClassVar[str] = "Contributions supérieures au budget"

    def __init__(self, excess_cents: int) -> None:
        super().__init__(
            "Les contributions dépasseraient le budget du poste : vérifiez le montant, ou qu'un même euro n'est pas déclaré par deux financeurs.",
            more={"excess_cents": excess_cents},
        )


class FunderAlreadyContributes(Conflict):
    type: ClassVar[str] = "funder-already-contributes"
    title: ClassVar[str] = "Financeur déjà présent"

    def __init__(self) -> None:
        super().__init__("Ce financeur a déjà une contribution en cours dans ce plan : modifiez-la plutôt.")


class TooManyContributions(Conflict):
    type: ClassVar[str] = "too-many-contributions"
    title: ClassVar[str] = "Trop de contributions"

    def __init__(self) -> None:
        super().__init__(f"Un plan porte au plus {MAX_CONTRIBUTIONS} contributions en cours.")


class PlanExists(Conflict):
    type: ClassVar[str] = "plan-exists"
    title: ClassVar[str] = "Plan déjà ouvert"

    def __init__(self) -> None:
        super().__init__("Ce poste a déjà un plan de financement pour cette année.")


class IdTaken(Conflict):
    type: ClassVar[str] = "id-taken"
    title: ClassVar[str] = "Identifiant déjà pris"

    def __init__(self) -> None:
        super().__init__(
            "Cet identifiant désigne déjà un objet dont le contenu diffère.", pointers=[("/id", "Cet identifiant est déjà pris.")]
        )


class PostNotYetKnown(Conflict):
    """The post was not heard of yet, or lies outside the caller's perimeter: the two are answered alike.

    Refused rather than accepted blindly: the post tells the département and the employer, that is who may read the plan and whose streams hear of it.
    """

    type: ClassVar[str] = "post-not-yet-known"
    title: ClassVar[str] = "Poste pas encore connu"

    def __init__(self, pointer: str = "/post_id") -> None:
        sentence = "Ce poste n'est pas connu ici. S'il vient d'être ouvert, réessayez dans quelques secondes."
        super().__init__(sentence, pointers=[(pointer, sentence)], headers={"Retry-After": "2"})


class UnknownFunder(Invalid):
    type: ClassVar[str] = "unknown-funder"
    title: ClassVar[str] = "Financeur inconnu"

    def __init__(self) -> None:
        sentence = "Ce financeur n'existe pas, ou n'intervient pas dans ce département."
        super().__init__(sentence, pointers=[("/funder_id", sentence)])


class PeriodInverted(Invalid):
    type: ClassVar[str] = "period-inverted"
    title: ClassVar[str] = "Période impossible"

    def __init__(self) -> None:
        super().__init__("La fin précède le début.", pointers=[("/ends_on", "La fin précède le début.")])

"""The rules of the directory: identifiers, the moves of a post, units and their territory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.contracts import demonstration
from libs.contracts.units import plain_label, unit_id_of
from libs.contracts.vocabularies import UnitKind
from services.partners.domain import (
    LA_POSTE,
    MOVES,
    Answers,
    Move,
    MoveRefused,
    PostState,
    home_departement,
    is_siren,
    is_siret,
    moved,
    moves_from,
    unit_kind_of,
)

SIRETS = {
    "a real one": ("20003452800014", True),
    "two digits exchanged at its end": ("20003452800041", False),
    "its SIREN is wrong": ("20003458200014", False),
    "the head office of La Poste satisfies Luhn": ("35600000000048", True),
    "an office of La Poste: its sum is no multiple of five": ("35600000012345", False),
    "an office of La Poste: it does not satisfy Luhn and need not": ("35600000000010", True),
    "zeros satisfy Luhn and are nobody": ("00000000000000", False),
    "thirteen digits": ("2000345280001", False),
    "fifteen digits": ("200034528000140", False),
    "spaces between its parts": ("200 034 528 00014", False),
    "digits of another script": ("٢٠٠٠٣٤٥٢٨٠٠٠١٤", False),
    "a letter": ("2000345280001A", False),
    "nothing": ("", False),
    "a fictitious one of the demonstration": ("00095002200012", True),
}


@pytest.mark.parametrize(("siret", "valid"), SIRETS.values(), ids=SIRETS.keys())
def test_a_siret_is_checked(siret: str, valid: bool) -> None:
    assert is_siret(siret) is valid


def test_a_siren_is_checked() -> None:
    assert is_siren("200034528")
    assert not is_siren("200034582")


def _luhn_digit(digits: str) -> str:
    return next(last for last in "0123456789" if _luhn_total(digits + last) % 10 == 0)


def _luhn_total(digits: str) -> int:
    return sum(sum(divmod(int(digit) * (1 + place % 2), 10)) for place, digit in enumerate(reversed(digits)))


@given(st.text("0123456789", min_size=8, max_size=8), st.text("0123456789", min_size=4, max_size=4))
def test_what_is_made_by_the_formula_is_a_siret_and_no_single_wrong_digit_goes_unnoticed(company: str, office: str) -> None:
    siren = company + _luhn_digit(company)
    siret = siren + office + _luhn_digit(siren + office)
    if siren == "0" * 9 or siren == LA_POSTE:
        return

    assert is_siret(siret)

    for place in range(14):
        for digit in "0123456789":
            if digit != siret[place]:
                assert not is_siret(siret[:place] + digit + siret[place + 1 :])


@given(st.text("0123456789", min_size=5, max_size=5))
def test_an_office_of_la_poste_has_a_digit_sum_that_is_a_multiple_of_five(office: str) -> None:
    siret = LA_POSTE + office

    assert is_siret(siret) is (sum(map(int, siret)) % 5 == 0 or _luhn_total(siret) % 10 == 0)


@given(st.text(max_size=20))
def test_no_text_breaks_the_check_of_a_siret(text: str) -> None:
    assert is_siret(text) in (True, False)


FILLED, VACANT, SUSPENDED, CLOSED = PostState.FILLED, PostState.VACANT, PostState.SUSPENDED, PostState.CLOSED
MOVED = {
    #                           not there  filled     vacant     suspended  closed
    Move.OPEN: (VACANT, None, None, None, None),
    Move.OPEN_FILLED: (FILLED, None, None, None, None),
    Move.FILL: (None, None, FILLED, FILLED, None),
    Move.VACATE: (None, VACANT, None, VACANT, None),
    Move.SUSPEND: (None, SUSPENDED, SUSPENDED, SUSPENDED, None),
    Move.CLOSE: (None, CLOSED, CLOSED, CLOSED, None),
}
SITUATIONS = [
    pytest.param(state, move, after, id=f"{move} when {state or 'not there'}")
    for move, row in MOVED.items()
    for state, after in zip((None, FILLED, VACANT, SUSPENDED, CLOSED), row, strict=True)
]


@pytest.mark.parametrize(("state", "move", "after"), SITUATIONS)
def test_a_post_moves_as_the_table_says(state: PostState | None, move: Move, after: PostState | None) -> None:
    if after is None:
        with pytest.raises(MoveRefused) as refused:
            moved(state, move)
        assert refused.value.status == 409
        assert move not in moves_from(state)
    else:
        assert moved(state, move) is after
        assert move in moves_from(state)


def test_every_move_is_in_the_table_and_a_closed_post_is_closed_for_good() -> None:
    assert set(MOVES) == set(Move)
    assert moves_from(PostState.CLOSED) == []


LABELS = {
    "Gendarmerie - Brigade de Magny-en-Vexin": UnitKind.BRIGADE,
    "Commissariat de police d'Enghien Les Bains": UnitKind.COMMISSARIAT,
    "Gendarmerie - Compagnie de Pontoise": UnitKind.COMPANY,
    "Groupement de gendarmerie départementale du Val-d'Oise": UnitKind.GROUP,
    "Préfecture de Police - Commissariat central du 5e": UnitKind.PREFECTURE,
    "Gendarmerie - Communauté de brigades de Vigny": UnitKind.BRIGADE,
    "Peloton d'autoroute": UnitKind.OTHER,
}


@pytest.mark.parametrize(("label", "kind"), LABELS.items())
def test_the_kind_of_a_unit_is_read_in_its_label(label: str, kind: UnitKind) -> None:
    assert unit_kind_of(label) is kind


SAME_UNIT = {
    "hyphens and capitals": ("Commissariat de police d'Enghien Les Bains", "COMMISSARIAT DE POLICE D’ENGHIEN-LES-BAINS"),
    "accents in one code point or two": ("Commissariat de Saint-Étienne", "Commissariat de Saint-E\u0301tienne"),
    "accents left out": ("Commissariat de Saint-Étienne", "Commissariat de Saint-Etienne"),
    "spaces": ("Commissariat  de Cergy ", "Commissariat de Cergy"),
    "a ligature": ("Commissariat de Sacré-Cœur", "Commissariat de Sacre Coeur"),
}


@pytest.mark.parametrize(("one", "other"), SAME_UNIT.values(), ids=SAME_UNIT.keys())
def test_a_police_unit_keeps_its_id_however_its_label_is_written(one: str, other: str) -> None:
    assert plain_label(one) == plain_label(other)
    assert unit_id_of("PN", "", one) == unit_id_of("PN", "", other)


def test_a_gendarmerie_unit_is_its_number_and_not_its_label() -> None:
    assert unit_id_of("GN", "1003396", "Brigade de Magny") == unit_id_of("GN", "1003396", "Brigade territoriale de Magny-en-Vexin")
    assert unit_id_of("GN", "1003396", "Brigade de Magny") != unit_id_of("GN", "1003397", "Brigade de Magny")
    assert unit_id_of("GN", "1003396", "Gendarmerie - Brigade de Magny-en-Vexin") == demonstration.UNIT_MAGNY


def test_two_saint_denis_are_two_units_but_avignon_is_one_on_both_sides_of_the_river() -> None:
    assert unit_id_of("PN", "", "Commissariat de Saint-Denis", "93066") != unit_id_of("PN", "", "Commissariat de Saint-Denis", "97411")
    assert unit_id_of("PN", "", "Commissariat d'Avignon", "84007") == unit_id_of("PN", "", "Commissariat d'Avignon", "30351")


HOMES = {
    "one département": ({"95127": 60_000, "95500": 30_000}, "95"),
    "where most of its people live": ({"84007": 90_000, "30351": 12_000, "30011": 8_000}, "84"),
    "even with more communes across the river": ({"84007": 90_000, "30351": 1, "30011": 1}, "84"),
    "nobody is known: more communes": ({"30351": 0, "30011": 0, "84007": 0}, "30"),
    "nothing tells them apart: the lower code": ({"84007": 0, "30351": 0}, "30"),
    "overseas, three characters": ({"97107": 12_000}, "971"),
    "Corsica": ({"2A004": 70_000}, "2A"),
}


@pytest.mark.parametrize(("populations", "home"), HOMES.values(), ids=HOMES.keys())
def test_a_unit_on_both_sides_of_a_border_belongs_where_most_of_its_people_live(populations: dict[str, int], home: str) -> None:
    assert home_departement(populations) == home


@pytest.mark.parametrize(
    ("accepted", "rejected", "expired", "percent"), [(0, 0, 0, None), (3, 1, 0, 75), (1, 0, 2, 33), (0, 2, 0, 0), (1, 0, 0, 100)]
)
def test_silence_counts_as_no_acceptance(accepted: int, rejected: int, expired: int, percent: int | None) -> None:
    assert Answers(accepted, rejected, expired, None).acceptance_percent == percent

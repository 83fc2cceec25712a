"""The rules of money, without a database."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.contracts.vocabularies import Firmness
from services.funding.domain import (
    MOVES,
    Move,
    MoveNotAllowed,
    Overfunded,
    Status,
    balance_of,
    cost_per_situation,
    moved,
    moves_from,
)

LEGAL = {
    (Status.FORECAST, Move.REQUEST): Status.REQUESTED,
    (Status.FORECAST, Move.REFUSE): Status.REFUSED,
    (Status.REQUESTED, Move.GRANT): Status.GRANTED,
    (Status.REQUESTED, Move.REFUSE): Status.REFUSED,
    (Status.GRANTED, Move.AGREE): Status.AGREED,
    (Status.GRANTED, Move.REFUSE): Status.REFUSED,
    (Status.AGREED, Move.PAY): Status.PAID,
}


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("move", Move)
def test_a_contribution_moves_by_the_table_and_not_otherwise(status: Status, move: Move) -> None:
    if (status, move) in LEGAL:
        assert moved(status, move) is LEGAL[status, move]
        assert move in moves_from(status)
    else:
        with pytest.raises(MoveNotAllowed):
            moved(status, move)
        assert move not in moves_from(status)
    assert set(MOVES) == set(Move)


def test_what_is_funded_and_what_is_firm_are_two_sums() -> None:
    balance = balance_of(
        100,
        [(Status.FORECAST, 10), (Status.REQUESTED, 20), (Status.GRANTED, 30), (Status.AGREED, 5), (Status.PAID, 1), (Status.REFUSED, 1000)],
    )

    assert balance.funded_cents == 66
    assert balance.firm_cents == 36
    assert balance.gap_cents == 34
    assert balance.by_firmness[Firmness.REQUESTED] == 20


contributions = st.lists(st.tuples(st.sampled_from(Status), st.integers(0, 10**9)), max_size=50)


@given(budget=st.integers(1, 10**10), given=contributions)
def test_budget_is_funded_plus_gap_whatever_the_contributions(budget: int, given: list[tuple[Status, int]]) -> None:
    counted = sum(amount for status, amount in given if status is not Status.REFUSED)
    if counted > budget:
        with pytest.raises(Overfunded):
            balance_of(budget, given)
        return

    balance = balance_of(budget, given)

    assert balance.funded_cents + balance.gap_cents == budget
    assert 0 <= balance.firm_cents <= balance.funded_cents == counted


def test_without_a_situation_there_is_no_cost_per_situation() -> None:
    assert cost_per_situation(6_000_000, 0) is None
    assert cost_per_situation(6_000_000, 407) == 14_742

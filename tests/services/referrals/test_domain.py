"""The tables of moves, and the choice of a post: every legal move, and no other."""

from datetime import date
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.contracts.vocabularies import Channel, OrientationStatus, ReferralStatus, Role, RoutingReason, UnroutedReason
from services.referrals.domain import MOVES, Move, MoveRefused, age_on, moved, moves_open_to
from services.referrals.identities import normalised_identity, normalised_name
from services.referrals.orientations.domain import ORIENTATION_MOVES, OrientationMove, orientation_moved, orientation_moves_open_to
from services.referrals.receiving.domain import Candidate, PostState, Verdict, decide

LEGAL = {
    ("received", "route", "assigned"),
    ("received", "unroute", "unrouted"),
    ("unrouted", "route", "assigned"),
    ("assigned", "route", "assigned"),
    ("unrouted", "assign", "assigned"),
    ("assigned", "assign", "assigned"),
    ("accepted", "assign", "assigned"),
    ("assigned", "accept", "accepted"),
    ("assigned", "decline", "unrouted"),
    ("assigned", "transfer", "assigned"),
    ("accepted", "transfer", "assigned"),
    ("accepted", "contact", "accepted"),
    ("accepted", "interview", "accepted"),
    ("accepted", "assess", "accepted"),
    ("unrouted", "correct", "unrouted"),
    ("assigned", "correct", "assigned"),
    ("accepted", "correct", "accepted"),
    ("closed", "correct", "closed"),
    ("accepted", "orient", "accepted"),
    ("unrouted", "alert", "unrouted"),
    ("assigned", "alert", "assigned"),
    ("accepted", "alert", "accepted"),
    ("closed", "alert", "closed"),
    ("assigned", "close", "closed"),
    ("accepted", "close", "closed"),
    ("unrouted", "close_unrouted", "closed"),
    ("assigned", "close_unrouted", "closed"),
    ("accepted", "close_unrouted", "closed"),
    ("closed", "reopen", "accepted"),
    ("closed", "reopen_unrouted", "unrouted"),
    ("closed", "erase", "erased"),
}
LEGAL_ORIENTATION = {
    (None, "request", "requested"),
    ("requested", "accept", "accepted"),
    ("requested", "reject", "rejected"),
    ("accepted", "start", "in-progress"),
    ("in-progress", "complete", "completed"),
    ("accepted", "fail", "failed"),
    ("in-progress", "fail", "failed"),
    ("requested", "cancel", "cancelled"),
    ("accepted", "cancel", "cancelled"),
    ("in-progress", "cancel", "cancelled"),
    ("requested", "expire", "expired"),
    ("requested", "withdraw", "cancelled"),
    ("accepted", "withdraw", "cancelled"),
    ("in-progress", "withdraw", "cancelled"),
}


def test_a_referral_makes_these_moves_and_no_other() -> None:
    found = set()
    for status in ReferralStatus:
        for move in Move:
            try:
                found.add((str(status), str(move), str(moved(status, move))))
            except MoveRefused:
                continue

    assert found == LEGAL
    assert set(MOVES) == set(Move)


def test_an_orientation_makes_these_moves_and_no_other() -> None:
    found: set[tuple[str | None, str, str]] = set()
    for status in (None, *OrientationStatus):
        for move in OrientationMove:
            try:
                found.add((None if status is None else str(status), str(move), str(orientation_moved(status, move))))
            except MoveRefused:
                continue

    assert found == LEGAL_ORIENTATION
    assert set(ORIENTATION_MOVES) == set(OrientationMove)


def test_who_asked_and_who_coordinates_may_take_back_what_lives() -> None:
    assert {role for role in Role if OrientationMove.CANCEL in orientation_moves_open_to(role, OrientationStatus.ACCEPTED)} == {
        Role.ISCG,
        Role.COORDINATOR,
    }


@pytest.mark.parametrize("status", list(ReferralStatus))
def test_the_police_and_partners_have_no_move(status: ReferralStatus) -> None:
    assert moves_open_to(Role.POLICE, status, at_work=True) == []
    assert moves_open_to(Role.PARTNER, status, at_work=True) == []


A, B, C = (UUID(int=number) for number in (1, 2, 3))
FILLED = PostState.FILLED


def candidate(
    post_id: UUID, by: RoutingReason = RoutingReason.UNIT, state: PostState = FILLED, percent: int = 100, *channels: Channel
) -> Candidate:
    return Candidate(post_id, by, state, frozenset(channels), percent)


@pytest.mark.parametrize(
    ("candidates", "loads", "declined", "chosen", "reason"),
    [
        ([], {}, set(), None, UnroutedReason.NO_COVERAGE),
        ([candidate(A)], {}, set(), A, RoutingReason.UNIT),
        ([candidate(A, RoutingReason.COMMUNE)], {}, set(), A, RoutingReason.COMMUNE),
        ([candidate(A, RoutingReason.COMMUNE), candidate(B)], {A: 0, B: 99}, set(), B, RoutingReason.UNIT),
        ([candidate(A), candidate(B)], {A: 2, B: 1}, set(), B, RoutingReason.UNIT),
        ([candidate(A), candidate(B)], {A: 1, B: 1}, set(), A, RoutingReason.UNIT),
        ([candidate(A, percent=100), candidate(B, percent=50)], {A: 3, B: 2}, set(), A, RoutingReason.UNIT),  # 2 at half time weigh 4
        ([candidate(A, RoutingReason.UNIT, PostState.VACANT)], {}, set(), None, UnroutedReason.NO_OPEN_POST),
        ([candidate(A, RoutingReason.UNIT, PostState.VACANT), candidate(B, RoutingReason.COMMUNE)], {}, set(), B, RoutingReason.COMMUNE),
        ([candidate(A, RoutingReason.UNIT, FILLED, 100, Channel.OFFICER)], {}, set(), None, UnroutedReason.CHANNEL_NOT_ACCEPTED),
        ([candidate(A, RoutingReason.UNIT, FILLED, 100, Channel.COMPLAINT)], {}, set(), A, RoutingReason.UNIT),
        ([candidate(A)], {}, {A}, None, UnroutedReason.DECLINED),
        ([candidate(A), candidate(B)], {}, {A}, B, RoutingReason.UNIT),
    ],
)
def test_a_referral_goes_to_the_least_loaded_post_that_can_take_it(
    candidates: list[Candidate], loads: dict[UUID, int], declined: set[UUID], chosen: UUID | None, reason: object
) -> None:
    decision = decide(candidates, Channel.COMPLAINT, loads, declined)

    assert (decision.post_id, decision.reason) == (chosen, reason)
    assert len(decision.considered) == len(candidates)
    assert sum(one.verdict is Verdict.CHOSEN for one in decision.considered) == (chosen is not None)


ROWS = st.tuples(st.sampled_from([A, B, C]), st.sampled_from(list(PostState)), st.sampled_from([RoutingReason.UNIT, RoutingReason.COMMUNE]))


@given(st.lists(ROWS, unique_by=lambda row: row[0]))
def test_only_a_filled_post_is_ever_chosen(rows: list[tuple[UUID, PostState, RoutingReason]]) -> None:
    decision = decide([candidate(post, by, state) for post, state, by in rows], Channel.REPORT, {})

    if decision.post_id is not None:
        assert (decision.post_id, FILLED) in {(post, state) for post, state, _ in rows}
    else:
        assert all(state is not FILLED for _, state, _ in rows)


@pytest.mark.parametrize(
    ("birth", "day", "age"),
    [
        (date(2000, 6, 15), date(2026, 6, 14), 25),
        (date(2000, 6, 15), date(2026, 6, 15), 26),
        (date(2004, 2, 29), date(2026, 2, 28), 21),
        (date(2026, 1, 1), date(2026, 1, 1), 0),
    ],
)
def test_an_age_is_in_completed_years(birth: date, day: date, age: int) -> None:
    assert age_on(birth, day) == age


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("Lefèvre", "Zoé"), ("LEFEVRE", "zoe")),
        (("de la Tour", "Anne"), ("DELATOUR", "Anne Marie")),
        (("O'Brien", "Jean-Pierre"), ("OBRIEN", "JEANPIERRE")),
    ],
)
def test_one_person_written_twice_is_one(one: tuple[str, str], other: tuple[str, str]) -> None:
    day = date(1990, 1, 31)

    name = normalised_name(*one)

    assert name is not None
    assert name == normalised_name(*other)
    assert normalised_identity(name, day) != normalised_identity(name, date(1990, 1, 30))

"""An absent post is not sent referrals; who stands in takes its coverage over, in its own right, until the post is back."""

from datetime import date
from typing import Any
from uuid import UUID

import pytest

from libs.contracts import demonstration as d
from libs.contracts.partners import PostClosed, PostFilled, PostOpened, PostSuspended, PostVacant
from libs.contracts.vocabularies import Channel, PostForce
from services.referrals.app import route_unrouted
from services.referrals.handlers import bootstrap
from tests.services.referrals.conftest import MORNING, Referrals

OTHER, THIRD = UUID(int=0x95_0004_01), UUID(int=0x95_0004_02)
UNTIL = date(2099, 1, 31)


def of(post_id: UUID) -> dict[str, Any]:
    return {"departement": "95", "post_id": post_id, "employer_id": d.EMPLOYER}


def absent(post_id: UUID = d.POST_CERGY, replacement: UUID | None = d.POST_SARCELLES) -> PostSuspended:
    return PostSuspended(**of(post_id), suspended_at=MORNING, until_on=UNTIL, replacement_post_id=replacement)


def another(
    post_id: UUID = OTHER, *, channels: tuple[Channel, ...] = (), units: tuple[UUID, ...] = (), communes: tuple[str, ...] = ("95002",)
) -> PostOpened:
    return PostOpened(
        **of(post_id),
        force=PostForce.MIXED,
        full_time_percent=100,
        channels=channels,
        units=units,
        communes=communes,
        filled=True,
        opened_on=date(2026, 1, 1),
        opened_at=MORNING,
    )


async def routed(referrals: Referrals, **changes: Any) -> tuple[UUID | None, dict[str, Any]]:
    """Where a referral of Cergy goes, and why."""
    referral_id = await referrals.receive(**changes)
    [row] = await referrals.rows(f"SELECT post_id FROM referrals WHERE id = '{referral_id}'")
    answer = await referrals.get("coordinator-95", f"/v1/referrals/{referral_id}/routing")
    assert answer.status_code == 200, answer.text
    return row.post_id, answer.json()


async def test_who_stands_in_takes_the_coverage_over_and_the_decision_says_so(referrals: Referrals) -> None:
    await referrals.hear("partners", absent())

    post_id, why = await routed(referrals)

    assert post_id == d.POST_SARCELLES
    assert why["reason"] == "unit"
    assert [(one["post_id"], one["verdict"], one["replaces_id"]) for one in why["considered"]] == [
        (str(d.POST_CERGY), "suspended", None),
        (str(d.POST_SARCELLES), "chosen", str(d.POST_CERGY)),
    ]


async def test_a_post_that_is_back_has_its_coverage_again_and_who_stood_in_has_not(referrals: Referrals) -> None:
    await referrals.hear("partners", absent(), PostFilled(**of(d.POST_CERGY), filled_at=MORNING))
    back, _ = await routed(referrals)

    await referrals.hear("partners", PostSuspended(**of(d.POST_CERGY), suspended_at=MORNING))
    without, why = await routed(referrals)

    assert back == d.POST_CERGY
    assert (without, why["reason"]) == (None, "no_open_post")


STANDING_IN: dict[str, tuple[list[Any], UUID | None]] = {
    "who is absent in turn is stood in for": ([absent(), absent(d.POST_SARCELLES, OTHER)], OTHER),
    "who is absent in turn without anybody": ([absent(), absent(d.POST_SARCELLES, None)], None),
    "who stand in for each other": ([absent(), absent(d.POST_SARCELLES, d.POST_CERGY)], None),
    "three in a circle": ([absent(), absent(d.POST_SARCELLES, OTHER), absent(OTHER, d.POST_CERGY)], None),
    "who is vacant": ([absent(), PostVacant(**of(d.POST_SARCELLES), vacant_at=MORNING)], None),
    "who is closed": ([absent(), PostClosed(**of(d.POST_SARCELLES), closed_at=MORNING)], None),
    "whose own agreement does not take this channel": ([another(THIRD, channels=(Channel.OFFICER,)), absent(replacement=THIRD)], None),
    "who is not known here": ([absent(replacement=UUID(int=9))], None),
}


@pytest.mark.parametrize(("said", "expected"), STANDING_IN.values(), ids=STANDING_IN)
async def test_who_stands_in_does_so_in_its_own_right(referrals: Referrals, said: list[Any], expected: UUID | None) -> None:
    await referrals.hear("partners", another(), *said)

    post_id, _ = await routed(referrals)

    assert post_id == expected


async def test_who_stands_in_for_a_unit_comes_before_who_covers_the_commune(referrals: Referrals) -> None:
    """And a post that covers the commune by itself, but stands in for the unit's, counts as the unit's."""
    await referrals.hear("partners", another(communes=("95127",)), another(THIRD, communes=("95127",)), absent(replacement=OTHER))

    post_id, why = await routed(referrals)

    assert post_id == OTHER
    verdicts = {one["post_id"]: (one["by"], one["verdict"]) for one in why["considered"]}
    assert verdicts[str(OTHER)] == ("unit", "chosen")
    assert verdicts[str(THIRD)] == ("commune", "farther")
    assert len(why["considered"]) == 3


async def test_what_waits_is_tried_again_when_somebody_stands_in(referrals: Referrals) -> None:
    await referrals.hear("partners", PostSuspended(**of(d.POST_CERGY), suspended_at=MORNING))
    waiting, _ = await routed(referrals)
    await route_unrouted(referrals.runtime)  # what was marked before is settled
    await referrals.said()

    await referrals.hear("partners", absent())
    await route_unrouted(referrals.runtime)

    assert waiting is None
    [(type, data)] = await referrals.said()
    assert (type, data["post_id"]) == ("referral.assigned", str(d.POST_SARCELLES))


async def test_what_an_absent_post_has_is_listed_for_the_coordinator_who_may_give_it_to_who_stands_in(referrals: Referrals) -> None:
    assigned, accepted = await referrals.receive(), await referrals.accepted()
    closed, elsewhere = await referrals.accepted(), await referrals.receive(unit_id=d.UNIT_SARCELLES)
    await referrals.move("iscg-95", closed, "close", {"reason": "out_of_scope"})
    await referrals.hear("partners", absent())

    async def left(who: str = "coordinator-95", **query: str) -> list[str]:
        answer = await referrals.get(who, "/v1/referrals", post_absent="true", **query)
        return [one["id"] for one in answer.json()["items"]]

    before = await left()
    refused = await referrals.move("coordinator-95", elsewhere, "assign", {"post_id": d.POST_CERGY})
    given = await referrals.move("coordinator-95", assigned, "assign", {"post_id": d.POST_SARCELLES})

    assert before == [str(assigned), str(accepted)]
    assert (refused.status_code, refused.json()["replacement_post_id"]) == (409, str(d.POST_SARCELLES))
    assert given.status_code == 200
    assert await left() == [str(accepted)]
    assert await left(status="assigned") == await left("coordinator-78") == []
    assert (await referrals.get("coordinator-95", "/v1/referral-counts")).json()["post_absent"] == {"count": 1, "more": False}


async def test_a_newcomer_reads_absences_in_the_list_of_posts(referrals: Referrals) -> None:
    post = {
        "id": str(d.POST_CERGY),
        "departement": "95",
        "employer_id": str(d.EMPLOYER),
        "state": "suspended",
        "full_time_percent": 100,
        "channels": [],
        "units": [],
        "communes": [],
        "until_on": "2099-01-31",
        "replacement_post_id": str(d.POST_SARCELLES),
    }

    async def read(address: str) -> Any:
        for one in [post] if address.startswith("/v1/posts") else []:
            yield one

    async with referrals.runtime.database.transaction() as session:
        await bootstrap(session, "partners", read)

    [row] = await referrals.rows(f"SELECT until_on, replacement_post_id FROM posts_heard WHERE id = '{d.POST_CERGY}'")
    assert (row.until_on, row.replacement_post_id) == (UNTIL, d.POST_SARCELLES)


async def test_what_an_absent_post_had_not_accepted_goes_to_who_stands_in_and_what_it_had_stays(referrals: Referrals) -> None:
    """Nobody has worked it yet: it goes where it would go if it were received now."""
    assigned, accepted = await referrals.receive(urgency="immediate", danger=True), await referrals.accepted()
    await referrals.said()

    await referrals.hear("partners", absent())
    await route_unrouted(referrals.runtime)

    rows = {row.id: (row.status, row.post_id) for row in await referrals.rows("SELECT id, status, post_id FROM referrals")}
    assert rows == {assigned: ("assigned", d.POST_SARCELLES), accepted: ("accepted", d.POST_CERGY)}
    [(type, data)] = await referrals.said()
    assert (type, data["referral_id"], data["post_id"], data["reason"]) == (
        "referral.assigned",
        str(assigned),
        str(d.POST_SARCELLES),
        "unit",
    )
    [move] = await referrals.rows(f"SELECT * FROM moves WHERE referral_id = '{assigned}'")
    assert (move.move, move.status_before, move.post_before, move.post_after) == ("route", "assigned", d.POST_CERGY, d.POST_SARCELLES)


async def test_what_was_given_by_hand_stays_for_the_coordinator_and_goes_back_to_nobody_by_itself(referrals: Referrals) -> None:
    """A post that gave a referral away, or was relieved of it, is not given it again by the coverage, which knows nothing of why."""
    await wants_mail(referrals, "departement:95", "immediate")
    transferred, assigned = await referrals.receive(), await referrals.receive()
    await referrals.move("iscg-95", transferred, "transfer", {"post_id": d.POST_SARCELLES})
    await referrals.move("coordinator-95", assigned, "assign", {"post_id": d.POST_SARCELLES})

    await referrals.hear("partners", another(units=(d.UNIT_CERGY,)), absent(d.POST_SARCELLES, OTHER))
    await route_unrouted(referrals.runtime)

    rows = {row.id: (row.status, row.post_id) for row in await referrals.rows("SELECT id, status, post_id FROM referrals")}
    assert rows == dict.fromkeys((transferred, assigned), ("assigned", d.POST_SARCELLES))
    assert await told(referrals, "departement:95") == ["post_absent at once"]


@pytest.mark.parametrize("gone", [PostVacant(**of(d.POST_CERGY), vacant_at=MORNING), PostClosed(**of(d.POST_CERGY), closed_at=MORNING)])
async def test_what_nobody_else_can_take_stays_with_its_post_until_somebody_can(referrals: Referrals, gone: Any) -> None:
    referral_id = await referrals.receive()
    await referrals.hear("partners", gone)
    await route_unrouted(referrals.runtime)
    [alone] = await referrals.rows(f"SELECT status, post_id FROM referrals WHERE id = '{referral_id}'")

    await referrals.hear("partners", another(units=(d.UNIT_CERGY,)))
    await route_unrouted(referrals.runtime)

    [row] = await referrals.rows(f"SELECT status, post_id FROM referrals WHERE id = '{referral_id}'")
    assert [(alone.status, alone.post_id), (row.status, row.post_id)] == [("assigned", d.POST_CERGY), ("assigned", OTHER)]


@pytest.mark.parametrize("accepted", [False, True])
async def test_what_an_absent_post_has_is_closed_by_the_coordinator_where_nobody_else_could(referrals: Referrals, accepted: bool) -> None:
    referral_id = await (referrals.accepted() if accepted else referrals.receive())
    duplicate = {"reason": "duplicate"}

    at_work = await referrals.move("coordinator-95", referral_id, "close", duplicate)
    offered = [(await referrals.read_as("coordinator-95", referral_id))["moves"]]
    await referrals.hear("partners", absent(replacement=None))
    offered.append((await referrals.read_as("coordinator-95", referral_id))["moves"])
    closed = await referrals.move("coordinator-95", referral_id, "close", duplicate)

    assert (at_work.status_code, at_work.json()["type"].rpartition("/")[2]) == (409, "move-not-allowed")
    assert ["close_unrouted" in moves for moves in offered] == [False, True]
    assert (closed.status_code, closed.json()["status"]) == (200, "closed"), closed.text
    assert (await referrals.move("coordinator-95", referral_id, "reopen")).json()["status"] == "unrouted"


async def told(referrals: Referrals, recipient: str) -> list[str]:
    rows = await referrals.rows(f"SELECT kind, due_at <= created_at AS at_once FROM notices WHERE recipient = '{recipient}' ORDER BY id")
    return [row.kind + (" at once" if row.at_once else "") for row in rows]


@pytest.mark.parametrize(("urgency", "expected"), [("standard", "post_absent"), ("immediate", "post_absent at once")])
async def test_the_coordinator_is_told_of_an_absent_post_that_has_open_referrals(referrals: Referrals, urgency: str, expected: str) -> None:
    await wants_mail(referrals, "departement:95", "digest")
    await referrals.accepted(urgency=urgency, danger=False)

    await referrals.hear("partners", absent(d.POST_SARCELLES, None))
    without = await told(referrals, "departement:95")
    await referrals.hear("partners", absent())

    assert (without, await told(referrals, "departement:95")) == ([], [expected])


async def test_what_a_partner_answers_about_a_referral_of_an_absent_post_is_told_to_its_coordinator_too(referrals: Referrals) -> None:
    for recipient in ("departement:95", f"post:{d.POST_CERGY}"):
        await wants_mail(referrals, recipient, "immediate")
    asked = [(await referrals.orient(await referrals.accepted())).json()["id"] for _ in range(2)]
    await referrals.answer("partner-95", asked[0], "reject", {"reason": "no_capacity"})
    await referrals.hear("partners", absent())

    await referrals.answer("partner-95", asked[1], "reject", {"reason": "no_capacity"})

    rejected = "orientation_rejected at once"
    assert (await told(referrals, f"post:{d.POST_CERGY}")).count(rejected) == 2
    assert await told(referrals, "departement:95") == ["post_absent at once", rejected]


async def wants_mail(referrals: Referrals, recipient: str, mode: str) -> None:
    who = "coordinator-95" if recipient.startswith("departement") else "iscg-95"
    headers = referrals.token(who) | {"If-Match": '"0"'}
    answer = await referrals.client.put(
        f"/v1/notice-preferences/{recipient}", json={"address": "poste@maillon.example", "mode": mode}, headers=headers
    )
    assert answer.status_code == 200, answer.text

"""Target delays: when a referral is due, what moves that, and what is said when nobody called in time."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from libs.contracts import demonstration as d
from libs.contracts.funding import AgreementEnded, AgreementSigned, TargetDelay
from libs.contracts.partners import CoverageChanged
from libs.contracts.units import police_id_of
from libs.contracts.vocabularies import Urgency
from services.referrals.app import notice_overdue, route_unrouted
from services.referrals.delays.overdue import notice
from services.referrals.models import WAITING
from tests.services.referrals.conftest import CONTENT, MORNING, Referrals

pytestmark = pytest.mark.usefixtures("calm")

HOUR = timedelta(hours=1)
AGREEMENT = uuid4()


def signed(hours: int, *posts: UUID, urgency: Urgency = Urgency.PRIORITY, **more: Any) -> AgreementSigned:
    known: dict[str, Any] = {
        "departement": "95",
        "agreement_id": AGREEMENT,
        "post_ids": posts or (d.POST_CERGY,),
        "starts_on": date(2026, 1, 1),
        "ends_on": date(2099, 12, 31),
        "channels": (),
        "targets": (TargetDelay(urgency=urgency, minutes=hours * 60),),
        "signed_at": MORNING,
    }
    return AgreementSigned(**known | more)


async def row(referrals: Referrals, referral_id: UUID) -> Any:
    [found] = await referrals.rows(f"SELECT * FROM referrals WHERE id = '{referral_id}'")
    return found


async def delay(referrals: Referrals, referral_id: UUID) -> timedelta:
    """From reception to the due time."""
    found = await row(referrals, referral_id)
    due: timedelta = found.due_at - found.received_at
    return due


async def hours_pass(referrals: Referrals, hours: float) -> None:
    """As if everything had been received that much earlier."""
    async with referrals.runtime.database.transaction() as session:
        for table, columns in (("referrals", ("received_at", "due_from", "due_at")), ("overdues", ("due_at",))):
            earlier = ", ".join(f"{column} = {column} - CAST(:gone AS interval)" for column in columns)
            await session.execute(text(f"UPDATE {table} SET {earlier}"), {"gone": timedelta(hours=hours)})


async def alerts(referrals: Referrals) -> list[dict[str, Any]]:
    await notice_overdue(referrals.runtime)
    return [data for type, data in await referrals.said() if type == "referral.overdue"]


async def contact(referrals: Referrals, referral_id: UUID) -> None:
    [person, *_] = await referrals.persons(referral_id)
    call = {"person_id": person, "mode": "phone", "result": "no_answer", "attempted_at": "2026-11-23T08:00:00Z"}
    answer = await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/contacts", call)
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize(("urgency", "hours"), [("immediate", 4), ("priority", 24), ("standard", 72)])
async def test_a_referral_is_due_by_its_urgency(referrals: Referrals, urgency: str, hours: int) -> None:
    referral_id = await referrals.receive(urgency=urgency)

    assert await delay(referrals, referral_id) == hours * HOUR
    read = await referrals.read_as("iscg-95", referral_id)
    assert (read["overdue"], datetime.fromisoformat(read["first_contact_due_at"])) == (False, (await row(referrals, referral_id)).due_at)


async def test_the_agreement_of_its_post_overrides_the_network(referrals: Referrals) -> None:
    await referrals.hear("funding", signed(2))

    assert await delay(referrals, await referrals.receive()) == 2 * HOUR
    assert await delay(referrals, await referrals.receive(urgency="standard")) == 72 * HOUR  # the agreement says nothing of it
    assert await delay(referrals, await referrals.receive(unit_id=d.UNIT_SARCELLES)) == 24 * HOUR


@pytest.mark.parametrize("urgency", ["priority", "standard"])
async def test_danger_is_due_like_immediate_urgency_by_the_network_and_by_an_agreement(referrals: Referrals, urgency: str) -> None:
    danger = await referrals.receive(urgency=urgency, danger=True)
    calm = await referrals.receive(urgency=urgency)
    before = [await delay(referrals, danger), await delay(referrals, calm)]

    await referrals.hear("funding", signed(1, urgency=Urgency.IMMEDIATE))
    agreed = [await delay(referrals, one) for one in (danger, calm, await referrals.receive(urgency=urgency, danger=True))]

    usual = {"priority": 24, "standard": 72}[urgency] * HOUR
    assert (before, agreed) == ([4 * HOUR, usual], [HOUR, usual, HOUR])


async def test_a_danger_that_is_learned_later_moves_the_due_time(referrals: Referrals) -> None:
    referral_id = await referrals.receive(urgency="standard")

    learned = {"reason": "learned", "danger": True}
    assert (await referrals.move("iscg-95", referral_id, "corrections", learned)).status_code == 201
    in_danger = await delay(referrals, referral_id)
    mistaken = {"reason": "mistake", "danger": False}
    assert (await referrals.move("iscg-95", referral_id, "corrections", mistaken)).status_code == 201

    assert (in_danger, await delay(referrals, referral_id)) == (4 * HOUR, 72 * HOUR)


async def test_an_overdue_referral_is_said_once_to_the_departement_and_the_interior_and_never_to_the_police(referrals: Referrals) -> None:
    referral_id = await referrals.receive()
    assert await alerts(referrals) == []
    await hours_pass(referrals, 24)

    said = await alerts(referrals)
    again = await alerts(referrals)

    assert again == []
    [told] = said
    assert (told["referral_id"], told["post_id"], told["urgency"]) == (str(referral_id), str(d.POST_CERGY), "priority")
    streams = {one.stream for one in await referrals.rows("SELECT stream FROM outbox WHERE type = 'fr.maillon.referral.overdue.v1'")}
    assert streams == {"internal", "interior", "departement:95"}
    assert f"police:{police_id_of('police-95')}" not in streams


async def test_two_replicas_do_not_say_it_twice(referrals: Referrals) -> None:
    await referrals.receive()
    await hours_pass(referrals, 24)

    async with referrals.runtime.database.transaction() as one, referrals.runtime.database.transaction() as other:
        looked_at = [await notice(session, datetime.now(UTC), 50) for session in (one, other)]

    assert looked_at == [1, 0]
    assert [type for type, _ in await referrals.said()].count("referral.overdue") == 1


async def test_a_backlog_is_said_by_batches_to_the_last_one(referrals: Referrals) -> None:
    for _ in range(5):
        await referrals.receive()
    await hours_pass(referrals, 24)

    async with referrals.runtime.database.transaction() as session:
        batches = [await notice(session, datetime.now(UTC), 2) for _ in range(4)]

    assert batches == [2, 2, 1, 0]
    assert [type for type, _ in await referrals.said()].count("referral.overdue") == 5


async def test_nobody_is_warned_of_what_was_called_closed_or_is_not_due(referrals: Referrals) -> None:
    called, closed, waiting = await referrals.accepted(), await referrals.accepted(), await referrals.receive(urgency="standard")
    await contact(referrals, called)
    await referrals.move("iscg-95", closed, "close", {"reason": "out_of_scope"})
    await hours_pass(referrals, 24)

    assert await alerts(referrals) == []
    assert [(await referrals.read_as("iscg-95", one))["overdue"] for one in (called, closed, waiting)] == [False] * 3


async def test_a_referral_without_post_is_overdue_too_and_its_coordinator_and_later_its_post_see_it(referrals: Referrals) -> None:
    referral_id = await referrals.receive(unit_id=None, commune="95008")
    await hours_pass(referrals, 24)

    [told] = await alerts(referrals)
    await referrals.move("coordinator-95", referral_id, "assign", {"post_id": d.POST_CERGY})

    assert told["post_id"] is None
    assert (await referrals.read_as("iscg-95", referral_id))["overdue"] is True
    assert await alerts(referrals) == []  # the same due time
    timeline = (await referrals.get("iscg-95", f"/v1/referrals/{referral_id}/timeline", CONTENT)).json()["items"]
    assert [(one["step"], one["code"], one["post_id"]) for one in timeline][:2] == [
        ("received", "intervention", None),
        ("overdue", "priority", None),
    ]


async def test_a_corrected_urgency_moves_the_due_time_and_one_that_comes_back_is_not_said_again(referrals: Referrals) -> None:
    referral_id = await referrals.receive(urgency="standard")
    await hours_pass(referrals, 25)

    async def corrected(urgency: str) -> list[Any]:
        answer = await referrals.move("iscg-95", referral_id, "corrections", {"reason": "learned", "urgency": urgency})
        assert answer.status_code == 201, answer.text
        return [one["urgency"] for one in await alerts(referrals)]

    assert await corrected("priority") == ["priority"]
    assert await corrected("standard") == []
    assert (await referrals.read_as("iscg-95", referral_id))["overdue"] is False
    assert await corrected("priority") == []
    assert await corrected("immediate") == ["immediate"]


async def test_another_post_brings_its_own_target_and_a_post_that_gives_back_changes_nothing(referrals: Referrals) -> None:
    await referrals.hear("funding", signed(2, d.POST_SARCELLES))
    referral_id = await referrals.receive()

    await referrals.move("iscg-95", referral_id, "transfer", {"post_id": d.POST_SARCELLES})
    at_sarcelles = await delay(referrals, referral_id)
    await referrals.move("coordinator-95", referral_id, "assign", {"post_id": d.POST_CERGY})
    at_cergy = await delay(referrals, referral_id)
    await referrals.hear("funding", signed(3, d.POST_CERGY, agreement_id=uuid4()))
    await referrals.move("iscg-95", referral_id, "decline", {"reason": "absent"})

    assert (at_sarcelles, at_cergy, await delay(referrals, referral_id)) == (2 * HOUR, 24 * HOUR, 3 * HOUR)


async def test_an_agreement_that_is_signed_moves_what_waits_at_its_posts_and_one_that_ends_moves_nothing(referrals: Referrals) -> None:
    waiting, called, elsewhere = await referrals.receive(), await referrals.accepted(), await referrals.receive(unit_id=d.UNIT_SARCELLES)
    await contact(referrals, called)
    await hours_pass(referrals, 25)
    assert len(await alerts(referrals)) == 2

    await referrals.hear("funding", signed(30))
    longer = await alerts(referrals)
    moved = [await delay(referrals, one) for one in (waiting, called, elsewhere)]
    await hours_pass(referrals, 6)
    passed_again = await alerts(referrals)
    await referrals.hear(
        "funding",
        AgreementEnded(departement="95", agreement_id=AGREEMENT, post_ids=(d.POST_CERGY,), ended_on=MORNING.date(), ended_at=MORNING),
    )

    assert (longer, moved) == ([], [30 * HOUR, 24 * HOUR, 24 * HOUR])
    assert [one["referral_id"] for one in passed_again] == [str(waiting)]
    assert await delay(referrals, waiting) == 30 * HOUR


async def test_what_is_reopened_is_due_from_then_whether_somebody_was_called_before_or_not(referrals: Referrals) -> None:
    silent, called = await referrals.accepted(), await referrals.accepted()
    await contact(referrals, called)
    for referral_id in (silent, called):
        await referrals.move("iscg-95", referral_id, "close", {"reason": "out_of_scope"})
    await hours_pass(referrals, 100)
    for referral_id in (silent, called):
        assert (await referrals.move("iscg-95", referral_id, "reopen")).status_code == 200

    assert await alerts(referrals) == []
    assert timedelta(hours=123) < await delay(referrals, silent) < timedelta(hours=125)
    await hours_pass(referrals, 25)
    assert {one["referral_id"] for one in await alerts(referrals)} == {str(silent), str(called)}


async def test_the_post_and_the_coordinator_are_told_by_mail_of_each_due_time_once(referrals: Referrals) -> None:
    for who, recipient in (("iscg-95", f"post:{d.POST_CERGY}"), ("coordinator-95", "departement:95")):
        body = {"address": f"{who}@exemple.invalid", "mode": "immediate"}
        answer = await referrals.client.put(
            f"/v1/notice-preferences/{recipient}", json=body, headers=referrals.token(who) | {"If-Match": '"0"'}
        )
        assert answer.status_code == 200, answer.text
    await referrals.receive()
    await hours_pass(referrals, 24)

    await alerts(referrals)
    await alerts(referrals)

    told = await referrals.rows("SELECT recipient FROM notices WHERE kind = 'overdue_referral' ORDER BY recipient")
    assert [one.recipient for one in told] == ["departement:95", f"post:{d.POST_CERGY}"]


async def test_who_watches_reads_how_many_are_overdue_by_urgency(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    await referrals.receive(urgency="immediate")
    await hours_pass(referrals, 24)

    async def counted() -> set[str]:
        scraped = (await referrals.client.get("/metrics")).text
        return {line for line in scraped.splitlines() if line.startswith("maillon_referrals_overdue{")}

    before = await counted()
    await contact(referrals, referral_id)
    after = await counted()

    def lines(immediate: int, priority: int) -> set[str]:
        numbers = {"immediate": immediate, "priority": priority, "standard": 0}
        return {f'maillon_referrals_overdue{{urgency="{one}"}} {number}.0' for one, number in numbers.items()}

    assert (before, after) == (lines(1, 1), lines(1, 0))


async def test_the_job_finds_what_passed_by_its_index(referrals: Referrals) -> None:
    """A full table must not be read every 15 seconds: the plan, with sequential scans priced out, is the index of what was not said yet."""
    async with referrals.runtime.database.transaction() as session:
        await session.execute(text("SET LOCAL enable_seqscan = off"))
        plan = await session.scalars(
            text(f"EXPLAIN SELECT id FROM referrals WHERE {WAITING} AND NOT overdue_said AND due_at <= now() ORDER BY due_at, id LIMIT 50")
        )
        assert "referrals_due_unsaid" in "\n".join(plan)


async def test_a_referral_that_finds_a_post_later_gets_the_target_of_its_agreement(referrals: Referrals) -> None:
    referral_id = await referrals.receive(unit_id=None, commune="95008")
    await referrals.hear("funding", signed(2))
    covers = CoverageChanged(
        departement="95", post_id=d.POST_CERGY, employer_id=d.EMPLOYER, units=(d.UNIT_CERGY,), communes=("95008",), changed_at=MORNING
    )
    await referrals.hear("partners", covers)

    await route_unrouted(referrals.runtime)

    assert (await row(referrals, referral_id)).status == "assigned"
    assert await delay(referrals, referral_id) == 2 * HOUR

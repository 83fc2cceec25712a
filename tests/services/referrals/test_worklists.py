"""Worklists: each caller's own, by filters that may be joined, counted, and paged through without a row lost or met twice."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from libs.chassis.database import driver_of
from libs.chassis.strict import Answer
from libs.contracts import demonstration as d
from libs.contracts.vocabularies import ReferralStatus
from services.referrals.worklists import pages
from services.referrals.worklists.pages import EVERYWHERE, Question, Within, where
from services.referrals.worklists.referrals import Wanted
from services.referrals.worklists.schemas import OrientationList, ReferralList, StatusList
from tests.bench import worklist as bench
from tests.services.referrals.conftest import Referrals

pytestmark = pytest.mark.usefixtures("calm")

OPEN = ["unrouted", "assigned", "accepted"]
UNROUTED: dict[str, Any] = {"unit_id": None, "commune": "95008"}
SARCELLES: dict[str, Any] = {"unit_id": d.UNIT_SARCELLES, "commune": "95585"}


async def listed(referrals: Referrals, who: str = "coordinator-95", address: str = "/v1/referrals", **query: Any) -> list[str]:
    """Every id, page by page."""
    ids: list[str] = []
    asked: dict[str, Any] = dict(query)
    while True:
        answer = await referrals.get(who, address, **asked)
        assert answer.status_code == 200, answer.text
        ids += [one["id"] for one in answer.json()["items"]]
        if answer.json()["next"] is None:
            return ids
        asked = query | {"cursor": answer.json()["next"]}


async def states(referrals: Referrals, who: str = "coordinator-95", address: str = "/v1/referral-counts") -> dict[str, int]:
    answer = await referrals.get(who, address)
    assert answer.status_code == 200, answer.text
    return {one["status"]: one["count"] for one in answer.json()["states"] if one["count"]}


async def age(referrals: Referrals, referral_id: UUID, hours: int) -> None:
    async with referrals.runtime.database.transaction() as session:
        earlier = ", ".join(f"{name} = {name} - CAST(:gone AS interval)" for name in ("received_at", "due_at", "changed_at"))
        await session.execute(text(f"UPDATE referrals SET {earlier} WHERE id = :id"), {"gone": timedelta(hours=hours), "id": referral_id})


async def test_each_filter_narrows_and_filters_are_joined(referrals: Referrals) -> None:
    plain, urgent = str(await referrals.receive()), str(await referrals.receive(urgency="immediate"))
    elsewhere = str(await referrals.receive(**SARCELLES, themes=["housing", "addiction"], principal_theme="housing"))
    lost, accepted = str(await referrals.receive(**UNROUTED)), str(await referrals.accepted())
    every = [plain, urgent, elsewhere, lost, accepted]

    async def found(**query: Any) -> list[str]:
        return await listed(referrals, **query)

    assert await found() == every
    assert await found(unit=str(d.UNIT_SARCELLES)) == await found(commune="95585") == await found(theme="housing") == [elsewhere]
    assert await found(theme="addiction") == []  # not its principal one
    assert await found(unrouted="true") == await found(status="unrouted") == [lost]
    assert await found(status=["accepted", "unrouted"]) == [lost, accepted]
    assert await found(status=OPEN) == [urgent, plain, elsewhere, lost, accepted]
    assert await found(status=["assigned", "accepted"], urgency="priority", unit=str(d.UNIT_CERGY)) == [plain, accepted]
    assert await found(status="accepted", unrouted="true") == [lost, accepted]
    assert await found(urgency="immediate", theme="housing") == []


async def test_each_caller_finds_what_is_theirs_whatever_the_filter(referrals: Referrals) -> None:
    here, there = str(await referrals.receive()), str(await referrals.receive(**SARCELLES))
    far = str(await referrals.receive("police-78", unit_id=d.UNIT_78, commune="78646"))

    for query in ({}, {"status": "assigned"}, {"urgency": "priority"}, {"changed_since": "2026-01-01T00:00:00Z"}):
        assert await listed(referrals, "iscg-95", **query) == [here]
        assert await listed(referrals, "coordinator-95", **query) == [here, there]
        assert await listed(referrals, "iscg-78", **query) == await listed(referrals, "coordinator-78", **query) == [far]
    assert await listed(referrals, "coordinator-95", commune="78646") == []
    cergy, sarcelles = {"post": str(d.POST_CERGY)}, {"post": str(d.POST_SARCELLES)}
    for query in ({}, {"status": "assigned"}, {"urgency": "priority"}, {"changed_since": "2026-01-01T00:00:00Z"}, {"commune": "95585"}):
        assert await listed(referrals, "coordinator-95", **query, **sarcelles) == [there]
        assert (
            await listed(referrals, "coordinator-78", **query, **sarcelles)
            == await listed(referrals, "iscg-95", **query, **sarcelles)
            == []
        )
    assert await listed(referrals, "coordinator-95", **cergy) == await listed(referrals, "iscg-95", **cergy) == [here]
    assert await states(referrals, "iscg-95") == {"assigned": 1}
    assert await states(referrals, "coordinator-95") == {"assigned": 2}


async def test_several_departements_and_posts_are_listed_in_one_order_and_counted_together(referrals: Referrals) -> None:
    here, far = await referrals.receive(), await referrals.receive("police-78", unit_id=d.UNIT_78, commune="78646")
    near, last = await referrals.receive(**SARCELLES), await referrals.accepted()

    async def seen(who: str, *perimeter: str) -> tuple[list[str], dict[str, int]]:
        headers = {"Authorization": f"Bearer {referrals.issuer.issue(who, perimeter=list(perimeter))}"}
        ids: list[str] = []
        following: dict[str, str] | None = {}
        while following is not None:
            page = await referrals.client.get("/v1/referrals", params={"limit": 1, "status": OPEN, **following}, headers=headers)
            ids += [one["id"] for one in page.json()["items"]]
            following = {"cursor": page.json()["next"]} if page.json()["next"] else None
        counted = (await referrals.client.get("/v1/referral-counts", headers=headers)).json()
        return ids, {one["status"]: one["count"] for one in counted["states"] if one["count"]}

    both = ([str(one) for one in (here, far, near, last)], {"assigned": 3, "accepted": 1})
    assert await seen("coordinator-95", "departement:95", "departement:78") == await seen("coordinator-95", "national") == both
    posts = [f"post:{post}" for post in (d.POST_CERGY, d.POST_SARCELLES)]
    assert await seen("iscg-95", *posts) == ([str(one) for one in (here, near, last)], {"assigned": 2, "accepted": 1})


async def test_lists_are_written_as_their_models_would_write_them(referrals: Referrals) -> None:
    """To the byte, though they are not (chassis/pagination.py): each field, none beside, of its type."""
    for what in ({}, UNROUTED, {"danger": False, "urgency": "standard", "children_present": 0}):
        await referrals.receive(**what)
    orientation = (await referrals.orient(await referrals.accepted())).json()["id"]
    await referrals.answer("partner-95", orientation, "reject", {"reason": "no_capacity"})
    async with referrals.runtime.database.transaction() as session:
        await session.execute(text("UPDATE referrals SET received_at = date_trunc('second', received_at), first_contact_at = received_at"))
    models: dict[str, type[Answer]] = {
        "/v1/referrals": ReferralList,
        "/v1/orientations": OrientationList,
        "/v1/referral-statuses": StatusList,
    }

    for who, address in (
        ("coordinator-95", "/v1/referrals"),
        ("partner-95", "/v1/orientations"),
        ("iscg-95", "/v1/orientations"),
        ("police-95", "/v1/referral-statuses"),
    ):
        for limit in (1, 50):
            answer = await referrals.get(who, address, limit=limit)
            assert answer.json()["items"]
            assert answer.headers["content-type"] == "application/json"
            assert answer.content == models[address].model_validate_json(answer.content).model_dump_json().encode()


async def test_a_referral_is_summed_up_in_the_list_as_where_it_is_read(referrals: Referrals) -> None:
    for referral_id in (await referrals.accepted(), await referrals.receive(danger=False, children_present=0)):
        await age(referrals, referral_id, 100)

    for one in (await referrals.get("coordinator-95", "/v1/referrals")).json()["items"]:
        read = await referrals.read_as("coordinator-95", UUID(one["id"]))
        assert one == {name: read[name] for name in one}
        assert one["overdue"] is True


async def test_what_is_open_comes_urgent_first_then_whom_nobody_called_then_by_due_time(referrals: Referrals) -> None:
    """Sixty standard ones before it do not put a danger on the second page."""
    standard, called, priority = await referrals.receive(urgency="standard"), await referrals.accepted(), await referrals.receive()
    urgent_called = await referrals.accepted(urgency="immediate")
    danger, immediate = await referrals.receive(urgency="standard", danger=True), await referrals.receive(urgency="immediate")
    for referral_id in (called, urgent_called):
        [person, *_] = await referrals.persons(referral_id)
        call = {"person_id": person, "mode": "phone", "result": "no_answer", "attempted_at": "2026-11-23T08:00:00Z"}
        assert (await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/contacts", call)).status_code == 201
    await age(referrals, immediate, 5)

    expected = [str(one) for one in (immediate, danger, urgent_called, priority, standard, called)]
    assert await listed(referrals, "iscg-95", status=OPEN) == await listed(referrals, "iscg-95", status=OPEN, limit=1) == expected
    assert await listed(referrals, status="assigned") == [str(one) for one in (immediate, danger, priority, standard)]
    desk = await listed(referrals, status=[*OPEN, "closed"])
    assert desk == [str(one) for one in (immediate, standard, called, priority, urgent_called, danger)]  # as they were received


async def test_a_cursor_of_a_list_in_another_order_is_refused(referrals: Referrals) -> None:
    for _ in range(2):
        await referrals.receive()
    cursor = (await referrals.get("iscg-95", "/v1/referrals", status="assigned", limit=1)).json()["next"]

    answer = await referrals.get("iscg-95", "/v1/referrals", cursor=cursor)

    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (400, "cursor-invalid")


async def test_a_page_of_what_is_open_is_the_head_of_an_index_and_nothing_is_sorted(referrals: Referrals) -> None:
    """The first page and a further one, of a post, a département and the nation, in two years of referrals (tests/bench/worklist.py)."""
    wanted = Wanted(statuses=[ReferralStatus.UNROUTED, ReferralStatus.ASSIGNED, ReferralStatus.ACCEPTED])
    perimeters: dict[str, Within | None] = {
        "referrals_turn_post": Within("post_id", "uuid", [d.POST_CERGY]),
        "referrals_turn_departement": Within("departement", "text", ["95"]),
        "referrals_turn": EVERYWHERE,
    }
    async with referrals.runtime.database.transaction() as session:
        await bench.fill(session, 20_000)
        await session.execute(text("ANALYZE referrals"))
    async with referrals.runtime.database.transaction() as session:
        for name in ("seqscan", "bitmapscan", "sort"):  # a post's own are few here: to fetch them all and sort them would be as cheap
            await session.execute(text(f"SET LOCAL enable_{name} = off"))
        for after in (None, (2, datetime.now(UTC), UUID(int=1))):
            for index, within in perimeters.items():
                asked = Question("referrals", within)
                statement = asked.head([[where("status = ANY({})", wanted.statuses)]], wanted.order, after, 50)

                explained = await (await driver_of(session)).fetch(f"EXPLAIN {statement}", *asked.values)

                plan = "\n".join(row[0] for row in explained)
                assert f"using {index} " in plan
                assert "Sort" not in plan


async def test_the_bench_asks_by_every_filter_of_the_lists_that_it_measures_and_each_question_is_answered(referrals: Referrals) -> None:
    async with referrals.runtime.database.transaction() as session:
        await bench.fill(session, 20_000)
    found: dict[str, int] = {}
    asked: dict[str, set[str]] = {}

    for name, caller, address, query in bench.questions():
        answer = await referrals.client.get(address, params=query, headers=bench.token(referrals, caller))
        assert answer.status_code == 200, f"{name}: {answer.text}"
        found[name] = len(answer.json().get("items", ()))
        asked.setdefault(address, set()).update(query)

    paths = referrals.openapi()["paths"]
    documented = {
        address: {one["name"] for one in paths[address]["get"].get("parameters", []) if one["in"] == "query"} - {"cursor", "limit"}
        for address in asked
    }
    assert asked == documented
    assert min(found[f"{bench.NATIONAL}: given up"], found["coordinator: orientations, urgent"]) > 0


async def test_what_is_overdue_comes_urgent_first_then_longest_overdue(referrals: Referrals) -> None:
    late, later, called = await referrals.receive(urgency="immediate"), await referrals.receive(), await referrals.accepted()
    [person, *_] = await referrals.persons(called)
    call = {"person_id": person, "mode": "phone", "result": "no_answer", "attempted_at": "2026-11-23T08:00:00Z"}
    await referrals.post("iscg-95", f"/v1/referrals/{called}/contacts", call)
    await referrals.receive()
    for referral_id, hours in ((late, 5), (later, 40), (called, 100)):
        await age(referrals, referral_id, hours)

    assert await listed(referrals, overdue="true", limit=1) == [str(late), str(later)]
    assert await listed(referrals, overdue="true", status="accepted") == []
    assert await listed(referrals, overdue="true", urgency="immediate") == [str(late)]
    assert (await referrals.get("coordinator-95", "/v1/referral-counts")).json()["overdue"] == {"count": 2, "more": False}


async def test_what_changed_since_comes_oldest_change_first_and_every_change_counts(referrals: Referrals) -> None:
    first, second, third = await referrals.receive(), await referrals.receive(), await referrals.receive()
    for referral_id in (first, second, third):
        await age(referrals, referral_id, 48)
    since = (datetime.now(UTC) - timedelta(hours=1)).isoformat().replace("+00:00", "Z")

    await referrals.move("iscg-95", third, "accept")
    await referrals.orient(third)
    await referrals.move("iscg-95", first, "decline", {"reason": "absent"})

    assert await listed(referrals, changed_since=since, limit=1) == [str(third), str(first)]
    assert await listed(referrals, changed_since=since, status="accepted") == [str(third)]
    assert await listed(referrals, received_since=since) == []


async def test_what_changes_while_it_is_paged_through_by_change_is_met_again_and_nothing_is_left_out(referrals: Referrals) -> None:
    ids = [await referrals.receive() for _ in range(4)]
    page = (await referrals.get("iscg-95", "/v1/referrals", changed_since="2026-01-01T00:00:00Z", limit=2)).json()

    await referrals.move("iscg-95", ids[0], "accept")
    rest = await referrals.get("iscg-95", "/v1/referrals", changed_since="2026-01-01T00:00:00Z", cursor=page["next"])

    assert [one["id"] for one in rest.json()["items"]] == [str(ids[2]), str(ids[3]), str(ids[0])]


async def test_a_count_stops_where_more_says_nothing_any_more(referrals: Referrals, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        await referrals.receive()
    await referrals.receive(**UNROUTED)

    monkeypatch.setattr(pages, "COUNTED_UP_TO", 2)
    answer = (await referrals.get("coordinator-95", "/v1/referral-counts")).json()

    told = {one["status"]: (one["count"], one["more"]) for one in answer["states"]}
    assert told == {"unrouted": (1, False), "assigned": (2, True), "accepted": (0, False), "closed": (0, False), "erased": (0, False)}


async def test_a_partner_finds_what_is_to_be_answered_first(referrals: Referrals) -> None:
    asked = [(await referrals.orient(await referrals.accepted())).json()["id"] for _ in range(3)]
    other = (await referrals.orient(await referrals.accepted(), d.SHELTER_SERVICE, "shelter")).json()["id"]
    await referrals.answer("partner-95", asked[0], "accept")
    async with referrals.runtime.database.transaction() as session:
        for place, orientation_id in enumerate(reversed(asked)):
            await session.execute(
                text("UPDATE orientations SET expires_at = now() + CAST(:left AS interval) WHERE id = :id"),
                {"left": timedelta(days=1 + place), "id": orientation_id},
            )
    soon = (datetime.now(UTC) + timedelta(days=2, hours=1)).isoformat().replace("+00:00", "Z")

    async def theirs(who: str = "partner-95", **query: Any) -> list[str]:
        return await listed(referrals, who, "/v1/orientations", **query)

    assert await theirs() == await theirs(limit=1) == asked
    assert await theirs(answer_before=soon) == [asked[2], asked[1]]
    assert await theirs(answer_before=soon, status="accepted") == []
    assert await theirs(status=["accepted", "requested"]) == asked
    assert await theirs(requested_since=soon) == []
    assert await theirs("iscg-95") == await theirs("coordinator-95") == [*asked, other]
    assert await theirs("iscg-78") == await theirs("coordinator-78") == await theirs("partner-78") == []
    assert await states(referrals, "partner-95", "/v1/orientation-counts") == {"requested": 2, "accepted": 1}
    assert await states(referrals, "coordinator-95", "/v1/orientation-counts") == {"requested": 3, "accepted": 1}


async def test_a_list_of_orientations_tells_how_urgent_each_is_and_finds_the_urgent_ones(referrals: Referrals) -> None:
    asked = {}
    for urgency, danger in (("standard", False), ("immediate", True), ("priority", False)):
        referral_id = await referrals.accepted(urgency=urgency, danger=danger)
        asked[urgency] = (await referrals.orient(referral_id)).json()["id"]

    async def found(who: str, **query: Any) -> list[tuple[str, str | None, bool | None]]:
        items = (await referrals.get(who, "/v1/orientations", **query)).json()["items"]
        return [(one["id"], one["urgency"], one["danger"]) for one in items]

    everything = [(asked["standard"], "standard", False), (asked["immediate"], "immediate", True), (asked["priority"], "priority", False)]
    for who in ("partner-95", "iscg-95", "coordinator-95"):
        assert await found(who) == everything
        assert await found(who, urgency="immediate") == [everything[1]]
        assert await found(who, urgency=["immediate", "priority"]) == everything[1:]
    assert [one[0] for one in await found("partner-95", answer_before="2100-01-01T00:00:00Z")] == [
        asked["immediate"],
        asked["priority"],
        asked["standard"],
    ]
    assert await found("partner-78") == []
    assert (await referrals.get("partner-95", "/v1/orientations", urgency="soon")).status_code == 422


async def test_a_partner_whose_orientation_ended_is_not_told_how_urgent_the_situation_is_since(referrals: Referrals) -> None:
    referral_id = await referrals.accepted(urgency="standard", danger=False)
    ended = (await referrals.orient(referral_id)).json()["id"]
    await referrals.answer("partner-95", ended, "reject", {"reason": "no_capacity"})
    await referrals.move("iscg-95", referral_id, "corrections", {"reason": "learned", "urgency": "immediate", "danger": True})

    [partner] = (await referrals.get("partner-95", "/v1/orientations")).json()["items"]
    [own] = (await referrals.get("iscg-95", "/v1/orientations")).json()["items"]
    sought = (await referrals.get("partner-95", "/v1/orientations", urgency="immediate")).json()["items"]

    assert (partner["urgency"], partner["danger"], sought) == (None, None, [])
    assert (own["urgency"], own["danger"]) == ("immediate", True)


async def test_orientations_are_read_with_the_names_of_the_service_and_its_organization(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    asked = (await referrals.orient(referral_id)).json()["id"]

    async def named() -> set[tuple[str | None, str | None]]:
        read = [
            *(await referrals.get("partner-95", "/v1/orientations")).json()["items"],
            *(await referrals.read_as("iscg-95", referral_id))["orientations"],
            (await referrals.get("partner-95", f"/v1/orientations/{asked}", "orientation")).json(),
            (await referrals.get("iscg-95", f"/v1/orientations/{asked}", "follow_up")).json(),
        ]
        return {(one["service_name"], one["organization_name"]) for one in read}

    before = await named()
    async with referrals.runtime.database.transaction() as session:
        row = {"key": str(d.VICTIM_SUPPORT_SERVICE), "name": "Service fictif", "organization": "Association fictive"}
        await session.execute(
            text(
                "INSERT INTO directory_names (kind, key, departement, name, organization, themes, folded)"
                " VALUES ('services', :key, '95', :name, :organization, '{}', '')"
            ),
            row,
        )

    assert before == {(None, None)}
    assert await named() == {("Service fictif", "Association fictive")}


async def test_the_orientations_of_a_transferred_referral_are_those_of_its_new_post(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    await referrals.orient(referral_id)

    await referrals.move("iscg-95", referral_id, "transfer", {"post_id": d.POST_SARCELLES})

    assert await listed(referrals, "iscg-95", "/v1/orientations") == []
    assert await states(referrals, "iscg-95", "/v1/orientation-counts") == {}


async def test_the_police_follows_its_own_by_how_far_they_are(referrals: Referrals) -> None:
    lost, waiting, accepted, called = (
        await referrals.receive(**UNROUTED),
        await referrals.receive(),
        await referrals.accepted(),
        await referrals.accepted(),
    )
    for referral_id, result in ((accepted, "no_answer"), (called, "reached")):
        [person, *_] = await referrals.persons(referral_id)
        call = {"person_id": person, "mode": "phone", "result": result, "attempted_at": "2026-11-23T08:00:00Z"}
        assert (await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/contacts", call)).status_code == 201
    await referrals.receive("police-78", unit_id=d.UNIT_78, commune="78646")

    async def own(**query: Any) -> list[str]:
        return await listed(referrals, "police-95", "/v1/referral-statuses", **query)

    assert await own() == await own(limit=1) == [str(one) for one in (lost, waiting, accepted, called)]
    for status, expected in (("received", lost), ("assigned", waiting), ("accepted", accepted), ("contacted", called)):
        assert await own(status=status) == [str(expected)]
    assert await own(status=["received", "contacted"]) == [str(lost), str(called)]
    assert await own(status="closed") == await own(received_since="2099-01-01T00:00:00Z") == []


async def test_the_police_cannot_ask_for_what_changed(referrals: Referrals) -> None:
    """It would tell of an orientation, or of a correction."""
    for name in ("changed_since", "overdue", "unrouted"):
        assert (await referrals.get("police-95", "/v1/referral-statuses", **{name: "true"})).status_code == 422


async def test_a_filter_that_does_not_exist_is_refused(referrals: Referrals) -> None:
    for query in ({"status": "lost"}, {"overdue": "yes"}, {"commune": "Cergy"}, {"received_since": "hier"}, {"unit": "1"}):
        assert (await referrals.get("coordinator-95", "/v1/referrals", **query)).status_code == 422


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
async def test_pages_of_any_length_make_up_the_whole_list_in_order(referrals: Referrals, data: st.DataObject) -> None:
    """Received at equal and different moments, in any states: each once, in one order, with any filter and page length."""
    statuses = data.draw(st.lists(st.sampled_from(["unrouted", "assigned", "accepted", "closed"]), min_size=1, max_size=12))
    async with referrals.runtime.database.transaction() as session:
        for table in ("moves", "persons", "referrals"):
            await session.execute(text(f"DELETE FROM {table}"))
    for _ in statuses:
        await referrals.receive()
    rows = await referrals.rows("SELECT id FROM referrals ORDER BY id")
    async with referrals.runtime.database.transaction() as session:
        for row, status in zip(rows, statuses, strict=True):
            at = datetime(2026, 11, data.draw(st.integers(1, 4)), tzinfo=UTC)
            await session.execute(
                text("UPDATE referrals SET status = :status, received_at = :at, due_at = :at, changed_at = :at WHERE id = :id"),
                {"status": status, "at": at, "id": row.id},
            )
    wanted = data.draw(st.sets(st.sampled_from(["unrouted", "assigned", "accepted", "closed"])))
    order = data.draw(st.sampled_from(["received_at", "changed_at", "due_at"]))
    more: dict[str, Any] = {"received_at": {}, "changed_at": {"changed_since": "2026-11-02T00:00:00Z"}, "due_at": {"overdue": "true"}}[
        order
    ]

    if wanted:
        more = more | {"status": sorted(wanted)}
    found = await listed(referrals, limit=data.draw(st.integers(1, 5)), **more)

    expected = await referrals.rows(f"SELECT id, status, changed_at FROM referrals ORDER BY {order}, id")
    assert found == [
        str(row.id)
        for row in expected
        if (not wanted or row.status in wanted)
        and (order != "changed_at" or row.changed_at >= datetime(2026, 11, 2, tzinfo=UTC))
        and (order != "due_at" or row.status != "closed")
    ]


async def test_a_minor_among_the_persons_or_children_present_flag_a_referral_in_the_list_and_in_itself(referrals: Referrals) -> None:
    adult, child = {"role": "victim", "sex": "female", "approximate_age": 30, "agreement": "accepted"}, {"approximate_age": 9}
    expected = {
        await referrals.receive(persons=[adult], children_present=0): False,
        await referrals.receive(persons=[adult], children_present=1): True,
        await referrals.receive(persons=[adult, adult | child], children_present=0): True,
    }

    items = (await referrals.get("iscg-95", "/v1/referrals")).json()["items"]

    assert {UUID(one["id"]): one["minor"] for one in items} == expected
    assert {one: (await referrals.read_as("iscg-95", one))["minor"] for one in expected} == expected


async def test_a_list_reads_no_narrative_from_the_database(referrals: Referrals) -> None:
    await referrals.accepted(narrative="Récit fictif.")
    read: list[str] = []
    async with referrals.runtime.database.asking() as connection:  # the pool's only one: nobody else asks
        connection.add_query_logger(lambda asked: read.append(asked.query))
    for who, path in (("iscg-95", "/v1/referrals"), ("police-95", "/v1/referral-statuses")):
        assert len((await referrals.get(who, path)).json()["items"]) == 1

    assert ["referrals.changed_at" in one for one in read] == [True, False]
    assert not [one for one in read if "narrative" in one or "*" in one.replace("count(*)", "")]

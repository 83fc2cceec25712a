"""Working a referral: every rule a sentence. Nobody sees what is not theirs; who refused is counted, never called."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from libs.contracts import demonstration as d
from libs.contracts.partners import CoverageChanged, PostClosed, PostOpened, PostVacant
from libs.contracts.vocabularies import Channel
from services.referrals.app import expire_orientations, route_unrouted
from tests.services.referrals.conftest import CONTENT, MORNING, Referrals, territory


async def test_the_whole_way_of_a_referral(referrals: Referrals) -> None:
    referral_id = await referrals.receive()
    await referrals.said()
    [victim, _] = await referrals.persons(referral_id)

    assert (await referrals.move("iscg-95", referral_id, "accept")).json()["status"] == "accepted"
    call = {"person_id": victim, "mode": "phone", "result": "reached", "attempted_at": "2026-11-23T08:00:00Z"}
    assert (await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/contacts", call)).json()["first"] is True
    asked = (await referrals.orient(referral_id)).json()
    assert asked["warnings"] == ["untold"]
    assert (await referrals.answer("partner-95", asked["id"], "accept")).json()["status"] == "accepted"
    assert (await referrals.answer("partner-95", asked["id"], "start", version=2)).json()["status"] == "in-progress"
    assert (await referrals.answer("partner-95", asked["id"], "complete", {"outcome": "supported"}, version=3)).json()[
        "status"
    ] == "completed"
    assert (await referrals.move("iscg-95", referral_id, "close", {"reason": "oriented"})).json()["status"] == "closed"

    assert await referrals.said_types() == [
        "referral.accepted",
        "contact.attempted",
        "orientation.requested",
        "orientation.accepted",
        "orientation.started",
        "orientation.completed",
        "referral.closed",
    ]


async def test_a_person_who_refused_is_counted_but_never_called_nor_oriented(referrals: Referrals) -> None:
    body = referrals.body()
    body["persons"][0]["agreement"] = "refused"
    referral_id = await referrals.accepted(persons=body["persons"])
    [victim, _] = await referrals.persons(referral_id)

    call = {"person_id": victim, "mode": "phone", "result": "reached", "attempted_at": "2026-11-23T08:00:00Z"}
    called = await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/contacts", call)
    oriented = await referrals.orient(referral_id)

    assert called.status_code == oriented.status_code == 409
    assert called.json()["type"].endswith("person-refused-contact")
    assert "contact.attempted" not in await referrals.said_types()
    assert len((await referrals.read_as("iscg-95", referral_id))["people"]) == 2


async def test_a_way_of_contact_that_endangers_is_refused(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    [victim, _] = await referrals.persons(referral_id)

    message = {"person_id": victim, "mode": "text", "result": "message_left", "attempted_at": "2026-11-23T08:00:00Z"}
    answer = await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/contacts", message)

    assert answer.json()["type"].endswith("unsafe-contact")


async def test_reading_content_needs_a_purpose_and_is_audited(referrals: Referrals) -> None:
    referral_id = await referrals.receive()

    without = await referrals.get("iscg-95", f"/v1/referrals/{referral_id}")
    made_up = await referrals.get("iscg-95", f"/v1/referrals/{referral_id}", "curiosity")
    await referrals.read_as("iscg-95", referral_id)

    assert without.status_code == 400
    assert without.json()["type"].endswith("purpose-missing")
    assert made_up.status_code == 422
    audited = await referrals.rows("SELECT subject, data FROM outbox WHERE stream = 'audit'")
    assert [row.subject for row in audited] == [f"referrals/{referral_id}"]
    assert b'"purpose":"follow_up"' in audited[0].data


@pytest.mark.parametrize(
    ("who", "path", "status"),
    [
        ("iscg-95", "/v1/referrals/{id}", 200),
        ("coordinator-95", "/v1/referrals/{id}", 200),
        ("iscg-78", "/v1/referrals/{id}", 404),
        ("coordinator-78", "/v1/referrals/{id}", 404),
        ("police-95", "/v1/referrals/{id}", 403),
        ("partner-95", "/v1/referrals/{id}", 403),
        ("interior", "/v1/referrals/{id}", 403),
        ("administrator", "/v1/referrals/{id}", 403),
        ("iscg-78", "/v1/referrals/{id}/routing", 404),
        ("police-95", "/v1/referral-statuses/{id}", 200),
        ("police-78", "/v1/referral-statuses/{id}", 404),
        ("iscg-95", "/v1/referral-statuses/{id}", 403),
    ],
)
async def test_what_is_not_yours_is_not_there(referrals: Referrals, who: str, path: str, status: int) -> None:
    referral_id = await referrals.receive()
    content = CONTENT if path == "/v1/referrals/{id}" else None

    answer = await referrals.get(who, path.format(id=referral_id), content)

    assert answer.status_code == status
    if status == 404:
        other = await referrals.get(who, path.format(id=uuid4()), content)
        assert other.json() | {"instance": ""} == answer.json() | {"instance": ""}


async def test_the_police_reads_a_status_and_nothing_else(referrals: Referrals) -> None:
    referral_id = await referrals.accepted(external_reference="dossier-1")
    await referrals.orient(referral_id)

    found = (await referrals.post("police-95", "/v1/referral-status-searches", {"external_reference": "dossier-1"})).json()

    [status] = found["items"]
    assert set(status) == {"id", "external_reference", "unit_id", "status", "received_at"}
    assert status["status"] == "accepted"


async def test_a_partner_sees_the_person_concerned_and_nobody_else(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    asked = (await referrals.orient(referral_id)).json()

    own = await referrals.get("partner-95", f"/v1/orientations/{asked['id']}", "orientation")
    other = await referrals.get("partner-78", f"/v1/orientations/{asked['id']}", "orientation")

    assert own.status_code == 200
    assert own.json()["person"]["safe_contact"]["code_word"] == "bibliothèque"
    assert str((await referrals.persons(referral_id))[1]) not in own.text
    assert "narrative" not in own.text
    assert "natinf" not in own.text
    assert "penal" not in own.text
    assert other.status_code == 404
    assert (await referrals.get("partner-78", "/v1/orientations")).json()["items"] == []


async def test_another_partner_cannot_answer(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    asked = (await referrals.orient(referral_id)).json()

    assert (await referrals.answer("partner-78", asked["id"], "accept")).status_code == 404
    assert (await referrals.answer("iscg-95", asked["id"], "accept")).status_code == 403


async def test_a_service_that_may_not_fit_is_asked_with_a_warning(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()

    asked = await referrals.orient(referral_id, d.SERVICE_78, "shelter")

    assert asked.status_code == 201
    assert asked.json()["warnings"] == ["need", "area", "untold"]


async def test_a_service_that_is_not_in_the_directory_is_refused(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()

    assert (await referrals.orient(referral_id, uuid4())).status_code == 422


async def test_of_two_changes_from_one_version_the_second_is_told_to_read_again(referrals: Referrals) -> None:
    referral_id = await referrals.receive()
    version = await referrals.version(referral_id)

    first = await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/accept", version=version)
    second = await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/decline", {"reason": "overloaded"}, version=version)
    without = await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/decline", {"reason": "overloaded"})

    assert (first.status_code, second.status_code, without.status_code) == (200, 412, 428)


async def test_of_four_who_change_one_referral_at_once_one_does_and_three_are_told_that_it_changed(referrals: Referrals) -> None:
    for _ in range(3):
        referral_id = await referrals.receive()
        version = await referrals.version(referral_id)
        accept = f"/v1/referrals/{referral_id}/accept"

        answers = await asyncio.gather(
            *(referrals.post("iscg-95", accept, version=version) for _ in range(3)),
            referrals.post("iscg-95", f"/v1/referrals/{referral_id}/decline", {"reason": "overloaded"}, version=version),
        )

        # what is declined is no longer the post's to see
        told = 404 if answers[-1].status_code == 200 else 412
        assert sorted(answer.status_code for answer in answers) == [200, told, told, told]


async def test_a_declined_referral_goes_to_the_coordinator_who_gives_it_to_another_post(referrals: Referrals) -> None:
    referral_id = await referrals.receive()

    declined = await referrals.move("iscg-95", referral_id, "decline", {"reason": "overloaded"})
    assert declined.json()["status"] == "unrouted"
    assert (await referrals.get("iscg-95", f"/v1/referrals/{referral_id}", CONTENT)).status_code == 404
    assigned = await referrals.move("coordinator-95", referral_id, "assign", {"post_id": d.POST_SARCELLES})

    assert assigned.json()["status"] == "assigned"
    assert (await referrals.said_types())[-2:] == ["referral.unrouted", "referral.assigned"]


async def test_what_a_person_decided_is_explained_by_what_stood_beside_it_and_a_misfit_is_told(referrals: Referrals) -> None:
    referral_id = await referrals.receive()
    address = f"/v1/referrals/{referral_id}/routing"

    await referrals.move("iscg-95", referral_id, "decline", {"reason": "overloaded"})
    declined = (await referrals.get("coordinator-95", address)).json()
    elsewhere = await referrals.move("coordinator-95", referral_id, "assign", {"post_id": d.POST_SARCELLES})
    assigned = (await referrals.get("coordinator-95", address)).json()
    back = await referrals.move("coordinator-95", referral_id, "assign", {"post_id": d.POST_CERGY})

    cergy = {"post_id": str(d.POST_CERGY), "by": "unit", "verdict": "declined", "open_referrals": 0, "replaces_id": None}
    assert (declined["reason"], declined["considered"]) == ("declined", [cergy])
    assert (assigned["reason"], assigned["post_id"], assigned["considered"]) == ("manual", str(d.POST_SARCELLES), [cergy])
    assert (elsewhere.json()["warnings"], back.json()["warnings"]) == (["area"], ["declined"])


async def test_a_post_whose_agreement_does_not_have_the_channel_is_given_it_with_a_warning(referrals: Referrals) -> None:
    changed = next(event for event in territory() if isinstance(event, PostOpened) and event.post_id == d.POST_CERGY)
    await referrals.hear("partners", changed.model_copy(update={"channels": (Channel.OFFICER,)}))
    referral_id = await referrals.receive(channel="complaint")

    answer = await referrals.move("coordinator-95", referral_id, "assign", {"post_id": d.POST_CERGY})

    assert (answer.status_code, answer.json()["warnings"]) == (200, ["channel"])


@pytest.mark.parametrize("post_id", [d.POST_78, uuid4()])
async def test_a_coordinator_assigns_to_posts_of_the_departement_only(referrals: Referrals, post_id: Any) -> None:
    referral_id = await referrals.receive()

    answer = await referrals.move("coordinator-95", referral_id, "assign", {"post_id": post_id})

    assert answer.status_code == 422


async def test_an_unrouted_referral_finds_its_post_when_coverage_changes(referrals: Referrals) -> None:
    referral_id = await referrals.receive(unit_id=None, commune="95008")
    await route_unrouted(referrals.runtime)
    await referrals.said()

    await referrals.hear(
        "partners",
        CoverageChanged(
            departement="95", post_id=d.POST_CERGY, employer_id=d.EMPLOYER, units=(d.UNIT_CERGY,), communes=("95008",), changed_at=MORNING
        ),
    )
    await route_unrouted(referrals.runtime)

    [(type, data)] = await referrals.said()
    assert (type, data["referral_id"], data["post_id"]) == ("referral.assigned", str(referral_id), str(d.POST_CERGY))


async def test_an_unrouted_referral_whose_place_is_corrected_finds_its_post(referrals: Referrals) -> None:
    referral_id = await referrals.receive(unit_id=None, commune="95008")
    await route_unrouted(referrals.runtime)
    await referrals.said()

    corrected = await referrals.move("coordinator-95", referral_id, "corrections", {"reason": "learned", "commune": d.COMMUNE_SARCELLES})
    await route_unrouted(referrals.runtime)

    assert corrected.status_code == 201, corrected.text
    assert ("referral.assigned", str(d.POST_SARCELLES)) in [(type, data.get("post_id")) for type, data in await referrals.said()]


async def test_a_referral_that_stays_unrouted_says_why_as_of_the_last_try(referrals: Referrals) -> None:
    referral_id = await referrals.receive(unit_id=None, commune="95008")
    covered = CoverageChanged(
        departement="95", post_id=d.POST_CERGY, employer_id=d.EMPLOYER, units=(d.UNIT_CERGY,), communes=("95008",), changed_at=MORNING
    )
    vacant = PostVacant(departement="95", employer_id=d.EMPLOYER, post_id=d.POST_CERGY, vacant_at=MORNING)

    await referrals.hear("partners", vacant, covered)
    await route_unrouted(referrals.runtime)

    routing = (await referrals.get("coordinator-95", f"/v1/referrals/{referral_id}/routing")).json()
    assert routing["reason"] == "no_open_post"


async def test_a_vacant_or_closed_post_is_given_nothing(referrals: Referrals) -> None:
    common: dict[str, Any] = {"departement": "95", "employer_id": d.EMPLOYER}
    await referrals.hear("partners", PostVacant(post_id=d.POST_CERGY, vacant_at=MORNING, **common))
    vacant = await referrals.post("police-95", "/v1/referrals", referrals.body())
    await referrals.hear("partners", PostClosed(post_id=d.POST_CERGY, closed_at=MORNING, **common))
    closed = await referrals.post("police-95", "/v1/referrals", referrals.body())

    reasons = [data["reason"] for type, data in await referrals.said() if type == "referral.unrouted"]
    assert (vacant.status_code, closed.status_code) == (201, 201)
    assert reasons == ["no_open_post", "no_coverage"]


async def test_an_orientation_nobody_answers_expires(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    asked = (await referrals.orient(referral_id)).json()
    async with referrals.runtime.database.transaction() as session:
        await session.execute(text("UPDATE orientations SET expires_at = now() - interval '1 minute'"))

    await expire_orientations(referrals.runtime)

    assert (await referrals.said_types())[-1] == "orientation.expired"
    assert (await referrals.answer("partner-95", asked["id"], "accept", version=2)).status_code == 409


async def test_a_closed_referral_is_reopened_where_it_was(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    await referrals.move("iscg-95", referral_id, "close", {"reason": "out_of_scope"})

    reopened = await referrals.move("iscg-95", referral_id, "reopen")

    assert reopened.json()["status"] == "accepted"
    assert (await referrals.said_types())[-1] == "referral.reopened"


@pytest.mark.parametrize("state", ["closed", "vacant", "suspended"])
async def test_where_nobody_works_any_more_the_coordinator_reopens_and_another_post_is_sought(referrals: Referrals, state: str) -> None:
    referral_id = await referrals.accepted()
    await referrals.move("iscg-95", referral_id, "close", {"reason": "out_of_scope"})
    early = await referrals.move("coordinator-95", referral_id, "reopen")
    async with referrals.runtime.database.transaction() as session:
        await session.execute(text("DELETE FROM routing_due"))
        await session.execute(text("UPDATE posts_heard SET state = :state WHERE id = :post"), {"state": state, "post": d.POST_CERGY})

    moves = [(await referrals.read_as(who, referral_id))["moves"] for who in ("iscg-95", "coordinator-95")]
    back = await referrals.move("iscg-95", referral_id, "reopen")
    reopened = await referrals.move("coordinator-95", referral_id, "reopen")

    assert (early.status_code, back.status_code, reopened.status_code) == (409, 409, 200)
    assert ["reopen" in moves[0], "reopen_unrouted" in moves[1]] == [False, True]
    assert (reopened.json()["status"], reopened.json()["post_id"]) == ("unrouted", None)
    assert [row.departement for row in await referrals.rows("SELECT departement FROM routing_due")] == ["95"]


async def test_a_declined_referral_goes_to_another_post_that_can_take_it_at_the_next_try(referrals: Referrals) -> None:
    referral_id = await referrals.receive()
    async with referrals.runtime.database.transaction() as session:
        await session.execute(text("DELETE FROM routing_due"))
        await session.execute(
            text("UPDATE posts_heard SET units = units || CAST(:unit AS uuid) WHERE id = :post"),
            {"unit": d.UNIT_CERGY, "post": d.POST_SARCELLES},
        )

    address, asked = "/v1/notice-preferences/departement:95", {"address": "coordination@maillon.example", "mode": "immediate"}
    headers = referrals.token("coordinator-95") | {"If-Match": '"0"'}
    assert (await referrals.client.put(address, json=asked, headers=headers)).status_code == 200

    await referrals.move("iscg-95", referral_id, "decline", {"reason": "overloaded"})
    told = await referrals.rows("SELECT kind FROM notices WHERE kind LIKE '%unrouted_referral'")
    await route_unrouted(referrals.runtime)

    [row] = await referrals.rows("SELECT status, post_id FROM referrals")
    assert (row.status, row.post_id) == ("assigned", d.POST_SARCELLES)
    assert [one.kind for one in told] == ["urgent_unrouted_referral"], "until the next try that post may be gone"


@pytest.mark.parametrize("reason", ["completed", "declined_by_person"])
@pytest.mark.parametrize(("result", "status"), [(None, 409), ("no_answer", 409), ("reached", 200), ("declined", 200)])
async def test_what_was_completed_or_declined_by_the_person_rests_on_a_contact(
    referrals: Referrals, reason: str, result: str | None, status: int
) -> None:
    referral_id = await referrals.accepted()
    [person, *_] = await referrals.persons(referral_id)
    if result is not None:
        call = {"person_id": person, "mode": "phone", "result": result, "attempted_at": "2026-11-23T08:00:00Z"}
        assert (await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/contacts", call)).status_code == 201

    answer = await referrals.move("iscg-95", referral_id, "close", {"reason": reason})

    assert answer.status_code == status, answer.text


@pytest.mark.parametrize(
    ("calls", "status"),
    [
        ((), 409),
        (("no_answer",), 200),
        (("reached",), 409),
        (("no_answer", "declined"), 409),
        (("reached", "no_answer"), 200),  # lost sight of
    ],
)
async def test_closing_as_unreachable_rests_on_a_last_attempt_without_answer(
    referrals: Referrals, calls: tuple[str, ...], status: int
) -> None:
    referral_id = await referrals.accepted()
    [person, *_] = await referrals.persons(referral_id)
    for hour, result in enumerate(calls, 9):
        call = {"person_id": person, "mode": "phone", "result": result, "attempted_at": f"2026-11-23T{hour:02}:00:00Z"}
        assert (await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/contacts", call)).status_code == 201

    answer = await referrals.move("iscg-95", referral_id, "close", {"reason": "unreachable"})

    assert answer.status_code == status, answer.text
    assert (await referrals.read_as("iscg-95", referral_id))["status"] == ("closed" if status == 200 else "accepted")


async def test_the_worklist_shows_no_personal_content_and_pages_in_a_stable_order(referrals: Referrals) -> None:
    ids = [str(await referrals.receive()) for _ in range(5)]

    first = await referrals.get("iscg-95", "/v1/referrals", limit=2)
    rest = await referrals.client.get(first.links["next"]["url"], headers=referrals.token("iscg-95"))
    last = await referrals.client.get(rest.links["next"]["url"], headers=referrals.token("iscg-95"))

    assert [one["id"] for answer in (first, rest, last) for one in answer.json()["items"]] == ids
    assert "next" not in last.links
    assert "Camille" not in first.text
    assert (await referrals.get("iscg-78", "/v1/referrals")).json()["items"] == []

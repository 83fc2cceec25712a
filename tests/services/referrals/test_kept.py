"""What keeps a person's content for a time: an orientation that lives or has just ended, a requisition without answer, a child or a danger nobody looked at."""

from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from libs.contracts import demonstration as d
from services.referrals import housekeeping
from services.referrals.app import end_retention
from services.referrals.models import Referral
from services.referrals.rights import erasure
from services.referrals.rights.erasure import ErasureCause
from services.referrals.rights.refused import tell_left_open
from tests.services.referrals.conftest import Referrals
from tests.services.referrals.test_agreement import CALM, MINOR, orient, persons_with, run
from tests.services.referrals.test_erasure import erase as destroy
from tests.services.referrals.test_justice import NOTE, REFERENCE, REQUISITION, alert, alerts, requisition
from tests.services.referrals.test_notices import prefer
from tests.services.referrals.test_rights import TERM, age, announced, ask, close, contacted, old, statuses

LATE = "2026-11-24T18:00:00Z"


async def supported(referrals: Referrals) -> UUID:
    """Closed, the last word of anybody 731 days ago; a partner still supports the person."""
    referral_id = await contacted(referrals)
    asked = (await referrals.orient(referral_id)).json()["id"]
    for version, step in enumerate(("accept", "start"), 1):
        assert (await referrals.answer("partner-95", asked, step, version=version)).status_code == 200
    await close(referrals, referral_id)
    async with referrals.runtime.database.transaction() as session:
        for of_table in (
            "referrals SET received_at = received_at",
            "contact_attempts SET attempted_at = attempted_at",
            "orientations SET requested_at = requested_at - interval '731 days', answered_at = answered_at",
        ):
            await session.execute(text(f"UPDATE {of_table} - interval '731 days'"))
    return referral_id


@pytest.mark.parametrize("ended", ["rejected", "expired"])
async def test_who_is_oriented_by_law_is_kept_the_whole_delay_after_that_came_to_nothing_so_as_to_be_oriented_again(
    referrals: Referrals, ended: str
) -> None:
    child, other = persons_with(referrals, agreement="refused", identity=MINOR)
    referral_id = await referrals.accepted(persons=[child, other | {"role": "victim"}])
    asked = (await orient(referrals, referral_id, legal_ground="minor_in_danger")).json()["id"]
    async with referrals.runtime.database.transaction() as session:
        await session.execute(text("UPDATE referrals SET received_at = now() - interval '100 hours'"))
        await session.execute(text("UPDATE orientations SET requested_at = now() - interval '99 hours'"))
        if ended == "expired":
            await session.execute(text("UPDATE orientations SET status = 'expired', ended_at = now()"))
    if ended == "rejected":
        assert (await referrals.answer("partner-95", asked, "reject", {"reason": "no_capacity"})).status_code == 200

    at_once = await run(referrals, datetime.now(UTC) + timedelta(hours=71))
    again = await orient(referrals, referral_id, legal_ground="minor_in_danger", service_id=d.LEGAL_ADVICE_SERVICE, need="legal_advice")
    await referrals.answer("partner-95", again.json()["id"], "reject", {"reason": "no_capacity"})
    in_the_end = await run(referrals, datetime.now(UTC) + timedelta(hours=73))

    assert at_once == 0
    assert again.status_code == 201, again.text
    assert in_the_end == 1
    assert [row.gone for row in await referrals.rows("SELECT content = '' AS gone FROM persons ORDER BY position")] == [True, False]


async def test_the_retention_takes_nobody_whom_a_partner_still_supports_and_tells_the_case(referrals: Referrals) -> None:
    referral_id = await supported(referrals)
    await announced(referrals)
    await end_retention(referrals.runtime)
    kept = await statuses(referrals)
    told = await housekeeping.retain(referrals.runtime, TERM, dry_run=True)
    announcements = await referrals.rows("SELECT 1 FROM announced_ends")

    async with referrals.runtime.database.transaction() as session:
        await session.execute(
            text("UPDATE orientations SET status = 'completed', outcome = 'informed', ended_at = now() - interval '731 days'")
        )
    await announced(referrals)
    await end_retention(referrals.runtime)

    assert kept == {referral_id: "closed"}
    assert announcements == []
    assert f"{referral_id} (département 95)" in told
    assert await statuses(referrals) == {referral_id: "erased"}


async def test_a_requisition_without_answer_holds_the_erasure_of_what_it_asks_for(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    [victim, other] = await referrals.persons(referral_id)
    entry = (await requisition(referrals, referral_id, person_ids=[victim], handed_over_at=None)).json()["id"]

    held = [
        await ask(referrals, referral_id, [victim]),
        await ask(referrals, referral_id, [victim, other]),
        await ask(referrals, referral_id, [other], narrative=True),
    ]
    of_nobody_asked_for = await ask(referrals, referral_id, [other])
    whole = await ask(referrals, referral_id, [victim])
    assert (await requisition(referrals, referral_id, person_ids=[victim], handed_over_at=LATE, corrects_id=entry)).status_code == 201
    answered = await ask(referrals, referral_id, [victim])

    for answer in (*held, whole):
        assert (answer.status_code, answer.json()["requisition_id"]) == (409, entry)
        assert answer.json()["type"].endswith("erasure-held-by-requisition")
    assert (of_nobody_asked_for.status_code, answered.status_code) == (201, 201)


@pytest.mark.parametrize("steps", [(), ("accept",), ("accept", "start")])
async def test_who_is_supported_on_a_legal_ground_is_not_erased_on_request_before_that_ends(
    referrals: Referrals, steps: tuple[str, ...]
) -> None:
    referral_id = await referrals.accepted(persons=persons_with(referrals, agreement="not_asked"))
    [person, other] = await referrals.persons(referral_id)
    asked = (await orient(referrals, referral_id, legal_ground="vital_danger")).json()["id"]
    for version, step in enumerate(steps, 1):
        assert (await referrals.answer("partner-95", asked, step, version=version)).status_code == 200

    held = [await ask(referrals, referral_id, persons) for persons in ([person], [person, other])]
    of_another = await ask(referrals, referral_id, [other], narrative=True)
    [during] = await referrals.rows("SELECT status FROM orientations")
    assert (await referrals.answer("iscg-95", asked, "cancel", {"reason": "mistake"}, version=len(steps) + 1)).status_code == 200
    ended = await ask(referrals, referral_id, [person])

    for answer in held:
        assert (answer.status_code, answer.json().get("orientation_id")) == (409, asked), answer.text
        assert answer.json()["type"].endswith("erasure-held-by-support")
    assert during.status in ("requested", "accepted", "in-progress")
    assert (of_another.status_code, ended.status_code) == (201, 201)


async def test_a_requisition_that_names_nobody_holds_everybody(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    assert (await requisition(referrals, referral_id, handed_over_at=None)).status_code == 201

    answer = await ask(referrals, referral_id, (await referrals.persons(referral_id))[:1])

    assert answer.status_code == 409
    assert await destroy(referrals, referral_id, await referrals.persons(referral_id), ErasureCause.RESTORED), "erased before the backup"


async def test_no_job_erases_what_a_requisition_waits_for(referrals: Referrals) -> None:
    ended = await old(referrals)
    refused = await referrals.accepted(persons=persons_with(referrals, agreement="refused"), **CALM)
    await announced(referrals)
    later = datetime.now(UTC) + timedelta(hours=100)
    entries = [(await requisition(referrals, one, handed_over_at=None)).json()["id"] for one in (ended, refused)]

    assert await run(referrals, later) == 0
    await end_retention(referrals.runtime)
    assert await statuses(referrals) == {ended: "closed", refused: "accepted"}
    assert f"{ended} (département 95)" in await housekeeping.retain(referrals.runtime, TERM, dry_run=True)
    for one, entry in zip((ended, refused), entries, strict=True):
        assert (await requisition(referrals, one, handed_over_at=LATE, corrects_id=entry)).status_code == 201
    await announced(referrals)
    await end_retention(referrals.runtime)

    assert await run(referrals, later) == 1
    assert (await statuses(referrals))[ended] == "erased"


@pytest.mark.parametrize("accepted", [True, False])
@pytest.mark.parametrize(
    ("situation", "identity", "sent"),
    [
        (CALM | {"danger": True}, None, {"kind": "prosecutor_report", "court": "95127"}),
        (CALM | {"children_present": 2}, None, {"person_ids": []}),
        (CALM, MINOR, {}),
    ],
    ids=["danger", "children", "minor"],
)
async def test_a_refusal_ends_no_referral_in_which_somebody_may_be_in_danger_before_a_professional_did(
    referrals: Referrals, situation: dict[str, Any], identity: dict[str, Any] | None, sent: dict[str, Any], accepted: bool
) -> None:
    persons = persons_with(referrals, agreement="refused", **({"identity": identity} if identity else {}))[:1]
    referral_id = await (referrals.accepted if accepted else referrals.receive)(persons=persons, **situation)
    for who, recipient in (("iscg-95", f"post:{d.POST_CERGY}"), ("coordinator-95", "departement:95")):
        await prefer(referrals, who, recipient, "digest")
    past = datetime.now(UTC) + timedelta(hours=73)

    looked_at = await run(referrals, past)
    for hours in (0, 1, 24 * 7):
        async with referrals.runtime.database.transaction() as session:
            await tell_left_open(session, past + timedelta(hours=hours), timedelta(hours=72))
    told = await referrals.rows("SELECT recipient, due_at <= created_at AS at_once FROM notices WHERE kind = 'refusal_to_settle'")
    alerted = await alert(referrals, referral_id, await referrals.persons(referral_id), **sent)
    assert (await referrals.move("iscg-95", referral_id, "close", {"reason": "contact_refused"})).status_code == 200
    at_once = await run(referrals, datetime.now(UTC) + timedelta(hours=71))
    in_the_end = await run(referrals, datetime.now(UTC) + timedelta(hours=73))

    assert looked_at == 0
    assert sorted((row.recipient, row.at_once) for row in told) == [
        *[("departement:95", True)] * 2,
        *[(f"post:{d.POST_CERGY}", True)] * 2,
    ], "twice in nine days"
    assert alerted.status_code == 201, alerted.text
    assert (at_once, in_the_end) == (0, 1)
    assert await statuses(referrals) == {referral_id: "erased"}


async def test_where_nobody_is_in_danger_a_refusal_ends_the_referral_by_itself_and_nobody_is_reminded(referrals: Referrals) -> None:
    referral_id = await referrals.receive(persons=persons_with(referrals, agreement="refused")[:1], **CALM)
    await prefer(referrals, "coordinator-95", "departement:95", "digest")
    past = datetime.now(UTC) + timedelta(hours=73)

    async with referrals.runtime.database.transaction() as session:
        await tell_left_open(session, past, timedelta(hours=72))

    assert await run(referrals, past) == 1
    assert await statuses(referrals) == {referral_id: "erased"}
    assert await referrals.rows("SELECT 1 FROM notices WHERE kind = 'refusal_to_settle'") == []


@pytest.mark.parametrize("alone", [True, False])
async def test_the_words_of_an_alert_outlive_the_refusal_of_whom_they_name_and_end_with_the_retention(
    referrals: Referrals, alone: bool
) -> None:
    persons = persons_with(referrals, agreement="refused", identity=MINOR)
    referral_id = await referrals.accepted(persons=persons[: 1 if alone else 2])
    [child, *_] = await referrals.persons(referral_id)
    assert (await alert(referrals, referral_id, [child])).status_code == 201
    reason = "contact_refused" if alone else "out_of_scope"
    assert (await referrals.move("iscg-95", referral_id, "close", {"reason": reason})).status_code == 200

    assert await run(referrals, datetime.now(UTC) + timedelta(hours=73)) == 1
    [kept] = await alerts(referrals, referral_id, "coordinator-95")
    await age(referrals, referral_id, 800)
    async with referrals.runtime.database.transaction() as session:
        await session.execute(text("UPDATE moves SET at = at - interval '800 days'"))
    await announced(referrals)
    await end_retention(referrals.runtime)
    [ended] = await alerts(referrals, referral_id, "coordinator-95")

    assert (kept["reference"], kept["note"], kept["erased"]) == (REFERENCE, NOTE, False)
    assert (ended["reference"], ended["note"], ended["erased"], ended["kind"]) == (None, None, True, "concerning_information")
    keys = {row.key_id for row in await referrals.rows("SELECT key_id FROM alerts")}
    assert not keys & {row.id for row in await referrals.rows("SELECT id FROM vault_keys WHERE wrapped IS NOT NULL")}


async def test_after_a_restore_an_alert_keeps_its_words_where_the_erasure_had_left_them(
    referrals: Referrals, erasures_logged: StringIO
) -> None:
    by_refusal, by_request = [await referrals.accepted(persons=persons_with(referrals, identity=MINOR)[:1]) for _ in range(2)]
    for referral_id in (by_refusal, by_request):
        persons = await referrals.persons(referral_id)
        async with referrals.runtime.database.transaction() as session:
            referral = await session.get_one(Referral, referral_id)
            cause, kept = (ErasureCause.REFUSAL, False) if referral_id == by_refusal else (ErasureCause.REQUEST, True)
            await erasure.erase(session, referrals.runtime.vault, referral, persons, cause, datetime.now(UTC), by="test", alerts=kept)
            await session.rollback()
        assert (await alert(referrals, referral_id, persons)).status_code == 201

    assert await housekeeping.erase_again(referrals.runtime, housekeeping.erased_in(erasures_logged.getvalue().splitlines())) == 2

    noted = [(await alerts(referrals, one))[0] for one in (by_refusal, by_request)]
    assert [(one["note"], one["erased"]) for one in noted] == [(NOTE, False), (None, True)]


async def test_what_is_held_past_its_end_is_told_to_the_coordinator_once_a_week_and_listed_with_what_holds_it(referrals: Referrals) -> None:
    preference = {"address": "coordination@maillon.example", "mode": "immediate"}
    headers = referrals.token("coordinator-95") | {"If-Match": '"0"'}
    await referrals.client.put("/v1/notice-preferences/departement:95", json=preference, headers=headers)
    forgotten, asked_for = await contacted(referrals), await old(referrals)
    asked = {name: value for name, value in REQUISITION.items() if name != "handed_over_at"}
    assert (await referrals.post("coordinator-95", f"/v1/referrals/{asked_for}/requisitions", asked)).status_code == 201
    helped = await supported(referrals)
    fresh = await referrals.receive()

    for _ in range(2):
        await end_retention(referrals.runtime)

    answer = await referrals.get("coordinator-95", "/v1/held-ends")
    held = {one["referral_id"]: one["because"] for one in answer.json()["items"]}
    assert held == {str(forgotten): "open", str(asked_for): "asked_for", str(helped): "supported"}
    assert str(fresh) not in held
    [row] = await referrals.rows("SELECT recipient, referral_id FROM notices WHERE kind = 'ends_held'")
    assert (row.recipient, row.referral_id) == ("departement:95", None)
    assert (await referrals.get("coordinator-78", "/v1/held-ends")).json()["items"] == []
    pages = await referrals.get("coordinator-95", "/v1/held-ends", limit=2)
    rest = await referrals.get("coordinator-95", "/v1/held-ends", limit=2, cursor=pages.json()["next"])
    assert [one["referral_id"] for one in (*pages.json()["items"], *rest.json()["items"])] == sorted(held)


ACCUSED = {"role": "alleged_perpetrator", "sex": "male", "agreement": "not_asked"}


async def remind(referrals: Referrals, hours: int, **more: int) -> None:
    async with referrals.runtime.database.transaction() as session:
        await tell_left_open(session, datetime.now(UTC) + timedelta(hours=hours), timedelta(hours=72), **more)


async def reminded(referrals: Referrals) -> set[UUID]:
    return {row.referral_id for row in await referrals.rows("SELECT referral_id FROM notices WHERE kind = 'refusal_to_settle'")}


@pytest.mark.parametrize(
    ("roles", "kept"),
    [
        (["alleged_perpetrator"], True),
        (["alleged_perpetrator", "witness"], True),
        (["victim"], False),
    ],
    ids=["accused", "neighbour", "another victim"],
)
async def test_a_mother_who_refuses_is_not_erased_unseen_because_an_accused_or_a_neighbour_is_left(
    referrals: Referrals, roles: list[str], kept: bool
) -> None:
    mother = persons_with(referrals, agreement="refused")[0]
    left = [ACCUSED | {"role": role} for role in roles]
    referral_id = await referrals.accepted(persons=[mother, *left], danger=True, children_present=2)
    await prefer(referrals, "coordinator-95", "departement:95", "digest")

    await remind(referrals, 73)
    looked_at = await run(referrals, datetime.now(UTC) + timedelta(hours=73))

    assert (looked_at, await reminded(referrals)) == ((0, {referral_id}) if kept else (1, set()))


async def test_the_accused_who_refuses_goes_by_himself_where_the_victim_does_not_refuse(referrals: Referrals) -> None:
    victim = persons_with(referrals)[0]
    await referrals.accepted(persons=[victim, ACCUSED | {"agreement": "refused"}], danger=True, children_present=2)

    assert await run(referrals, datetime.now(UTC) + timedelta(hours=73)) == 1
    assert [row.gone for row in await referrals.rows("SELECT content = '' AS gone FROM persons ORDER BY position")] == [False, True]


@pytest.mark.parametrize(
    "told",
    [
        {"themes": ["family_dispute", "runaway_minor"], "principal_theme": "family_dispute"},
        {"themes": ["child_in_danger"], "principal_theme": "child_in_danger"},
        {"themes": ["suicide_attempt"], "principal_theme": "suicide_attempt"},
        {"urgency": "immediate"},
    ],
    ids=lambda told: str(next(iter(told.values()))),
)
async def test_a_theme_or_an_urgency_alone_tells_of_a_child_or_a_danger(referrals: Referrals, told: dict[str, Any]) -> None:
    referral_id = await referrals.receive(persons=persons_with(referrals, agreement="refused")[:1], **CALM | told)

    assert await run(referrals, datetime.now(UTC) + timedelta(hours=73)) == 0
    assert await statuses(referrals) == {referral_id: "assigned"}


async def test_a_correction_that_takes_away_what_held_a_refusal_leaves_the_whole_delay_to_correct_it_again(referrals: Referrals) -> None:
    refused = persons_with(referrals, agreement="refused")[0]
    told = await referrals.accepted(persons=[refused], **CALM | {"children_present": 2})
    joined = await referrals.accepted(persons=[refused | {"identity": None}, ACCUSED], **CALM | {"danger": True})
    async with referrals.runtime.database.transaction() as session:
        await session.execute(text("UPDATE referrals SET received_at = now() - interval '100 hours'"))
    for referral_id, corrected in ((told, {"children_present": 0}), (joined, {"added": [ACCUSED | {"role": "victim"}]})):
        answer = await referrals.move("iscg-95", referral_id, "corrections", {"reason": "mistake"} | corrected)
        assert answer.status_code == 201, answer.text

    at_once = await run(referrals, datetime.now(UTC) + timedelta(hours=71))
    kept = await statuses(referrals)
    in_the_end = await run(referrals, datetime.now(UTC) + timedelta(hours=73))

    assert (at_once, kept) == (0, {told: "accepted", joined: "accepted"})
    assert in_the_end == 2
    assert await statuses(referrals) == {told: "erased", joined: "accepted"}


async def test_each_refusal_that_is_left_open_is_told_however_many_they_are_but_not_while_a_partner_has_still_to_answer(
    referrals: Referrals,
) -> None:
    await prefer(referrals, "coordinator-95", "departement:95", "digest")
    alone = persons_with(referrals, agreement="refused", identity=MINOR)[:1]
    ids = {await referrals.receive(persons=alone) for _ in range(3)}
    asked = await referrals.accepted(persons=alone)
    orientation = (await orient(referrals, asked, legal_ground="minor_in_danger")).json()["id"]

    await remind(referrals, 73, limit=2)
    meanwhile = await reminded(referrals)
    assert (await referrals.answer("partner-95", orientation, "accept", version=1)).status_code == 200
    await remind(referrals, 73, limit=2)

    assert meanwhile == ids
    assert await reminded(referrals) == ids | {asked}

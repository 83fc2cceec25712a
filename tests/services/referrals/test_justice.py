"""Child protection and justice: what was sent is noted and shows; requisitions are a register that only grows; an erasure leaves the facts without the words."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from libs.contracts import demonstration as d
from tests.services.referrals.conftest import CONTENT, Referrals
from tests.services.referrals.test_rights import ask as erase

SENT = "2026-11-24T16:30:00Z"
NOTE, REFERENCE, SCOPE = "Texte-que-seul-le-poste-lit", "CRIP-secret-42", "Etendue-secrete"
CHILD = {"role": "witness", "sex": "male", "approximate_age": 9, "agreement": "not_asked"}
REQUISITION: dict[str, Any] = {
    "ground": "cpp_77_1_1",
    "authority": "judicial_police",
    "authority_name": "Autorité-secrète",
    "reference": REFERENCE,
    "scope": SCOPE,
    "asked": ["identity", "contact"],
    "person_ids": [],
    "received_at": "2026-11-24T10:00:00Z",
    "handed_over_at": "2026-11-24T12:00:00Z",
}


async def with_child(referrals: Referrals, **changes: Any) -> tuple[UUID, list[UUID]]:
    """A victim, an alleged perpetrator and a child of nine."""
    referral_id = await referrals.accepted(persons=[*referrals.body()["persons"], CHILD], **changes)
    return referral_id, await referrals.persons(referral_id)


async def alert(referrals: Referrals, referral_id: UUID, persons: list[UUID], who: str = "iscg-95", **more: Any) -> httpx.Response:
    body = {"kind": "concerning_information", "person_ids": persons, "sent_at": SENT, "note": NOTE, "reference": REFERENCE} | more
    return await referrals.post(who, f"/v1/referrals/{referral_id}/alerts", body)


async def alerts(referrals: Referrals, referral_id: UUID, who: str = "iscg-95") -> list[dict[str, Any]]:
    answer = await referrals.get(who, f"/v1/referrals/{referral_id}/alerts", CONTENT)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


async def requisition(referrals: Referrals, referral_id: UUID, who: str = "coordinator-95", **more: Any) -> httpx.Response:
    return await referrals.post(who, f"/v1/referrals/{referral_id}/requisitions", REQUISITION | more)


async def opened(referrals: Referrals, entry: str, who: str = "coordinator-95") -> dict[str, Any]:
    answer = await referrals.get(who, f"/v1/requisitions/{entry}", "judicial_requisition")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def audited(referrals: Referrals, operation: str) -> list[dict[str, Any]]:
    entries = [json.loads(row.data) for row in await referrals.rows("SELECT data FROM outbox WHERE stream = 'audit' ORDER BY position")]
    return [one for one in entries if one["operation"] == operation]


async def in_clear(referrals: Referrals) -> str:
    """Every row of every table, as text: bytes are hexadecimal there."""
    tables = await referrals.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return "\n".join([str(row) for table in tables for row in await referrals.rows(f'SELECT t::text FROM "{table.tablename}" t')])


def found(word: str, text: str) -> bool:
    return word in text or word.encode().hex() in text


# Alerts


async def test_what_was_sent_is_noted_shows_on_the_referral_its_timeline_and_the_worklist_and_is_said(referrals: Referrals) -> None:
    referral_id, [_, _, child] = await with_child(referrals)
    other = await referrals.receive()
    await referrals.said()

    first = await alert(referrals, referral_id, [child], departement="78")
    said = await referrals.said()
    seen = await referrals.read_as("iscg-95", referral_id)
    second = await alert(referrals, referral_id, [child], kind="prosecutor_report", court="95127")

    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["version"] == seen["version"]
    assert [(type, data["kind"]) for type, data in said] == [("alert.recorded", "concerning_information")]
    assert str(child) not in json.dumps(said)
    assert (seen["concerning_information_sent"], seen["reported_to_prosecutor"]) == (True, False)
    listed = {one["id"]: one for one in (await referrals.get("iscg-95", "/v1/referrals")).json()["items"]}
    flags = {
        one: (listed[str(one)]["concerning_information_sent"], listed[str(one)]["reported_to_prosecutor"]) for one in (referral_id, other)
    }
    assert flags == {referral_id: (True, True), other: (False, False)}
    timeline = (await referrals.get("iscg-95", f"/v1/referrals/{referral_id}/timeline", CONTENT)).json()["items"]
    steps = [(one["code"], one["person_ids"], one["actor"]) for one in timeline if one["step"] == "alert"]
    assert steps == [("concerning_information", [str(child)], "iscg-95"), ("prosecutor_report", [str(child)], "iscg-95")]
    assert NOTE not in json.dumps(timeline)


async def test_its_words_are_sealed_and_read_by_the_post_and_the_coordinator_with_an_audit_entry(referrals: Referrals) -> None:
    referral_id, [_, _, child] = await with_child(referrals)
    await alert(referrals, referral_id, [child])

    [told] = await alerts(referrals, referral_id, "coordinator-95")
    refused = [await referrals.get("iscg-95", f"/v1/referrals/{referral_id}/alerts")]
    elsewhere = await referrals.get("iscg-78", f"/v1/referrals/{referral_id}/alerts", CONTENT)

    assert (told["note"], told["reference"], told["departement"], told["court"]) == (NOTE, REFERENCE, "95", None)
    assert (told["person_ids"], told["recorded_by"], told["erased"]) == ([str(child)], "iscg-95", False)
    assert [one.status_code for one in refused] == [400]
    assert elsewhere.status_code == 404
    [entry] = await audited(referrals, "list_alerts")
    assert (entry["purpose"], entry["subject"], entry["actor"]) == (CONTENT, f"referrals/{referral_id}", "coordinator-95")
    everything = await in_clear(referrals)
    assert str(child) in everything
    assert not any(found(word, everything) for word in (NOTE, REFERENCE))


async def test_an_alert_noted_by_mistake_is_withdrawn_stays_in_sight_and_shows_no_longer(referrals: Referrals) -> None:
    referral_id, [_, _, child] = await with_child(referrals)
    noted = [(await alert(referrals, referral_id, [child])).json()["id"] for _ in range(2)]
    await referrals.said()
    address = f"/v1/referrals/{referral_id}/alerts"

    first = await referrals.post("iscg-95", f"{address}/{noted[0]}/withdraw", {"reason": "noted_twice"})
    assert (await referrals.read_as("iscg-95", referral_id))["concerning_information_sent"]
    second = await referrals.post("coordinator-95", f"{address}/{noted[1]}/withdraw", {"reason": "not_sent"})

    assert (first.status_code, second.status_code) == (200, 200), second.text
    assert not (await referrals.read_as("iscg-95", referral_id))["concerning_information_sent"]
    told = [(one["id"], one["withdrawn_because"], one["withdrawn_at"] is not None) for one in await alerts(referrals, referral_id)]
    assert told == [(noted[0], "noted_twice", True), (noted[1], "not_sent", True)]
    said = [data for type, data in await referrals.said() if type == "alert.withdrawn"]
    assert [(data["alert_id"], data["last"], data["kind"]) for data in said] == [
        (noted[0], False, "concerning_information"),
        (noted[1], True, "concerning_information"),
    ]
    timeline = (await referrals.get("iscg-95", f"/v1/referrals/{referral_id}/timeline", CONTENT)).json()["items"]
    assert [one["reason"] for one in timeline if one["step"] == "alert_withdrawn"] == ["noted_twice", "not_sent"]


async def test_an_alert_is_withdrawn_once_by_who_works_the_referral_and_from_its_own_referral(referrals: Referrals) -> None:
    referral_id, [_, _, child] = await with_child(referrals)
    other, _ = await with_child(referrals)
    noted = (await alert(referrals, referral_id, [child])).json()["id"]
    why = {"reason": "not_sent"}

    def address(referral: UUID) -> str:
        return f"/v1/referrals/{referral}/alerts/{noted}/withdraw"

    assert (await referrals.post("iscg-95", address(other), why)).status_code == 404
    assert (await referrals.post("iscg-78", address(referral_id), why)).status_code == 404
    assert (await referrals.post("partner-95", address(referral_id), why)).status_code == 403
    assert (await referrals.post("iscg-95", address(referral_id), {"reason": "regret"})).status_code == 422
    assert (await referrals.post("iscg-95", address(referral_id), why)).status_code == 200
    again = await referrals.post("iscg-95", address(referral_id), why)
    assert (again.status_code, again.json()["type"].rpartition("/")[2].rpartition(":")[2]) == (409, "alert-withdrawn-already")
    assert [type for type, _ in await referrals.said()].count("alert.withdrawn") == 1


async def test_an_alert_says_nothing_to_the_police_the_interior_or_a_partner(referrals: Referrals) -> None:
    referral_id, [_, _, child] = await with_child(referrals)
    assert (await referrals.orient(referral_id)).status_code == 201
    await alert(referrals, referral_id, [child])

    rows = await referrals.rows("SELECT stream, data FROM outbox WHERE type LIKE '%alert.recorded%'")

    assert {row.stream for row in rows} == {"internal", "justice", "departement:95"}
    [justice] = [json.loads(row.data) for row in rows if row.stream == "justice"]
    assert set(justice) == {"referral_id", "departement", "kind", "sent_at"}
    assert justice["referral_id"] != str(referral_id)
    for who, address in (("police-95", f"/v1/referral-statuses/{referral_id}"), ("partner-95", "/v1/orientations")):
        answer = await referrals.get(who, address)
        assert answer.status_code == 200
        assert "alert" not in answer.text
        assert "concerning" not in answer.text


@pytest.mark.parametrize(
    ("persons", "more", "type"),
    [
        ([0], {}, "not-a-minor"),
        ([2, 0], {}, "not-a-minor"),
        ([], {"kind": "prosecutor_report", "court": "95127"}, "nobody-concerned"),
        ([2], {"kind": "prosecutor_report"}, "invalid"),
        ([2], {"court": "95127"}, "invalid"),
        ([2], {"kind": "prosecutor_report", "court": "95127", "departement": "95"}, "invalid"),
        ([2], {"sent_at": (datetime.now(UTC) + timedelta(days=1)).isoformat()}, "time-impossible"),
        ([2, 2], {}, "invalid"),
    ],
)
async def test_what_makes_no_sense_is_refused_and_changes_nothing(
    referrals: Referrals, persons: list[int], more: dict[str, Any], type: str
) -> None:
    referral_id, people = await with_child(referrals)

    answer = await alert(referrals, referral_id, [people[place] for place in persons], **more)

    assert answer.status_code == 422, answer.text
    assert answer.json()["type"].rpartition("/")[2].startswith(type)
    assert answer.json()["errors"]
    assert await referrals.rows("SELECT 1 FROM alerts") == []


async def test_children_who_are_no_persons_of_the_referral_are_concerned_when_they_were_present(referrals: Referrals) -> None:
    present, absent = await referrals.accepted(children_present=2), await referrals.accepted(children_present=0)

    assert (await alert(referrals, present, [])).status_code == 201
    assert (await alert(referrals, absent, [])).json()["type"].endswith("nobody-concerned")


async def test_a_stranger_and_another_perimeter_are_refused(referrals: Referrals) -> None:
    referral_id, _ = await with_child(referrals)
    [stranger, *_] = await referrals.persons(await referrals.receive())

    assert (await alert(referrals, referral_id, [stranger])).json()["type"].endswith("unknown-person")
    assert (await alert(referrals, referral_id, [], "iscg-78")).status_code == 404
    assert (await alert(referrals, referral_id, [], "partner-95")).status_code == 403


# Requisitions


async def test_a_requisition_is_entered_completed_by_a_later_entry_and_both_stay(referrals: Referrals) -> None:
    referral_id, [victim, *_] = await with_child(referrals)
    first = (await requisition(referrals, referral_id, "iscg-95", person_ids=[victim])).json()
    done: dict[str, Any] = {"handed_over": ["contact"], "handed_over_at": "2026-11-24T18:00:00Z", "person_ids": [victim]}

    second = await requisition(referrals, referral_id, corrects_id=first["id"], **done)
    again = await requisition(referrals, referral_id, corrects_id=first["id"], **done)

    assert second.status_code == 201, second.text
    assert again.status_code == 409
    assert again.json()["corrected_by_id"] == second.json()["id"]
    items = (await referrals.get("coordinator-95", "/v1/requisitions")).json()["items"]
    assert [(one["id"], one["corrects_id"], one["corrected_by_id"]) for one in items] == [
        (first["id"], None, second.json()["id"]),
        (second.json()["id"], first["id"], None),
    ]
    assert [(one["handed_over"], one["recorded_by"]) for one in items] == [([], "iscg-95"), (["contact"], "coordinator-95")]
    recorded = [one["detail"]["handed_over"] for one in await audited(referrals, "record_requisition")]
    assert recorded == ["nothing", "contact"]


@pytest.mark.parametrize("statement", ["UPDATE requisitions SET handed_over = '{narrative}'", "DELETE FROM requisitions"])
async def test_no_entry_is_changed_or_deleted_even_by_hand(referrals: Referrals, statement: str) -> None:
    referral_id, _ = await with_child(referrals)
    await requisition(referrals, referral_id)

    with pytest.raises(DBAPIError, match="only grows"):
        async with referrals.runtime.database.transaction() as session:
            await session.execute(text(statement))

    [row] = await referrals.rows("SELECT handed_over FROM requisitions")
    assert row.handed_over == []


async def test_the_register_is_read_within_the_perimeter_in_codes_and_an_entry_with_a_purpose(referrals: Referrals) -> None:
    referral_id, _ = await with_child(referrals)
    entry = (await requisition(referrals, referral_id)).json()["id"]

    listed = {who: await referrals.get(who, "/v1/requisitions") for who in ("coordinator-95", "coordinator-78", "auditor", "iscg-78")}
    read = {who: await referrals.get(who, f"/v1/requisitions/{entry}", "internal_control") for who in ("coordinator-78", "iscg-78")}
    without = await referrals.get("auditor", f"/v1/requisitions/{entry}")

    assert {who: len(answer.json().get("items", [])) for who, answer in listed.items()} == {
        "coordinator-95": 1,
        "auditor": 1,
        "coordinator-78": 0,
        "iscg-78": 0,
    }
    assert not any(word in listed["auditor"].text for word in (REFERENCE, SCOPE, REQUISITION["authority_name"]))
    assert {who: answer.status_code for who, answer in read.items()} == {"coordinator-78": 404, "iscg-78": 404}
    assert without.status_code == 400
    assert (await opened(referrals, entry, "auditor"))["scope"] == SCOPE
    assert [one["actor"] for one in await audited(referrals, "read_requisition")] == ["auditor"]
    everything = await in_clear(referrals)
    assert entry in everything
    assert not any(found(word, everything) for word in (REFERENCE, SCOPE, REQUISITION["authority_name"]))


async def test_a_post_lists_reads_and_completes_the_entries_of_its_own_referrals_until_they_go_to_another(referrals: Referrals) -> None:
    referral_id, [victim, *_] = await with_child(referrals)
    other = await referrals.receive(unit_id=d.UNIT_SARCELLES)
    assert (await requisition(referrals, other)).status_code == 201
    first = (await requisition(referrals, referral_id, "iscg-95", person_ids=[victim])).json()["id"]

    listed = (await referrals.get("iscg-95", "/v1/requisitions")).json()["items"]
    read = await referrals.get("iscg-95", f"/v1/requisitions/{first}", "judicial_requisition")
    done = {"handed_over": ["contact"], "handed_over_at": "2026-11-24T18:00:00Z", "person_ids": [victim], "corrects_id": first}
    completed = await requisition(referrals, referral_id, "iscg-95", **done)
    assert (await referrals.move("coordinator-95", referral_id, "assign", {"post_id": d.POST_SARCELLES})).status_code == 200

    assert [one["id"] for one in listed] == [first]
    assert (read.json()["scope"], completed.status_code) == (SCOPE, 201)
    assert (await referrals.get("iscg-95", "/v1/requisitions")).json()["items"] == []
    assert (await referrals.get("iscg-95", f"/v1/requisitions/{first}", "judicial_requisition")).status_code == 404


async def test_the_register_is_listed_page_by_page_and_by_referral(referrals: Referrals) -> None:
    ids = [await referrals.receive() for _ in range(3)]
    made = [(await requisition(referrals, one)).json()["id"] for one in ids]

    first = await referrals.get("coordinator-95", "/v1/requisitions", limit=2)
    rest = await referrals.get("coordinator-95", "/v1/requisitions", limit=2, cursor=first.json()["next"])
    one = await referrals.get("coordinator-95", "/v1/requisitions", referral_id=str(ids[1]))

    assert [entry["id"] for answer in (first, rest) for entry in answer.json()["items"]] == made
    assert [entry["id"] for entry in one.json()["items"]] == [made[1]]


@pytest.mark.parametrize(
    "more",
    [
        {"handed_over": ["contact"], "handed_over_at": None},
        {"handed_over_at": "2026-11-23T10:00:00Z"},
        {"asked": ["everything"]},
        {"scope": ""},
        {"corrects_id": "00000095-0010-4000-8000-000000000009"},
    ],
)
async def test_an_entry_that_makes_no_sense_is_refused(referrals: Referrals, more: dict[str, Any]) -> None:
    referral_id, _ = await with_child(referrals)

    answer = await requisition(referrals, referral_id, **more)

    assert answer.status_code == 422, answer.text
    assert await referrals.rows("SELECT 1 FROM requisitions") == []


# Erasure


async def test_the_words_go_with_the_last_person_they_name_and_the_facts_stay(referrals: Referrals) -> None:
    referral_id, [victim, accused, child] = await with_child(referrals)
    await alert(referrals, referral_id, [child])
    await alert(referrals, referral_id, [victim, child], kind="prosecutor_report", court="95127")
    entry = (await requisition(referrals, referral_id, person_ids=[victim, child])).json()["id"]

    assert (await erase(referrals, referral_id, [child])).status_code == 201
    of_child = [(one["note"], one["erased"]) for one in await alerts(referrals, referral_id)]
    still = await opened(referrals, entry)
    assert (await erase(referrals, referral_id, [victim])).status_code == 201
    of_both = [(one["note"], one["erased"]) for one in await alerts(referrals, referral_id)]

    assert of_child == [(None, True), (NOTE, False)]
    assert still["scope"] == SCOPE
    assert of_both == [(None, True), (None, True)]
    kept = await opened(referrals, entry)
    assert (kept["scope"], kept["reference"], kept["authority_name"], kept["erased"]) == (None, None, None, True)
    assert (kept["ground"], kept["asked"], kept["person_ids"]) == ("cpp_77_1_1", ["identity", "contact"], [str(victim), str(child)])
    assert (await referrals.read_as("iscg-95", referral_id))["concerning_information_sent"]
    keys = await referrals.rows("SELECT key_id FROM alerts UNION SELECT key_id FROM requisitions")
    left = await referrals.rows("SELECT id FROM vault_keys WHERE wrapped IS NOT NULL")
    assert not {row.key_id for row in keys} & {row.id for row in left}
    assert accused in await referrals.persons(referral_id)


async def test_of_an_erased_referral_a_requisition_keeps_the_fact_alone(referrals: Referrals) -> None:
    referral_id, people = await with_child(referrals)
    before = (await requisition(referrals, referral_id)).json()["id"]
    assert (await erase(referrals, referral_id, people)).status_code == 201

    after = await requisition(referrals, referral_id, handed_over_at="2026-11-24T18:00:00Z")
    sent = await alert(referrals, referral_id, [])

    assert after.status_code == 201, after.text
    for entry in (before, after.json()["id"]):
        kept = await opened(referrals, entry)
        assert (kept["erased"], kept["scope"], kept["asked"]) == (True, None, ["identity", "contact"])
    assert not found(SCOPE, await in_clear(referrals))
    assert sent.status_code == 409

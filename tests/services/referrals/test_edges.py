"""The edges of the rules: whose referral it may be, what an ended orientation still tells, births at midnight, references told to their owner only."""

from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from libs.chassis import relay
from libs.chassis.refusals import Refusal
from libs.contracts import demonstration as d
from libs.contracts.partners import PostSuspended, PostVacant, UnitChanged
from libs.contracts.vocabularies import ContactAgreement, Force, ReferralStatus, UnitKind
from services.referrals.domain import PoliceStatus, police_status
from services.referrals.receiving.schemas import ReferralReceivedOut
from services.referrals.rules import TimeImpossible, check_birth
from tests.services.referrals.conftest import CONTENT, MORNING, Referrals

MARK = "zqxjv"


async def receive(referrals: Referrals, *bodies: dict[str, Any], **more: Any) -> list[ReferralReceivedOut | Refusal]:
    """One call of the command with several requests."""
    requests = [referrals.intake(body, **more) for body in bodies]
    async with referrals.runtime.database.transaction() as session:
        return await referrals.intakes().receive(session, requests, MORNING)


@pytest.mark.parametrize(
    ("who", "commune", "unit", "status"),
    [
        ("police-95", "95127", None, 201),
        ("police-95", "78646", None, 422),
        ("police-78", "95127", d.UNIT_CERGY, 422),
        ("police-95", "78646", uuid4(), 422),
    ],
)
async def test_a_police_system_refers_within_its_departements_only(
    referrals: Referrals, who: str, commune: str, unit: UUID | None, status: int
) -> None:
    answer = await referrals.post(who, "/v1/referrals", referrals.body(commune=commune, unit_id=unit))

    assert answer.status_code == status
    if status == 422:
        assert answer.json()["type"].endswith("outside-perimeter")
        assert [one["pointer"] for one in answer.json()["errors"]] == ["/commune"]
        assert await referrals.rows("SELECT 1 FROM referrals") == []


async def test_facts_of_another_departement_are_referred_by_the_unit_that_heard_of_them_and_stay_in_its_own(referrals: Referrals) -> None:
    referral_id = await referrals.receive("police-78", unit_id=d.UNIT_78, commune="95127")
    here = await referrals.receive("police-95", commune="95127")

    read = await referrals.read_as("coordinator-78", referral_id)
    assert (read["departement"], read["commune"], read["unit_id"]) == ("78", "95127", str(d.UNIT_78))
    [(_, received), (_, assigned), *_] = await referrals.said()
    assert (received["departement"], received["commune"], assigned["post_id"]) == ("78", "95127", str(d.POST_78))
    assert (await referrals.get("coordinator-95", f"/v1/referrals/{referral_id}", CONTENT)).status_code == 404

    async def listed(who: str) -> list[str]:
        return [one["id"] for one in (await referrals.get(who, "/v1/referrals", commune="95127")).json()["items"]]

    assert [await listed(who) for who in ("coordinator-78", "coordinator-95", "iscg-78")] == [
        [str(referral_id)],
        [str(here)],
        [str(referral_id)],
    ]


async def test_facts_of_elsewhere_do_not_tell_where_a_person_is_helped(referrals: Referrals) -> None:
    elsewhere, here = await referrals.accepted(commune="78646"), await referrals.accepted(commune="95127")

    warnings = [(await referrals.orient(one, d.SHELTER_SERVICE, "shelter")).json()["warnings"] for one in (elsewhere, here)]

    assert warnings[0] == warnings[1]
    assert "area" not in warnings[0]


@pytest.mark.parametrize(
    ("unit", "communes", "status"),
    [
        (d.UNIT_CERGY, None, 201),
        (d.UNIT_78, None, 422),
        (d.UNIT_78, [d.COMMUNE_78, d.COMMUNE_CERGY], 201),
        (d.UNIT_78, [], 201),
        (uuid4(), None, 201),
    ],
    ids=["its own", "another département's", "one of both départements", "one that is competent nowhere yet", "one not heard of yet"],
)
async def test_a_police_system_refers_for_units_of_its_departements_only(
    referrals: Referrals, unit: UUID, communes: list[str] | None, status: int
) -> None:
    if communes is not None:
        where: dict[str, Any] = {"departement": "78", "unit_id": unit, "communes": tuple(communes)}
        await referrals.hear("partners", UnitChanged(**where, force=Force.POLICE, kind=UnitKind.COMMISSARIAT, changed_at=MORNING))

    answer = await referrals.post("police-95", "/v1/referrals", referrals.body(unit_id=unit, commune="95127"))

    assert answer.status_code == status, answer.text
    if status == 422:
        assert answer.json()["type"].endswith("outside-perimeter")
        assert [one["pointer"] for one in answer.json()["errors"]] == ["/unit_id"]
        assert await referrals.rows("SELECT 1 FROM referrals") == []


async def test_of_two_equal_references_in_one_batch_the_second_is_given_the_firsts_id(referrals: Referrals) -> None:
    body = referrals.body()

    [first, second, third] = await receive(referrals, body, body, referrals.body())

    assert isinstance(first, ReferralReceivedOut)
    assert isinstance(third, ReferralReceivedOut)
    assert isinstance(second, Refusal)
    assert second.more == {"referral_id": str(first.id)}
    assert [type for type, _ in await referrals.said()] == ["referral.received", "referral.assigned"] * 2


async def test_the_same_reference_of_another_unit_or_client_is_another_referral(referrals: Referrals) -> None:
    reference = "95-2026-1"
    answers = [
        await referrals.post("police-95", "/v1/referrals", referrals.body(external_reference=reference)),
        await referrals.post("police-95", "/v1/referrals", referrals.body(external_reference=reference, unit_id=d.UNIT_SARCELLES)),
        await referrals.post("police-95", "/v1/referrals", referrals.body(external_reference=reference, unit_id=None)),
        await referrals.post("police-78", "/v1/referrals", referrals.body(external_reference=reference, unit_id=None, commune="78646")),
        await referrals.post("police-95", "/v1/referrals", referrals.body(external_reference=reference, unit_id=None)),
    ]

    assert [answer.status_code for answer in answers] == [201, 201, 201, 201, 409]
    assert answers[-1].json()["referral_id"] == answers[2].json()["id"]


def test_a_child_born_today_in_paris_is_not_born_tomorrow() -> None:
    half_past_midnight = datetime(2026, 7, 14, 22, 30, tzinfo=UTC)

    check_birth(date(2026, 7, 15), half_past_midnight, "/birth_on")
    with pytest.raises(TimeImpossible):
        check_birth(date(2026, 7, 16), half_past_midnight, "/birth_on")


async def test_a_birth_to_come_is_refused_with_its_place(referrals: Referrals) -> None:
    body = referrals.body()
    body["persons"][0]["identity"]["birth_on"] = "2099-01-01"

    answer = await referrals.post("police-95", "/v1/referrals", body)

    assert answer.status_code == 422
    assert [one["pointer"] for one in answer.json()["errors"]] == ["/persons/0/identity/birth_on"]


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"principal_theme": "suicide"}, "/principal_theme"),
        ({"natinf": [222, 222]}, "/natinf"),
        ({"themes": ["housing", "housing"], "principal_theme": "housing"}, "/themes"),
        ({"occurred_at": "9999-12-31T23:59:59-10:00"}, "/occurred_at"),
        ({"children_present": -1}, "/children_present"),
    ],
)
async def test_what_is_wrong_is_pointed_at(referrals: Referrals, changes: dict[str, Any], pointer: str) -> None:
    answer = await referrals.post("police-95", "/v1/referrals", referrals.body() | changes)

    assert answer.status_code == 422
    assert [one["pointer"] for one in answer.json()["errors"]] == [pointer]


ENDS: list[tuple[str, list[tuple[str, Any]], int]] = [
    ("requested", [], 200),
    ("accepted", [("accept", None)], 200),
    ("in-progress", [("accept", None), ("start", None)], 200),
    ("rejected", [("reject", {"reason": "outside_area"})], 409),
    ("failed", [("accept", None), ("fail", {"reason": "no_show"})], 409),
    ("completed", [("accept", None), ("start", None), ("complete", {"outcome": "housed"})], 409),
]


@pytest.mark.parametrize(("status", "moves", "answered"), ENDS, ids=[status for status, *_ in ENDS])
async def test_a_partner_reads_the_person_while_the_orientation_lives(
    referrals: Referrals, status: str, moves: list[tuple[str, Any]], answered: int
) -> None:
    asked = (await referrals.orient(await referrals.accepted())).json()
    for version, (move, body) in enumerate(moves, 1):
        assert (await referrals.answer("partner-95", asked["id"], move, body, version)).status_code == 200

    read = await referrals.get("partner-95", f"/v1/orientations/{asked['id']}", "orientation")
    by_the_social_worker = await referrals.get("iscg-95", f"/v1/orientations/{asked['id']}", CONTENT)
    listed = (await referrals.get("partner-95", "/v1/orientations")).json()["items"]

    assert read.status_code == answered
    assert by_the_social_worker.status_code == 200
    assert [one["status"] for one in listed] == [status]
    if answered == 409:
        assert read.json()["type"].endswith("orientation-over")
        assert "Exemple" not in read.text


@pytest.mark.parametrize("event", [PostVacant, PostSuspended])
async def test_nobody_is_sent_to_a_post_where_nobody_works(referrals: Referrals, event: Any) -> None:
    referral_id = await referrals.receive()
    at = {"vacant_at": MORNING} if event is PostVacant else {"suspended_at": MORNING}
    await referrals.hear("partners", event(departement="95", post_id=d.POST_SARCELLES, employer_id=d.EMPLOYER, **at))

    answer = await referrals.move("coordinator-95", referral_id, "assign", {"post_id": d.POST_SARCELLES})

    assert answer.status_code == 409
    assert answer.json()["type"].endswith("post-not-available")


@pytest.mark.parametrize("agreement", list(ContactAgreement))
async def test_only_a_refusal_forbids_contact_and_every_answer_is_counted(referrals: Referrals, agreement: ContactAgreement) -> None:
    body = referrals.body()
    body["persons"] = [body["persons"][0] | {"agreement": agreement.value}]
    referral_id = await referrals.accepted(persons=body["persons"])
    counted = next(data for type, data in await referrals.said() if type == "referral.received")
    [person] = await referrals.persons(referral_id)
    call = {"person_id": person, "mode": "phone", "result": "no_answer", "attempted_at": "2026-11-23T08:00:00Z"}

    called = await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/contacts", call)

    assert [one["agreement"] for one in counted["persons"]] == [agreement.value]
    assert called.status_code == (409 if agreement is ContactAgreement.REFUSED else 201)


POLICE = [
    (ReferralStatus.RECEIVED, False, PoliceStatus.RECEIVED),
    (ReferralStatus.UNROUTED, False, PoliceStatus.RECEIVED),
    (ReferralStatus.ASSIGNED, False, PoliceStatus.ASSIGNED),
    (ReferralStatus.ASSIGNED, True, PoliceStatus.CONTACTED),
    (ReferralStatus.ACCEPTED, False, PoliceStatus.ACCEPTED),
    (ReferralStatus.ACCEPTED, True, PoliceStatus.CONTACTED),
    (ReferralStatus.CLOSED, True, PoliceStatus.CLOSED),
    (ReferralStatus.ERASED, True, PoliceStatus.CLOSED),
]


@pytest.mark.parametrize(("status", "contacted", "seen"), POLICE)
def test_the_police_sees_how_far_it_is(status: ReferralStatus, contacted: bool, seen: PoliceStatus) -> None:
    assert police_status(status, contacted=contacted) is seen


async def test_the_police_cannot_tell_orientations_from_its_answers(referrals: Referrals) -> None:
    """Neither fields nor headers (an ETag counts changes) of the status move with what the social worker does for the person."""
    referral_id = await referrals.accepted()
    address = f"/v1/referral-statuses/{referral_id}"
    before = await referrals.get("police-95", address)

    asked = (await referrals.orient(referral_id)).json()
    await referrals.answer("partner-95", asked["id"], "accept")
    after = await referrals.get("police-95", address)

    assert after.content == before.content
    assert "ETag" not in after.headers
    assert set(after.json()) == {"id", "external_reference", "unit_id", "status", "received_at"}


def marked(referrals: Referrals) -> dict[str, Any]:
    """A request with the mark in every personal field."""
    body = referrals.body(narrative=f"{MARK} récit")
    person = body["persons"][0]
    person["identity"] |= {"family_name": f"{MARK}nom", "given_name": f"{MARK}prénom"}
    person["contact"] = {"phones": ["+33639980001"], "email": f"{MARK}@exemple.invalid", "address": f"{MARK} rue"}
    person["safe_contact"] |= {"code_word": f"{MARK}mot", "note": f"{MARK} note"}
    return body


async def test_a_mark_in_every_personal_field_is_in_no_stream_log_or_refusal(
    referrals: Referrals, capfd: pytest.CaptureFixture[str]
) -> None:
    body = marked(referrals)
    received = await referrals.post("police-95", "/v1/referrals", body)
    referral_id = received.json()["id"]
    refused = [
        await referrals.post("police-95", "/v1/referrals", body),  # the reference is taken
        await referrals.post("police-95", "/v1/referrals", marked(referrals) | {MARK: MARK, "urgency": MARK}),
        await referrals.post("police-95", "/v1/referrals", marked(referrals) | {"commune": "78646", "unit_id": None}),
        await referrals.post("police-95", "/v1/referrals", marked(referrals) | {"occurred_at": MARK}),
        await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/contacts", {"person_id": MARK, "mode": MARK, MARK: MARK}),
    ]
    await referrals.move("iscg-95", referral_id, "accept")
    asked = (await referrals.orient(referral_id)).json()
    await referrals.answer("partner-95", asked["id"], "accept")
    await referrals.read_as("iscg-95", referral_id)
    connection = await referrals.runtime.database.connect()
    while await relay.stamp(connection):
        pass
    await connection.close()

    logged = capfd.readouterr()
    assert [answer.status_code for answer in refused] == [409, 422, 422, 422, 422]
    for text in (received.text, logged.out, logged.err, *(answer.text for answer in refused)):
        assert MARK not in text
        assert "639980001" not in text
    stamped = await referrals.rows("SELECT stream, attributes, data FROM stream_events")
    assert {row.stream for row in stamped} >= {"internal", "audit", "interior", "departement:95", f"organization:{d.ASSOCIATION}"}
    for row in stamped:
        assert MARK.encode() not in bytes(row.attributes) + bytes(row.data), row.stream
        assert b"639980001" not in bytes(row.data), row.stream

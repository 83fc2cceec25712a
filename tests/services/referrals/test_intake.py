"""Receiving a referral: kept once, routed, receipted, nothing of it leaked; bad input changes nothing."""

import asyncio
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis.refusals import Refusal
from libs.client.receipts import ReceiptInvalid, verify_receipt
from libs.contracts import demonstration as d
from libs.contracts.units import police_id_of
from services.referrals.receiving.intake import Intakes
from tests.planted import seen_red
from tests.services.referrals.conftest import MORNING, Referrals

TABLES = ("referrals", "persons", "vault_keys", "outbox", "idempotency_keys")


async def test_a_referral_is_received_routed_to_the_post_of_its_unit_and_said(referrals: Referrals) -> None:
    answer = await referrals.post("police-95", "/v1/referrals", referrals.body())

    assert answer.status_code == 201
    assert answer.json()["status"] == "assigned"
    [received, assigned] = await referrals.said()
    assert received[0] == "referral.received"
    assert received[1]["commune"] == "95127"
    assert [person["age_band"] for person in received[1]["persons"]] == ["25-39", "25-39"]
    assert assigned[0] == "referral.assigned"
    assert assigned[1] | {"assigned_at": ""} == {
        "referral_id": answer.json()["id"],
        "departement": "95",
        "post_id": str(d.POST_CERGY),
        "reason": "unit",
        "assigned_at": "",
        "police_id": str(police_id_of("police-95")),
    }


async def test_the_receipt_proves_offline_what_was_received(referrals: Referrals) -> None:
    answer = await referrals.post("police-95", "/v1/referrals", referrals.body())
    keys = (await referrals.client.get("/v1/keys")).json()

    proved = verify_receipt(answer.json(), answer.request.content, keys)

    assert str(proved.statement.referral_id) == answer.json()["id"]
    assert proved.statement.client_id == "police-95"
    with pytest.raises(ReceiptInvalid):
        verify_receipt(answer.json(), answer.request.content + b" ", keys)


async def test_the_same_request_twice_is_one_referral(referrals: Referrals) -> None:
    body = referrals.body()

    first = await referrals.post("police-95", "/v1/referrals", body, key="once")
    second = await referrals.post("police-95", "/v1/referrals", body, key="once")

    assert second.status_code == 201
    assert second.content == first.content
    assert second.headers["Idempotency-Replayed"] == "true"
    assert len(await referrals.rows("SELECT 1 FROM referrals")) == 1


async def test_a_hundred_equal_posts_at_once_are_one_referral_and_equal_answers(referrals: Referrals) -> None:
    body = referrals.body()

    answers = await asyncio.gather(*(referrals.post("police-95", "/v1/referrals", body, key="all") for _ in range(100)))

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert len(await referrals.rows("SELECT 1 FROM referrals")) == 1


async def test_referrals_posted_at_once_keep_each_its_own_story_and_routing(referrals: Referrals) -> None:
    traces = [f"{number:032x}" for number in range(1, 13)]
    bodies = [referrals.body() for _ in traces]

    async def post(number: int) -> httpx.Response:
        headers = referrals.token("police-95") | {
            "Idempotency-Key": f"story-{number}",
            "Content-Type": "application/json",
            "traceparent": f"00-{traces[number]}-{'a' * 16}-01",
        }
        return await referrals.client.post("/v1/referrals", content=json.dumps(bodies[number], default=str), headers=headers)

    answers = await asyncio.gather(*(post(number) for number in range(len(traces))))

    transactions = await referrals.rows("SELECT count(DISTINCT xmin::text) AS number FROM referrals")
    assert transactions[0].number < len(traces)
    rows = await referrals.rows(
        "SELECT attributes, data FROM outbox WHERE stream = 'internal' AND type = 'fr.maillon.referral.received.v1'"
    )
    told = {json.loads(row.data)["referral_id"]: json.loads(row.attributes)["traceparent"].split("-")[1] for row in rows}
    assert told == {answer.json()["id"]: trace for answer, trace in zip(answers, traces, strict=True)}


async def test_a_reference_taken_is_refused_by_name_and_gives_the_first_ones_id(referrals: Referrals) -> None:
    body = referrals.body()
    first = (await referrals.post("police-95", "/v1/referrals", body)).json()["id"]

    again = await referrals.post("police-95", "/v1/referrals", body | {"urgency": "standard"})
    elsewhere = await referrals.post("police-95", "/v1/referrals", body | {"unit_id": str(d.UNIT_SARCELLES)})

    assert again.status_code == 409
    assert again.json()["type"].endswith("external-reference-taken")
    assert again.json()["referral_id"] == first
    assert elsewhere.status_code == 201


async def test_without_a_unit_it_is_routed_by_its_commune(referrals: Referrals) -> None:
    referral_id = await referrals.receive(unit_id=None, commune=d.COMMUNE_SARCELLES)

    routing = (await referrals.get("coordinator-95", f"/v1/referrals/{referral_id}/routing")).json()

    assert routing["post_id"] == str(d.POST_SARCELLES)
    assert routing["reason"] == "commune"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"unit_id": None, "commune": "95008"}, "no_coverage"),
        ({"unit_id": str(uuid4()), "commune": "95008"}, "no_coverage"),
        ({"unit_id": str(d.UNIT_MAGNY), "commune": "95355", "channel": "complaint"}, "channel_not_accepted"),
    ],
)
async def test_what_finds_no_post_is_kept_and_said_unrouted(referrals: Referrals, changes: dict[str, Any], reason: str) -> None:
    answer = await referrals.post("police-95", "/v1/referrals", referrals.body(**changes))

    assert answer.status_code == 201
    assert answer.json()["status"] == "received"
    assert [(type, data.get("reason")) for type, data in await referrals.said()][1] == ("referral.unrouted", reason)
    listed = (await referrals.get("coordinator-95", "/v1/referrals", status="unrouted")).json()
    assert [one["id"] for one in listed["items"]] == [answer.json()["id"]]


MARK = "zqxjv"


async def test_no_personal_value_leaves_the_vault(referrals: Referrals) -> None:
    """The mark stands in every personal field; it is looked for, byte by byte, in every table of the database."""
    body = referrals.body(narrative=f"{MARK} récit")
    person = body["persons"][0]
    person["identity"] |= {"family_name": f"{MARK}nom", "given_name": f"{MARK}prénom"}
    person["contact"] = {"phones": ["+33639980001"], "email": f"{MARK}@exemple.invalid", "address": f"{MARK} rue"}
    person["safe_contact"] |= {"code_word": f"{MARK}mot", "note": f"{MARK} note"}
    referral_id = UUID((await referrals.post("police-95", "/v1/referrals", body)).json()["id"])

    tables = [row.tablename for row in await referrals.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
    for table in tables:
        for row in await referrals.rows(f"SELECT * FROM {table}"):
            seen = b" ".join(value if isinstance(value, bytes) else str(value).encode() for value in row)
            assert MARK.encode() not in seen, table
            assert b"639980001" not in seen, table

    opened = await referrals.read_as("iscg-95", referral_id)
    assert opened["narrative"] == f"{MARK} récit"
    assert opened["people"][0]["identity"]["family_name"] == f"{MARK}nom"


BAD: list[tuple[str, dict[str, Any], int]] = [
    ("an unknown field", {"nom": "Exemple"}, 422),
    ("a number where text is expected", {"external_reference": 12}, 422),
    ("true where a number is expected", {"children_present": True}, 422),
    ("NUL in a text", {"narrative": "a\u0000b"}, 422),
    ("a lone surrogate", {"narrative": "\ud800"}, 422),
    ("a control character in a line", {"external_reference": "a\nb"}, 422),
    ("no person", {"persons": []}, 422),
    ("too many persons", {"persons": [{"role": "other", "sex": "unknown", "agreement": "not_asked"}] * 51}, 422),
    ("a principal theme that is none of the themes", {"principal_theme": "suicide"}, 422),
    ("a theme twice", {"themes": ["couple_violence", "couple_violence"]}, 422),
    ("a commune that is none", {"commune": "99999"}, 422),
    ("an instant without zone", {"occurred_at": "2026-11-22T21:40:00"}, 422),
    ("an instant to come", {"occurred_at": "2199-01-01T00:00:00Z"}, 422),
    ("the year one", {"occurred_at": "0001-01-01T00:00:00Z"}, 422),
    ("the year one before the zone", {"occurred_at": "0001-01-01T00:00:00+14:00"}, 422),
    ("a huge number", {"children_present": 10**30}, 422),
    ("a NATINF of six digits", {"natinf": [100000]}, 422),
    ("an id in capitals", {"unit_id": str(d.UNIT).upper()}, 422),
    ("a narrative too long", {"narrative": "x" * 20_001}, 422),
]


@pytest.mark.parametrize(("changes", "status"), [(changes, status) for _, changes, status in BAD], ids=[name for name, *_ in BAD])
async def test_bad_input_gets_a_clear_problem_and_changes_nothing(referrals: Referrals, changes: dict[str, Any], status: int) -> None:
    before = await referrals.snapshot(*TABLES)

    answer = await referrals.post("police-95", "/v1/referrals", referrals.body() | changes)

    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["errors"]
    assert "Exemple" not in answer.text
    assert await referrals.snapshot(*TABLES) == before


async def test_a_refused_request_does_not_fail_its_neighbours(referrals: Referrals) -> None:
    bodies = [referrals.body(), referrals.body(), referrals.body()]
    bodies[1]["external_reference"] = bodies[0]["external_reference"]

    async with referrals.runtime.database.transaction() as session:
        outcomes = await referrals.intakes().receive(session, [referrals.intake(body) for body in bodies], MORNING)

    assert [isinstance(outcome, Refusal) for outcome in outcomes] == [False, True, False], "a refused request failed its neighbours"
    assert len(await referrals.rows("SELECT 1 FROM referrals")) == 2


async def test_planted_referrals_that_are_stored_all_or_none_are_seen(referrals: Referrals, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Intakes._store_referrals

    async def all_or_none(self: Intakes, session: AsyncSession, received: Sequence[Any], now: datetime) -> set[UUID]:
        stored = await store(self, session, received, now)
        return stored if len(stored) == len(received) else set()

    monkeypatch.setattr(Intakes, "_store_referrals", all_or_none)

    await seen_red(test_a_refused_request_does_not_fail_its_neighbours(referrals), "a refused request failed its neighbours")


@pytest.mark.parametrize(
    "who", ["iscg-95", "coordinator-95", "partner-95", "employer-95", "funder-95", "interior", "administrator", "reporting"]
)
async def test_only_the_police_posts_referrals(referrals: Referrals, who: str) -> None:
    answer = await referrals.post(who, "/v1/referrals", referrals.body())

    assert answer.status_code == 403
    assert await referrals.rows("SELECT 1 FROM referrals") == []


@pytest.mark.parametrize(
    ("changes", "pointer", "example"),
    [
        ({"commune": "Cergy"}, "/commune", "95127"),
        ({"persons": [{"contact": {"phones": ["06 39 98 00 01"]}}]}, "/persons/0/contact/phones/0", "+33639980001"),
        ({"persons": [{"contact": {"email": "camille"}}]}, "/persons/0/contact/email", "camille@exemple.invalid"),
        (
            {"persons": [{"safe_contact": {"windows": [{"days": [1], "begins": "9h", "ends": "10:00"}]}}]},
            "/persons/0/safe_contact/windows/0/begins",
            "09:30",
        ),
    ],
)
async def test_a_wrong_format_is_told_with_an_example_of_the_right_one(
    referrals: Referrals, changes: dict[str, Any], pointer: str, example: str
) -> None:
    answer = await referrals.post("police-95", "/v1/referrals", referrals.body(**changes))

    [told] = [one["detail"] for one in answer.json()["errors"] if one["pointer"] == pointer]
    assert told == f"Ce n'est pas le format attendu : par exemple {example}."


@pytest.mark.parametrize("occurred_at", ["2026-11-31T10:00:00Z", "2026-11-20T24:30:00Z", "2025-02-29T10:00:00+01:00"])
async def test_a_moment_that_is_in_no_calendar_is_refused_by_name(referrals: Referrals, occurred_at: str) -> None:
    answer = await referrals.post("police-95", "/v1/referrals", referrals.body(occurred_at=occurred_at))

    assert (answer.status_code, answer.json()["errors"]) == (
        422,
        [{"pointer": "/occurred_at", "detail": "Ce jour, ou cette heure, n'existe pas au calendrier."}],
    )

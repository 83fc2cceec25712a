"""Status back to police: a system follows its own referrals, by list, by its reference, by its stream; it never learns more."""

import json
from typing import Any
from uuid import UUID

import pytest

from libs.contracts.units import police_id_of
from libs.contracts.vocabularies import PersonRole
from services.referrals.app import end_retention
from services.referrals.rights.erasure import ErasureCause
from tests.services.referrals.conftest import Referrals
from tests.services.referrals.test_erasure import erase
from tests.services.referrals.test_rights import announced, old, statuses

STREAM = f"police:{police_id_of('police-95')}"


async def told(referrals: Referrals, stream: str = STREAM) -> list[tuple[str, dict[str, Any]]]:
    rows = await referrals.rows(f"SELECT type, data FROM outbox WHERE stream = '{stream}' ORDER BY position")
    return [(row.type.removeprefix("fr.maillon.").removesuffix(".v1"), json.loads(row.data)) for row in rows]


async def whole_way(referrals: Referrals) -> UUID:
    referral_id = await referrals.accepted()
    [victim, _] = await referrals.persons(referral_id)
    for hour, result in (("08", "no_answer"), ("09", "reached")):
        call = {"person_id": victim, "mode": "phone", "result": result, "attempted_at": f"2026-11-23T{hour}:30:00Z"}
        answer = await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/contacts", call)
        assert answer.status_code == 201, answer.text
    asked = (await referrals.orient(referral_id)).json()["id"]
    assert (await referrals.answer("partner-95", asked, "accept")).status_code == 200
    assert (await referrals.move("iscg-95", referral_id, "close", {"reason": "oriented"})).status_code == 200
    assert (await referrals.move("iscg-95", referral_id, "reopen")).status_code == 200
    return referral_id


async def test_a_police_system_is_told_how_far_its_referral_is_each_step_once(referrals: Referrals) -> None:
    referral_id = await whole_way(referrals)

    said = await told(referrals)

    assert [type for type, _ in said] == [
        "referral.received",
        "referral.assigned",
        "referral.accepted",
        "contact.attempted",
        "referral.closed",
        "referral.reopened",
    ]
    assert {data["referral_id"] for _, data in said} == {str(referral_id)}


async def test_the_first_contact_that_the_police_is_told_of_is_one_in_which_somebody_was_reached(referrals: Referrals) -> None:
    referral_id = await referrals.accepted()
    [victim, _] = await referrals.persons(referral_id)
    seen = []

    for hour, result in (("08", "no_answer"), ("10", "wrong_contact"), ("11", "declined"), ("07", "reached")):
        call = {"person_id": victim, "mode": "phone", "result": result, "attempted_at": f"2026-11-23T{hour}:30:00Z"}
        call |= {"override_reason": "person_asked"}  # whatever the hour
        assert (await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/contacts", call)).status_code == 201
        read = [
            (await referrals.get("police-95", f"/v1/referral-statuses/{referral_id}")).json(),
            *(await referrals.get("police-95", "/v1/referral-statuses")).json()["items"],
            *(await referrals.get("police-95", "/v1/referral-statuses", status="contacted")).json()["items"],
            *(await referrals.get("police-95", "/v1/referral-statuses", status="accepted")).json()["items"],
        ]
        seen.append([one["status"] for one in read])

    assert seen == [["accepted"] * 3] * 2 + [["contacted"] * 3] * 2
    said = [data for type, data in await told(referrals) if type.startswith("contact.")]
    assert [one["attempted_at"] for one in said] == ["2026-11-23T11:30:00.000000Z"]


async def test_a_police_system_that_was_told_of_a_post_is_told_that_it_gave_the_referral_back_and_never_why(referrals: Referrals) -> None:
    referral_id = await referrals.receive()
    await referrals.move("iscg-95", referral_id, "decline", {"reason": "overloaded"})
    unrouted = await referrals.receive(unit_id=None, commune="95008")

    said = await told(referrals)

    steps = [(type, data["referral_id"]) for type, data in said if type != "referral.received"]
    assert steps == [("referral.assigned", str(referral_id)), ("referral.unrouted", str(referral_id))]
    assert said[2][1].keys() == {"referral_id", "departement", "unrouted_at"}
    statuses = {one["id"]: one["status"] for one in (await referrals.get("police-95", "/v1/referral-statuses")).json()["items"]}
    assert statuses == {str(referral_id): "received", str(unrouted): "received"}


async def test_a_police_system_never_learns_what_was_said_nor_to_whom_nor_why_it_ended(referrals: Referrals) -> None:
    await whole_way(referrals)

    fields = {name for _, data in await told(referrals) for name in data}

    assert fields == {"referral_id", "departement", "received_at", "assigned_at", "accepted_at", "attempted_at", "closed_at", "reopened_at"}
    assert not fields & {"post_id", "person_id", "organization_id", "reason", "result", "persons", "returning"}


async def test_another_police_system_is_told_nothing_of_it(referrals: Referrals) -> None:
    await whole_way(referrals)

    assert await told(referrals, f"police:{police_id_of('police-78')}") == []
    assert (await referrals.get("police-78", f"/v1/streams/{STREAM}/events")).status_code == 404
    assert (await referrals.get("police-95", f"/v1/streams/{STREAM}/events")).status_code == 200
    [only] = (await referrals.get("police-95", "/v1/streams")).json()["items"]
    assert only["stream"] == STREAM


async def test_an_event_leads_to_the_polices_own_reference_which_it_does_not_hold(referrals: Referrals) -> None:
    """A reference is the police's own words: it may hold a name, and no event does."""
    await referrals.receive(external_reference="Dossier Exemple 42")

    said = await told(referrals)
    status = await referrals.get("police-95", f"/v1/referral-statuses/{said[0][1]['referral_id']}")

    assert status.json()["external_reference"] == "Dossier Exemple 42"
    rows = await referrals.rows("SELECT data FROM outbox")
    assert not any(b"Exemple 42" in bytes(row.data) for row in rows)


async def test_a_police_system_subscribes_to_its_own_stream_only(referrals: Referrals) -> None:
    url = "https://93.184.215.14/maillon"

    own = await referrals.post("police-95", "/v1/subscriptions", {"stream": STREAM, "url": url})
    other = await referrals.post("police-78", "/v1/subscriptions", {"stream": STREAM, "url": url})

    assert (own.status_code, other.status_code) == (201, 404)


async def test_a_police_system_finds_its_own_referral_by_its_reference_and_nobody_elses(referrals: Referrals) -> None:
    referral_id = await referrals.receive(external_reference="dossier-7")

    own = await referrals.post("police-95", "/v1/referral-status-searches", {"external_reference": "dossier-7"})
    other = await referrals.post("police-78", "/v1/referral-status-searches", {"external_reference": "dossier-7"})
    in_the_url = await referrals.get("police-95", "/v1/referral-statuses", external_reference="dossier-7")

    [found] = own.json()["items"]
    assert found == {
        "id": str(referral_id),
        "external_reference": "dossier-7",
        "unit_id": referrals.body()["unit_id"],
        "status": "assigned",
        "received_at": found["received_at"],
    }
    assert other.json()["items"] == []
    assert in_the_url.status_code == 422
    assert "dossier-7" not in in_the_url.text


async def test_the_police_reads_neither_a_referral_nor_its_persons(referrals: Referrals) -> None:
    referral_id = await whole_way(referrals)

    for address in (f"/v1/referrals/{referral_id}", "/v1/referrals", "/v1/orientations", f"/v1/referrals/{referral_id}/routing"):
        assert (await referrals.get("police-95", address, "follow_up")).status_code == 403
    status = await referrals.get("police-95", f"/v1/referral-statuses/{referral_id}")
    assert PersonRole.VICTIM not in status.text


@pytest.mark.parametrize("cause", ["retention", "request", "refusal"])
async def test_a_referral_leaves_the_polices_list_at_the_end_of_its_retention_whether_it_was_erased_before_or_not(
    referrals: Referrals, cause: str
) -> None:
    """An erasure that a person asked for shows nothing, neither when it is made nor by what is missing or left at the end."""
    kept = await old(referrals, 700)
    referral_id = await old(referrals)
    [row] = await referrals.rows(f"SELECT external_reference FROM referrals WHERE id = '{referral_id}'")
    if cause != "retention":
        before = await followed(referrals, row.external_reference)
        await erase(referrals, referral_id, await referrals.persons(referral_id), ErasureCause(cause))
        assert await followed(referrals, row.external_reference) == before
        assert referral_id in before
    await announced(referrals)

    await end_retention(referrals.runtime)

    assert await statuses(referrals) == {kept: "closed", referral_id: "erased"}
    answer = await referrals.get("police-95", "/v1/referral-statuses")
    assert "erased" not in answer.text
    assert await followed(referrals, row.external_reference) == [kept]
    assert (await referrals.get("police-95", f"/v1/referral-statuses/{referral_id}")).status_code == 404
    again = await referrals.post("police-95", "/v1/referrals", referrals.body(external_reference=row.external_reference))
    assert again.status_code == 201, "another case, years later"
    assert row.external_reference not in [
        one.external_reference for one in await referrals.rows("SELECT * FROM referrals WHERE client_id = ''")
    ]


async def followed(referrals: Referrals, reference: str) -> list[UUID]:
    """What the police lists, and finds by its reference."""
    listed = (await referrals.get("police-95", "/v1/referral-statuses")).json()["items"]
    found = (await referrals.post("police-95", "/v1/referral-status-searches", {"external_reference": reference})).json()["items"]
    assert {one["id"] for one in found} == {one["id"] for one in listed if one["external_reference"] == reference}
    return [UUID(one["id"]) for one in listed]


@pytest.mark.parametrize("corrected", ["roles", "refusal"])
async def test_who_turns_out_to_be_the_one_to_help_and_was_reached_is_told_to_the_police_as_the_first_contact(
    referrals: Referrals, corrected: str
) -> None:
    persons = [{"role": role, "sex": "female", "agreement": "accepted"} for role in ("victim", "witness")]
    referral_id = await referrals.accepted(persons=persons)
    victim, witness = await referrals.persons(referral_id)
    for hour, result in (("08", "no_answer"), ("09", "reached"), ("10", "reached")):
        call = {"person_id": witness, "mode": "phone", "result": result, "attempted_at": f"2026-11-23T{hour}:30:00Z"}
        assert (await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/contacts", call)).status_code == 201

    async def status() -> str:
        return str((await referrals.get("police-95", f"/v1/referral-statuses/{referral_id}")).json()["status"])

    before = await status(), [type for type, _ in await told(referrals)]
    swapped = [{"person_id": witness, "role": "victim"}, {"person_id": victim, "role": "witness"}]
    right = {"roles": swapped, "refusal": [{"person_id": victim, "agreement": "refused"}]}[corrected]
    for reason, again in (("mistake", right), ("learned", [{"person_id": witness, "sex": "male"}])):
        answer = await referrals.move("iscg-95", referral_id, "corrections", {"reason": reason, "persons": again})
        assert answer.status_code == 201, answer.text

    assert before == ("accepted", ["referral.received", "referral.assigned", "referral.accepted"])
    assert await status() == "contacted"
    [contact] = [data for type, data in await told(referrals) if type not in before[1]]
    assert contact["attempted_at"].startswith("2026-11-23T09:30:00"), "once, by the first call that reached her"
    assert (await told(referrals))[-1][0] == "contact.attempted"
    said = [data for type, data in await referrals.said() if type == "contact.attempted"]
    assert [one["first"] for one in said] == [False, False, False, False], (
        "the first attempt had no answer: figures have it with the correction"
    )

"""A partner that rejects says why: a coded reason, and words where the code says nothing. The words are personal content."""

import html
import re
from typing import Any
from uuid import UUID

import pytest

from libs.contracts import demonstration as d
from tests.services.referrals.conftest import Referrals
from tests.services.referrals.test_erasure import erase, sealed
from tests.services.referrals.test_exports import exported
from tests.services.referrals.test_links import fill, link, status
from tests.services.referrals.test_orientations import ask

WORDS = "Déjà suivie ici par sa sœur, Mme Motus."
OTHER = {"reason": "other", "reason_text": WORDS}


async def rejected(referrals: Referrals) -> tuple[UUID, str]:
    referral_id = await referrals.accepted()
    orientation = (await ask(referrals, referral_id, d.VICTIM_SUPPORT_SERVICE)).json()["id"]
    answer = await referrals.answer("partner-95", orientation, "reject", OTHER)
    assert answer.status_code == 200, answer.text
    assert "Motus" not in answer.text
    return referral_id, orientation


@pytest.mark.parametrize("given", [{}, {"reason_text": None}, {"reason_text": "  "}])
async def test_another_reason_than_those_of_the_list_needs_words(referrals: Referrals, given: dict[str, Any]) -> None:
    orientation = (await ask(referrals, await referrals.accepted(), d.VICTIM_SUPPORT_SERVICE)).json()["id"]

    answer = await referrals.answer("partner-95", orientation, "reject", {"reason": "other"} | given)

    assert answer.status_code == 422
    assert [one["pointer"] for one in answer.json()["errors"]] == ["/reason_text"]
    assert await status(referrals, orientation) == "requested"


async def test_words_are_welcome_beside_a_reason_of_the_list(referrals: Referrals) -> None:
    orientation = (await ask(referrals, await referrals.accepted(), d.VICTIM_SUPPORT_SERVICE)).json()["id"]

    await referrals.answer("partner-95", orientation, "reject", {"reason": "no_capacity", "reason_text": "Une place le 3."})

    read = (await referrals.get("iscg-95", f"/v1/orientations/{orientation}", "follow_up")).json()
    assert (read["reason"], read["reason_text"]) == ("no_capacity", "Une place le 3.")


async def test_the_words_are_read_with_a_purpose_by_who_works_the_referral_and_stand_nowhere_else(referrals: Referrals) -> None:
    referral_id, orientation = await rejected(referrals)
    path = f"/v1/orientations/{orientation}"

    assert (await referrals.get("iscg-95", path, "follow_up")).json()["reason_text"] == WORDS
    assert (await referrals.get("coordinator-95", path, "supervision")).json()["reason_text"] == WORDS
    assert (await referrals.get("iscg-95", path)).status_code == 400
    assert [(await referrals.get(who, path, "orientation")).status_code for who in ("partner-95", "partner-78", "iscg-78")] == [
        409,
        404,
        404,
    ]
    lists = [await referrals.get(who, "/v1/orientations") for who in ("iscg-95", "coordinator-95", "partner-95")]
    lists += [await referrals.get("iscg-95", f"/v1/referrals/{referral_id}{more}", "follow_up") for more in ("", "/timeline")]
    assert [one.status_code for one in lists] == [200] * 5
    assert "Motus" not in "".join(one.text for one in lists)
    rows = await referrals.rows("SELECT convert_from(data, 'UTF8') AS said FROM outbox")
    assert "Motus" not in "".join(row.said for row in rows)
    [row] = await referrals.rows("SELECT o::text AS held FROM orientations o")
    assert b"Motus".hex() not in row.held


async def test_the_words_go_with_the_person(referrals: Referrals) -> None:
    referral_id, orientation = await rejected(referrals)
    [victim, other] = await referrals.persons(referral_id)
    held = len(await sealed(referrals))

    await erase(referrals, referral_id, [other])
    assert (await referrals.get("iscg-95", f"/v1/orientations/{orientation}", "follow_up")).json()["reason_text"] == WORDS
    await erase(referrals, referral_id, [victim])

    assert (await referrals.get("coordinator-95", f"/v1/orientations/{orientation}", "supervision")).json()["reason_text"] is None
    assert held > 0
    assert await sealed(referrals) == []


async def test_the_words_are_in_the_export_of_the_person_they_speak_of_and_in_no_other(referrals: Referrals) -> None:
    referral_id, _ = await rejected(referrals)
    [victim, other] = await referrals.persons(referral_id)

    assert [one["reason_text"] for one in (await exported(referrals, referral_id, victim))["orientations"]] == [WORDS]
    assert "Motus" not in str(await exported(referrals, referral_id, other))


async def test_by_link_the_words_are_asked_for_and_what_was_typed_stays(referrals: Referrals) -> None:
    orientation, path = await link(referrals)

    without = await fill(referrals, path, answer="reject", reject_reason="other", reject_text=" \r\n ")
    longer = await fill(referrals, path, answer="reject", reject_reason="other", reject_text="é<" * 501)

    for page in (without, longer):
        assert page.status_code == 422
        assert "Précisez le motif du refus" in page.text
        assert re.search(r'<option value="other" selected>', page.text)
    assert "é&lt;" * 501 in longer.text
    assert await status(referrals, orientation) == "requested"
    assert (await fill(referrals, path, answer="reject", reject_reason="other", reject_text=f"{WORDS}\r\nDeux lignes.")).status_code == 200
    read = (await referrals.get("iscg-95", f"/v1/orientations/{orientation}", "follow_up")).json()
    assert read["reason_text"] == f"{WORDS}\nDeux lignes."


async def test_a_thousand_characters_of_any_script_come_through_the_link(referrals: Referrals) -> None:
    orientation, path = await link(referrals)

    answer = await fill(referrals, path, answer="reject", reject_reason="other", reject_text="𓂀" * 1000)

    assert answer.status_code == 200, html.unescape(answer.text)
    assert await status(referrals, orientation) == "rejected"

"""The words of an alert outlive a refusal, not the request of whom they name, nor the end of the retention; a requisition without answer holds them."""

from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from services.referrals import housekeeping
from services.referrals.rights import retention
from services.referrals.rights.domain import Term
from tests.services.referrals.conftest import Referrals
from tests.services.referrals.test_agreement import CALM, MINOR, persons_with, run
from tests.services.referrals.test_justice import NOTE, alert, alerts, requisition
from tests.services.referrals.test_rights import ask

LATE = "2026-11-24T18:00:00Z"


async def refused(referrals: Referrals, named: list[int], *, of: int = 1) -> tuple[UUID, list[UUID]]:
    """Minors who refused were erased; an alert names some of them."""
    child = persons_with(referrals, agreement="refused", identity=MINOR)[0]
    referral_id = await referrals.accepted(persons=[child] * of, **CALM | {"children_present": 2})
    persons = await referrals.persons(referral_id)
    assert (await alert(referrals, referral_id, [persons[place] for place in named])).status_code == 201
    assert (await referrals.move("iscg-95", referral_id, "close", {"reason": "contact_refused"})).status_code == 200
    assert await run(referrals, datetime.now(UTC) + timedelta(hours=73)) == 1
    return referral_id, persons


async def note(referrals: Referrals, referral_id: UUID) -> str | None:
    [noted] = await alerts(referrals, referral_id, "coordinator-95")
    found: str | None = noted["note"]
    return found


async def test_after_a_refusal_the_words_of_an_alert_are_erased_when_that_is_asked_for(
    referrals: Referrals, erasures_logged: StringIO
) -> None:
    referral_id, [person] = await refused(referrals, [0])
    before, [version] = await note(referrals, referral_id), await referrals.rows("SELECT version FROM referrals")

    asked = await ask(referrals, referral_id, [person])
    again = await ask(referrals, referral_id, [person])

    assert (before, asked.status_code, await note(referrals, referral_id)) == (NOTE, 201, None), asked.text
    assert asked.json()["version"] == version.version + 1
    assert again.json()["type"].endswith("erased-already")
    keys = {row.key_id for row in await referrals.rows("SELECT key_id FROM alerts")}
    assert not keys & {row.id for row in await referrals.rows("SELECT id FROM vault_keys WHERE wrapped IS NOT NULL")}
    [row] = await referrals.rows("SELECT person_ids, whole, cause FROM erasures WHERE cause = 'request'")
    assert (row.person_ids, row.whole) == ([person], False)
    *_, told = housekeeping.erased_in(erasures_logged.getvalue().splitlines())
    assert (told.person_ids, told.alerts) == ([person], True), "and again after a restore"


async def test_what_was_asked_for_after_a_refusal_is_erased_again_after_a_restore(referrals: Referrals, erasures_logged: StringIO) -> None:
    referral_id, [person] = await refused(referrals, [0])
    [kept] = await referrals.rows("SELECT content, key_id FROM alerts")
    [key] = await referrals.rows(f"SELECT wrapped FROM vault_keys WHERE id = '{kept.key_id}'")
    assert (await ask(referrals, referral_id, [person])).status_code == 201
    log = erasures_logged.getvalue().splitlines()
    async with referrals.runtime.database.transaction() as session:
        await session.execute(text("UPDATE alerts SET content = :content"), {"content": kept.content})
        await session.execute(
            text("UPDATE vault_keys SET wrapped = :key, destroyed_at = NULL WHERE id = :id"), {"key": key.wrapped, "id": kept.key_id}
        )

    assert await housekeeping.erase_again(referrals.runtime, housekeeping.erased_in(log)) == 1
    assert await note(referrals, referral_id) is None


@pytest.mark.parametrize(
    ("named", "askers", "left"),
    [([0], [1], NOTE), ([0], [0], None), ([0, 1], [1], None), ([], [1], NOTE), ([], [0, 1], None)],
    ids=["of another", "of who asks", "of both", "of nobody by name", "of nobody by name, asked by all"],
)
async def test_of_several_who_refused_who_asks_takes_what_names_them(
    referrals: Referrals, named: list[int], askers: list[int], left: str | None
) -> None:
    referral_id, persons = await refused(referrals, named, of=2)

    asked = await ask(referrals, referral_id, [persons[place] for place in askers])

    assert (asked.status_code, await note(referrals, referral_id)) == (409 if left else 201, left)


async def test_who_refused_and_was_erased_from_among_others_has_the_words_erased_too(referrals: Referrals) -> None:
    child, other = persons_with(referrals, agreement="refused", identity=MINOR)
    referral_id = await referrals.accepted(persons=[child, other | {"role": "victim"}], **CALM)
    [person, _] = await referrals.persons(referral_id)
    assert (await alert(referrals, referral_id, [person])).status_code == 201
    assert await run(referrals, datetime.now(UTC) + timedelta(hours=73)) == 1

    asked = await ask(referrals, referral_id, [person])

    assert (asked.status_code, await note(referrals, referral_id)) == (201, None)
    assert (await referrals.read_as("iscg-95", referral_id))["status"] == "accepted"


@pytest.mark.parametrize("by_request", [True, False])
async def test_a_requisition_without_answer_holds_the_words_of_an_alert(referrals: Referrals, by_request: bool) -> None:
    referral_id, [person] = await refused(referrals, [0])
    entry = (await requisition(referrals, referral_id, handed_over_at=None)).json()["id"]

    async def end() -> Any:
        if by_request:
            return (await ask(referrals, referral_id, [person])).status_code
        async with referrals.runtime.database.transaction() as session:
            later = datetime.now(UTC) + timedelta(days=1200)
            return await retention.unlink(session, referrals.runtime.vault, later, Term(730, 30))

    held = await end(), await note(referrals, referral_id)
    assert (await requisition(referrals, referral_id, handed_over_at=LATE, corrects_id=entry)).status_code == 201
    ended = await end(), await note(referrals, referral_id)

    assert (held, ended) == (((409, NOTE), (201, None)) if by_request else ((0, NOTE), (1, None)))


async def test_an_export_says_that_what_the_law_had_sent_may_be_left_whether_or_not_anything_was(referrals: Referrals) -> None:
    referral_id, [person] = await refused(referrals, [0])
    child = persons_with(referrals, agreement="refused", identity=MINOR)[0]
    unsent = await referrals.receive(persons=[child | {"identity": None}], **CALM)
    [nobody] = await referrals.persons(unsent)
    assert await run(referrals, datetime.now(UTC) + timedelta(hours=73)) == 1

    async def said(of: UUID, who: UUID) -> tuple[str, int]:
        answer = (await referrals.get("coordinator-95", f"/v1/referrals/{of}/persons/{who}/export", "persons_rights")).json()
        return answer["kept_because"], len(answer["erasures"])

    told = [await said(referral_id, person), await said(unsent, nobody)]
    assert (await ask(referrals, referral_id, [person])).status_code == 201
    after = await said(referral_id, person)
    async with referrals.runtime.database.transaction() as session:
        await retention.unlink(session, referrals.runtime.vault, datetime.now(UTC) + timedelta(days=1200), Term(730, 30))
    ended = await said(referral_id, person)

    assert told[0] == told[1] == after
    assert "a pu faire transmettre" in told[0][0]
    assert ended[0].endswith("il n'en reste que des codes et des dates, pour les statistiques.")

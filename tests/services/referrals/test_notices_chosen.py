"""What a recipient does not want to be told is not; what is urgent is, whatever was chosen. Ends of retention are told to who keeps the register."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from libs.contracts import demonstration as d
from services.referrals.app import end_retention
from services.referrals.notices import may_leave_out
from services.referrals.rights import retention
from tests.services.referrals.conftest import Referrals
from tests.services.referrals.test_notices import POST, Mailbox, box, hurry, prefer, referrals, send
from tests.services.referrals.test_rights import TERM, old

__all__ = ["box", "referrals"]
DEPARTEMENT = "departement:95"
CALM: dict[str, Any] = {"urgency": "standard", "danger": False}


async def test_what_was_left_out_is_not_told_but_what_is_urgent_is(referrals: Referrals, box: Mailbox) -> None:
    await prefer(referrals, "iscg-95", POST, "immediate", left_out=["new_referral"])

    await referrals.receive(**CALM)
    await send(referrals)
    assert box.taken == []
    urgent = await referrals.receive(**CALM | {"danger": True})
    await send(referrals)

    [mail] = box.taken
    assert str(urgent) in mail.get_content()


async def test_what_waits_for_a_digest_is_not_told_once_it_is_left_out_and_is_again_once_it_is_wanted(
    referrals: Referrals, box: Mailbox
) -> None:
    await prefer(referrals, "iscg-95", POST, "digest")
    await referrals.receive(**CALM)
    await prefer(referrals, "iscg-95", POST, "digest", version=1, left_out=["new_referral"])
    await prefer(referrals, "iscg-95", POST, "digest", version=2)
    wanted = await referrals.receive(**CALM)

    await hurry(referrals, "UPDATE notices SET due_at = now()")
    await send(referrals)

    [mail] = box.taken
    assert mail["Subject"] == "Maillon : Une nouvelle saisine est affectée à votre poste."
    assert str(wanted) in mail.get_content()


@pytest.mark.parametrize("kind", ["urgent_referral", "overdue_referral", "unrouted_referral", "ends_announced", "nothing"])
async def test_nothing_urgent_and_nothing_of_another_recipient_can_be_left_out(referrals: Referrals, kind: str) -> None:
    headers = referrals.token("iscg-95") | {"If-Match": '"0"'}
    body = {"address": "a@maillon.example", "mode": "immediate", "left_out": [kind]}

    answer = await referrals.client.put(f"/v1/notice-preferences/{POST}", json=body, headers=headers)

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"].startswith("/left_out")
    assert await referrals.rows("SELECT recipient FROM notice_preferences") == []


def test_each_kind_that_may_be_left_out_is_one_recipients() -> None:
    kinds = [kind for recipient in (POST, DEPARTEMENT, f"organization:{d.ASSOCIATION}") for kind in may_leave_out(recipient)]

    assert len(kinds) == len(set(kinds)) == 11


@pytest.mark.parametrize("mode", ["immediate", "digest"])
async def test_the_ends_that_one_look_announces_are_told_to_their_coordinator_once_and_with_nothing_but_a_link(
    referrals: Referrals, box: Mailbox, mode: str
) -> None:
    await prefer(referrals, "coordinator-95", DEPARTEMENT, mode)
    await prefer(referrals, "coordinator-78", "departement:78", "immediate")
    ids = [await old(referrals, 720) for _ in range(2)]
    await hurry(referrals, "DELETE FROM notices")

    for _ in range(3):
        await end_retention(referrals.runtime)
    await send(referrals)
    assert len(box.taken) == (1 if mode == "immediate" else 0)
    await hurry(referrals, "UPDATE notices SET due_at = now()")
    await send(referrals)

    [mail] = box.taken
    words = mail.as_string() + mail.get_content()
    assert "/v1/announced-ends" in mail.get_content()
    assert (
        mail["Subject"]
        == "Maillon : Des saisines closes arrivent à la fin de leur conservation : leurs données seront effacées au jour annoncé."
    )
    for personal in ("Camille", "Exemple", "95127", *map(str, ids)):
        assert personal not in words


async def test_an_end_that_is_announced_anew_after_a_reopening_is_told_anew(referrals: Referrals) -> None:
    await prefer(referrals, "coordinator-95", DEPARTEMENT, "immediate")
    referral_id = await old(referrals, 720)
    await end_retention(referrals.runtime)
    version = (await referrals.rows("SELECT version FROM referrals"))[0].version
    assert (await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/reopen", version=version)).status_code == 200
    assert (
        await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/close", {"reason": "completed"}, version=version + 1)
    ).status_code == 200
    await end_retention(referrals.runtime)
    assert await told(referrals) == 1, "a reopening is a contact: nothing ends soon"

    async with referrals.runtime.database.transaction() as session:
        await retention.announce(session, datetime.now(UTC) + timedelta(days=720), TERM)

    assert await told(referrals) == 2


async def test_an_announcement_that_is_rolled_back_is_not_told(referrals: Referrals) -> None:
    await prefer(referrals, "coordinator-95", DEPARTEMENT, "immediate")
    await old(referrals, 720)

    with pytest.raises(RuntimeError, match="rolled back"):
        async with referrals.runtime.database.transaction() as session:
            assert await retention.announce(session, datetime.now(UTC), TERM)
            raise RuntimeError("rolled back")

    assert await told(referrals) == 0


async def told(referrals: Referrals) -> int:
    return len(await referrals.rows("SELECT id FROM notices WHERE kind = 'ends_announced'"))

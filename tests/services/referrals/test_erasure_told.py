"""Erasures are told by mail: to every partner that was asked, that it erases too; to the coordinator, when somebody has not confirmed for long."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import text

from libs.contracts import demonstration as d
from services.referrals.app import tell_unconfirmed
from services.referrals.rights import acknowledgements
from tests.services.referrals.conftest import Referrals
from tests.services.referrals.test_links import link
from tests.services.referrals.test_notices import Mailbox, box, prefer, referrals, send
from tests.services.referrals.test_rights import ask

__all__ = ["box", "referrals"]
PARTNER, DEPARTEMENT = f"organization:{d.ASSOCIATION}", "departement:95"


async def ended(referrals: Referrals) -> tuple[UUID, str]:
    """A partner that answers by links was asked, and refused; gives the link it knows."""
    await prefer(referrals, "coordinator-95", PARTNER, "digest", by_link=True)
    referral_id = await referrals.accepted()
    asked = (await referrals.orient(referral_id)).json()["id"]
    _, path = await link(referrals, orientation=asked)
    assert (await referrals.answer("partner-95", asked, "reject", {"reason": "no_capacity"})).status_code == 200
    return referral_id, path


async def test_a_partner_that_answers_by_links_is_told_to_erase_its_copies_though_the_orientation_ended(
    referrals: Referrals,
    box: Mailbox,
) -> None:
    referral_id, path = await ended(referrals)
    [victim, other] = await referrals.persons(referral_id)
    await send(referrals)
    box.taken.clear()

    await ask(referrals, referral_id, [other])
    of_another = await referrals.rows("SELECT 1 FROM notices WHERE kind = 'orientation_erased'")
    answer = await ask(referrals, referral_id, [victim])
    async with referrals.runtime.database.transaction() as session:
        await session.execute(text("UPDATE notices SET due_at = now()"))
    await send(referrals)

    assert answer.status_code == 201, answer.text
    assert of_another == []
    told = [mail.get_content() for mail in box.taken if "effacez" in mail.get_content()]
    assert len(told) == 1
    assert path in told[0], "the link by which it knows which orientation is spoken of"
    for personal in ("Camille", "Exemple", "+3363998", "95127", str(victim), str(referral_id)):
        assert personal not in told[0]


@pytest.mark.parametrize("days", [13, 15])
async def test_the_coordinator_is_told_once_a_week_of_erasures_that_somebody_has_not_confirmed_for_long(
    referrals: Referrals,
    box: Mailbox,
    days: int,
) -> None:
    await prefer(referrals, "coordinator-95", DEPARTEMENT, "immediate")
    for _ in range(2):
        referral_id = await referrals.receive()
        assert (await ask(referrals, referral_id, await referrals.persons(referral_id))).status_code == 201
    async with referrals.runtime.database.transaction() as session:
        await session.execute(text(f"UPDATE erasures SET erased_at = now() - interval '{days} days'"))

    await tell_unconfirmed(referrals.runtime)
    await tell_unconfirmed(referrals.runtime)
    await send(referrals)

    told = [mail.get_content() for mail in box.taken if "effacement" in mail.get_content()]
    assert len(told) == (1 if days > 14 else 0)
    assert all("/erasures?waiting=true" in one and str(referral_id) not in one for one in told)
    async with referrals.runtime.database.transaction() as session:
        await session.execute(text("UPDATE erasures SET completed_at = now()"))
        await session.execute(text("DELETE FROM notices"))
    await tell_unconfirmed(referrals.runtime)
    assert await referrals.rows("SELECT 1 FROM notices") == []


async def test_who_is_still_waited_for_the_week_after_is_told_again(referrals: Referrals) -> None:
    await prefer(referrals, "coordinator-95", DEPARTEMENT, "immediate")
    referral_id = await referrals.receive()
    assert (await ask(referrals, referral_id, await referrals.persons(referral_id))).status_code == 201

    for day in (10, 15, 16, 22):
        async with referrals.runtime.database.transaction() as session:
            await acknowledgements.tell_unconfirmed(session, datetime.now(UTC) + timedelta(days=day), timedelta(days=14))

    assert len(await referrals.rows("SELECT 1 FROM notices WHERE kind = 'erasures_unconfirmed'")) == 2

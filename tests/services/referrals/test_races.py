"""Who comes second is told so: each family of commands, raced; each race is lost when the locks are taken away."""

from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from libs.contracts import demonstration as d
from services.referrals import housekeeping
from services.referrals.app import erase_refused, expire_orientations
from services.referrals.orientations import links
from tests.planted import seen_red
from tests.racing import Race, run, without_locks
from tests.services.referrals.conftest import Referrals
from tests.services.referrals.test_acknowledgements import confirm, erased
from tests.services.referrals.test_agreement import CALM
from tests.services.referrals.test_corrections import correct
from tests.services.referrals.test_followup import call, interview
from tests.services.referrals.test_justice import alert, requisition
from tests.services.referrals.test_links import fill, link
from tests.services.referrals.test_orientations import ask, execute

REJECT = {"reason": "no_capacity"}
HELD = ("referrals", "orientations")


async def _asked(referrals: Referrals) -> str:
    asked = await ask(referrals, await referrals.accepted(), d.VICTIM_SUPPORT_SERVICE)
    return str(asked.json()["id"])


async def answered_in_three_ways(referrals: Referrals) -> Race:
    asked = await _asked(referrals)
    accept, reject, cancel = (
        partial(referrals.answer, "partner-95", asked, "accept"),
        partial(referrals.answer, "partner-95", asked, "reject", REJECT),
        partial(referrals.answer, "iscg-95", asked, "cancel", {"reason": "mistake"}),
    )
    return Race(HELD, [accept, reject, cancel], {(1, (f"orientation.{one}",)) for one in ("accepted", "rejected", "cancelled")})


async def accepted_while_it_expires(referrals: Referrals) -> Race:
    asked = await _asked(referrals)
    await execute(referrals, "UPDATE orientations SET expires_at = now() - interval '1 hour'")
    accept, expire = partial(referrals.answer, "partner-95", asked, "accept"), partial(expire_orientations, referrals.runtime)
    return Race(HELD, [accept, expire], {(1, ("orientation.accepted",)), (0, ("orientation.expired",))})


async def accepted_while_the_person_is_erased(referrals: Referrals) -> Race:
    """The erasure withdraws the orientation; to accept it before, not after, is right."""
    referral_id = await referrals.accepted()
    asked = (await ask(referrals, referral_id, d.VICTIM_SUPPORT_SERVICE)).json()["id"]
    body = {"person_ids": (await referrals.persons(referral_id))[:1]}
    erase = partial(
        referrals.post, "coordinator-95", f"/v1/referrals/{referral_id}/erasures", body, version=await referrals.version(referral_id)
    )
    accept = partial(referrals.answer, "partner-95", asked, "accept")
    withdrawn = "orientation.cancelled", "referral.erased"
    return Race(HELD, [erase, accept], {(1, withdrawn), (2, ("orientation.accepted", *withdrawn))})


async def accepted_while_the_person_refuses(referrals: Referrals) -> Race:
    referral_id = await referrals.accepted()
    asked = (await ask(referrals, referral_id, d.VICTIM_SUPPORT_SERVICE)).json()["id"]
    [victim, _] = await referrals.persons(referral_id)
    refuse = partial(correct, referrals, referral_id, persons=[{"person_id": victim, "agreement": "refused"}])
    accept = partial(referrals.answer, "partner-95", asked, "accept")
    withdrawn = "referral.corrected", "orientation.cancelled"
    return Race(
        ("orientations",), [refuse, accept], {(1, withdrawn), (1, withdrawn[::-1]), (2, ("orientation.accepted", "referral.corrected"))}
    )


async def a_link_filled_in_twice(referrals: Referrals) -> Race:
    """Guarded twice: the orientation is locked, and the link is spent by a statement that looks whether it was."""
    _, path = await link(referrals)
    accept, reject = (
        partial(fill, referrals, path, answer="accept"),
        partial(fill, referrals, path, answer="reject", reject_reason="no_capacity"),
    )
    return Race(HELD, [accept, reject], {(1, ("orientation.accepted",)), (1, ("orientation.rejected",))})


async def a_link_filled_in_while_the_partner_answers_with_its_account(referrals: Referrals) -> Race:
    asked, path = await link(referrals)
    by_link, by_account = partial(fill, referrals, path, answer="accept"), partial(referrals.answer, "partner-95", asked, "reject", REJECT)
    return Race(HELD, [by_account, by_link], {(1, ("orientation.accepted",)), (1, ("orientation.rejected",))})


async def two_links_made_for_one_orientation(referrals: Referrals) -> Race:
    """Both are made, one after the other: the later one holds."""
    asked = await _asked(referrals)
    make = partial(referrals.post, "iscg-95", f"/v1/orientations/{asked}/links")
    one = "SELECT count(*) = 1 FROM orientation_links WHERE used_at IS NULL AND revoked_at IS NULL"
    return Race(HELD, [make, make], {(2, ())}, left=one)


async def one_person_oriented_twice_to_one_service(referrals: Referrals) -> Race:
    referral_id = await referrals.accepted()
    orient = partial(referrals.orient, referral_id)
    return Race(HELD, [orient, orient], {(1, ("orientation.requested",))})


async def a_requisition_corrected_twice(referrals: Referrals) -> Race:
    referral_id = await referrals.accepted()
    first = (await requisition(referrals, referral_id)).json()["id"]
    again = partial(requisition, referrals, referral_id, corrects_id=first)
    return Race(("referrals", "requisitions"), [again, again], {(1, ())})


async def an_alert_withdrawn_twice(referrals: Referrals) -> Race:
    referral_id = await referrals.accepted()
    noted = (await alert(referrals, referral_id, [])).json()["id"]
    withdraw = partial(referrals.post, "iscg-95", f"/v1/referrals/{referral_id}/alerts/{noted}/withdraw", {"reason": "noted_twice"})
    return Race(("referrals", "alerts"), [withdraw, withdraw], {(1, ("alert.withdrawn",))})


async def a_contact_withdrawn_twice(referrals: Referrals) -> Race:
    referral_id = await referrals.accepted()
    noted = (await call(referrals, referral_id)).json()["id"]
    withdraw = partial(referrals.post, "iscg-95", f"/v1/referrals/{referral_id}/contacts/{noted}/withdraw", {"reason": "noted_twice"})
    return Race(("referrals", "contact_attempts"), [withdraw, withdraw], {(1, ("contact.withdrawn",))})


async def an_interview_withdrawn_twice(referrals: Referrals) -> Race:
    referral_id = await referrals.accepted()
    await call(referrals, referral_id)
    held = (await interview(referrals, referral_id, (await referrals.persons(referral_id))[:1])).json()["id"]
    withdraw = partial(referrals.post, "iscg-95", f"/v1/referrals/{referral_id}/interviews/{held}/withdraw", {"reason": "noted_twice"})
    return Race(("referrals", "interviews"), [withdraw, withdraw], {(1, ("interview.withdrawn",))})


async def an_assessment_withdrawn_twice(referrals: Referrals) -> Race:
    referral_id = await referrals.accepted()
    await call(referrals, referral_id)
    needs = {"person_id": (await referrals.persons(referral_id))[0], "needs": ["rights"], "known_to_services": "known"}
    made = (await referrals.post("iscg-95", f"/v1/referrals/{referral_id}/assessments", needs)).json()["id"]
    withdraw = partial(referrals.post, "iscg-95", f"/v1/referrals/{referral_id}/assessments/{made}/withdraw", {"reason": "noted_twice"})
    return Race(("referrals", "assessments"), [withdraw, withdraw], {(1, ("assessment.withdrawn",))})


async def closed_while_the_contact_it_rests_on_is_withdrawn(referrals: Referrals) -> Race:
    referral_id = await referrals.accepted()
    noted = (await call(referrals, referral_id)).json()["id"]
    withdraw = partial(referrals.post, "iscg-95", f"/v1/referrals/{referral_id}/contacts/{noted}/withdraw", {"reason": "other_referral"})
    close = partial(referrals.move, "iscg-95", referral_id, "close", {"reason": "completed"})
    return Race(("referrals", "contact_attempts"), [withdraw, close], {(1, ("contact.withdrawn",)), (1, ("referral.closed",))})


async def erased_while_it_is_corrected(referrals: Referrals) -> Race:
    referral_id = await referrals.accepted()
    body = {"person_ids": (await referrals.persons(referral_id))[:1]}
    version = await referrals.version(referral_id)
    erase = partial(referrals.post, "coordinator-95", f"/v1/referrals/{referral_id}/erasures", body, version=version)
    right = partial(correct, referrals, referral_id, urgency="immediate")
    return Race(("referrals", "persons"), [erase, erase, right], {(1, ("referral.erased",)), (1, ("referral.corrected",))})


async def closed_while_it_is_corrected(referrals: Referrals) -> Race:
    referral_id = await referrals.accepted()
    close, right = (
        partial(referrals.move, "iscg-95", referral_id, "close", {"reason": "out_of_scope"}),
        partial(correct, referrals, referral_id, urgency="immediate"),
    )
    return Race(HELD, [close, close, right], {(1, ("referral.closed",)), (1, ("referral.corrected",))})


async def a_person_who_agrees_while_those_who_refused_are_erased(referrals: Referrals) -> Race:
    referral_id = await referrals.accepted(**CALM)
    [victim, _] = await referrals.persons(referral_id)
    await correct(referrals, referral_id, persons=[{"person_id": victim, "agreement": "refused"}])
    await execute(referrals, "UPDATE persons SET refused_at = now() - interval '1 year' WHERE agreement = 'refused'")
    await execute(referrals, "UPDATE corrections SET corrected_at = now() - interval '1 year'")
    agree = partial(correct, referrals, referral_id, persons=[{"person_id": victim, "agreement": "accepted"}])
    return Race(HELD, [agree, partial(erase_refused, referrals.runtime)], {(1, ("referral.corrected",))})


async def an_erasure_confirmed_twice(referrals: Referrals) -> Race:
    _, erasure_id = await erased(referrals)
    tell = partial(confirm, referrals, erasure_id)
    return Race(("erasure_notices",), [tell, tell], {(1, ())})


async def erased_again_twice_after_a_restore(referrals: Referrals) -> Race:
    referral_id = await referrals.accepted()
    persons = await referrals.persons(referral_id)

    async def again() -> None:
        await housekeeping.erase_again(referrals.runtime, [housekeeping.ErasedBefore(referral_id, persons[:1], narrative=False)])

    return Race(("referrals", "persons"), [again, again], {(0, ("referral.erased",))})


RACES: list[Callable[[Referrals], Awaitable[Race]]] = [
    answered_in_three_ways,
    accepted_while_it_expires,
    accepted_while_the_person_is_erased,
    accepted_while_the_person_refuses,
    a_link_filled_in_twice,
    a_link_filled_in_while_the_partner_answers_with_its_account,
    two_links_made_for_one_orientation,
    one_person_oriented_twice_to_one_service,
    a_requisition_corrected_twice,
    an_alert_withdrawn_twice,
    a_contact_withdrawn_twice,
    an_interview_withdrawn_twice,
    an_assessment_withdrawn_twice,
    closed_while_the_contact_it_rests_on_is_withdrawn,
    erased_while_it_is_corrected,
    closed_while_it_is_corrected,
    a_person_who_agrees_while_those_who_refused_are_erased,
    an_erasure_confirmed_twice,
    erased_again_twice_after_a_restore,
]
named = pytest.mark.parametrize("race", RACES, ids=[race.__name__ for race in RACES])
LOST_WITHOUT_LOCKS = [race for race in RACES if race is not closed_while_the_contact_it_rests_on_is_withdrawn]
"""Closing writes its move before it looks at what it rests on: that write waits for whoever has the referral, with a lock of its own or without."""


@named
async def test_who_comes_second_is_told_so(referrals: Referrals, race: Callable[[Referrals], Awaitable[Race]]) -> None:
    await run(referrals, await race(referrals))


async def _believed(*_: object) -> bool:
    return True


@pytest.mark.parametrize("race", LOST_WITHOUT_LOCKS, ids=[race.__name__ for race in LOST_WITHOUT_LOCKS])
async def test_planted_without_its_lock_a_race_is_seen(
    referrals: Referrals, race: Callable[[Referrals], Awaitable[Race]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = await race(referrals)
    without_locks(monkeypatch)
    monkeypatch.setattr(links, "use", _believed)

    await seen_red(run(referrals, ready), "the lock did not hold")

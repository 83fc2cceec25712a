"""Who comes second is told so: each family of commands of funding, raced; each race is lost when the locks are taken away."""

from collections.abc import Awaitable, Callable
from functools import partial
from uuid import uuid4

import pytest

from libs.contracts import demonstration as d
from services.funding import examples
from tests.planted import seen_red
from tests.racing import Race, Request, run, without_locks
from tests.services.funding.test_plans import DEPARTEMENT, PLAN, change
from tests.serving import Served

WHO = "coordinator-95"
HELD = ("plans", "contributions")


async def a_contribution_granted_while_it_is_refused(funded: Served) -> Race:
    grant, refuse = (partial(funded.post, WHO, f"{DEPARTEMENT}/moves", {"move": move}, version=3) for move in ("grant", "refuse"))
    return Race(HELD, [grant, grant, refuse], {(1, ("contribution.granted", "plan.gapped")), (1, ("contribution.refused", "plan.gapped"))})


async def a_budget_changed_while_an_amount_is(funded: Served) -> Race:
    budget = partial(change, funded, "PUT", f"{PLAN}/budget", {"budget": examples.SEED_BUDGET | {"travel_cents": 300_000}}, version=3)
    amount = partial(change, funded, "PATCH", DEPARTEMENT, {"amount_cents": 1_000_000}, version=3)
    return Race(HELD, [budget, amount], {(1, ("plan.gapped",))})


async def two_contributions_written_at_once(funded: Served) -> Race:
    """Neither names a version: both are written, and each makes a version of its own."""
    return Race(HELD, await _two_contributions(funded, 100_000), {(2, ("plan.gapped",) * 2)}, left="SELECT version = 5 FROM plans")


async def _two_contributions(funded: Served, amount: int) -> list[Request]:
    funders = d.FUNDER_COMMUNE, await _another_funder(funded)
    return [partial(funded.post, WHO, f"{PLAN}/contributions", {"funder_id": one, "amount_cents": amount}) for one in funders]


async def _another_funder(funded: Served) -> str:
    answer = await funded.post(WHO, "/v1/funders", {"kind": "family_fund", "name": "CAF fictive", "departement": "95"})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


RACES: list[Callable[[Served], Awaitable[Race]]] = [
    a_contribution_granted_while_it_is_refused,
    a_budget_changed_while_an_amount_is,
    two_contributions_written_at_once,
]
named = pytest.mark.parametrize("race", RACES, ids=[race.__name__ for race in RACES])


@named
async def test_who_comes_second_is_told_so(funded: Served, race: Callable[[Served], Awaitable[Race]]) -> None:
    await run(funded, await race(funded))


@named
async def test_planted_without_its_lock_a_race_is_seen(
    funded: Served, race: Callable[[Served], Awaitable[Race]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = await race(funded)
    without_locks(monkeypatch)

    await seen_red(run(funded, ready), "the lock did not hold")


async def test_two_contributions_that_fit_into_the_budget_alone_but_not_together_are_not_both_written(funded: Served) -> None:
    """Ten thousand euros are missing. Without the lock too: the plan's new version is written before its balance is looked at."""
    await run(funded, Race(HELD, await _two_contributions(funded, 800_000), {(1, ("plan.gapped",))}))


async def test_one_plan_and_one_agreement_opened_three_times_at_once_are_one(funded: Served) -> None:
    """No row is there to be locked: the unique key decides, and the same content is answered the same."""
    plan = examples.SEED_PLAN | {"id": uuid4(), "post_id": d.POST_SARCELLES}
    agreement = {
        "id": uuid4(), "departement": "95", "post_ids": [d.POST_CERGY], "starts_on": "2026-01-01", "ends_on": "2026-12-31",
        "channels": ["officer"], "targets": [{"urgency": "priority", "minutes": 2880}],
    }  # fmt: skip
    for address, body, said in (("/v1/plans", plan, "plan.gapped"), ("/v1/agreements", agreement, "agreement.signed")):
        await run(funded, Race(["funders"], [partial(funded.post, WHO, address, body)] * 3, {(3, (said,))}))

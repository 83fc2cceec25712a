"""One referral through the four rooms: received, routed, accepted, oriented, closed, counted in a figure, set against the post's funding."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from libs.contracts import demonstration as d
from services.funding.examples import SEED_CONTRIBUTIONS, SEED_FUNDERS, SEED_PLAN
from tests.journeys.house import House, house
from tests.journeys.territory import register_territory
from tests.services.referrals.conftest import CONTENT, REFERRAL_BODY
from tests.waiting import until

pytestmark = pytest.mark.kafka


@pytest.fixture
async def all_four(database_url: Callable[[str | None], str], bootstrap_servers: str, on_kafka: bool) -> AsyncIterator[House]:
    async with house(database_url, bootstrap_servers, on_kafka) as made:
        await register_territory(made["partners"])
        await until(lambda: _heard(made, "referrals"))
        await until(lambda: _heard(made, "funding"))
        yield made


async def _heard(up: House, listener: str) -> bool:
    [head] = await up["partners"].rows("SELECT sequence FROM streams WHERE stream = 'internal'")
    rows = await up[listener].rows("SELECT sequence FROM cursors WHERE source = 'partners'")
    return bool(rows) and rows[0].sequence == head.sequence


async def figure(up: House, measure: str, **query: Any) -> int:
    """The total of a measure in the Val-d'Oise, as the coordinator reads it."""
    answer = await up["reporting"].get("coordinator-95", "/v1/figures", measure=measure, departement="95", **query)
    assert answer.status_code == 200, answer.text
    return answer.json()["total"]["value"] or 0


async def test_a_referral_crosses_the_house_and_is_counted(all_four: House) -> None:
    referrals, partner = all_four["referrals"], "partner-95"
    received = await referrals.post("police-95", "/v1/referrals", REFERRAL_BODY)
    assert received.json()["status"] == "assigned"
    referral = f"/v1/referrals/{received.json()['id']}"
    opened = (await referrals.get("iscg-95", referral, CONTENT)).json()
    victim = opened["people"][0]["id"]

    assert (await referrals.post("iscg-95", f"{referral}/accept", version=1)).status_code == 200
    call = {"person_id": victim, "mode": "phone", "result": "reached", "attempted_at": "2026-11-23T10:00:00+01:00"}  # a safe hour
    assert (await referrals.post("iscg-95", f"{referral}/contacts", call)).status_code == 201
    body = {"person_id": victim, "service_id": d.VICTIM_SUPPORT_SERVICE, "need": "victim_support"}
    asked = (await referrals.post("iscg-95", f"{referral}/orientations", body)).json()
    orientation = f"/v1/orientations/{asked['id']}"
    assert (await referrals.post(partner, f"{orientation}/accept", version=1)).status_code == 200
    version = (await referrals.get("iscg-95", referral, CONTENT)).json()["version"]
    assert (await referrals.post("iscg-95", f"{referral}/close", {"reason": "oriented"}, version=version)).status_code == 200

    await _fund(all_four)

    await until(lambda: _counted(all_four))
    assert await figure(all_four, "persons") == 2
    answers = await until(lambda: _answers(all_four))
    assert answers["accepted"] == 1


async def _fund(up: House) -> None:
    """The post's plan for the year: 60,000 euros, of which 10,000 are missing."""
    funding = up["funding"]
    for body in SEED_FUNDERS:
        if body["departement"] == "95":
            assert (await funding.post("administrator", "/v1/funders", body)).status_code == 201
    assert (await funding.post("coordinator-95", "/v1/plans", SEED_PLAN)).status_code == 201
    for body in SEED_CONTRIBUTIONS:
        answer = await funding.post("coordinator-95", f"/v1/plans/{d.PLAN}/contributions", body)
        assert answer.status_code == 201, answer.text


async def _counted(up: House) -> bool:
    return await figure(up, "situations") == 1 and await figure(up, "orientations") == 1 and await figure(up, "gap") == 1_000_000


async def _answers(up: House) -> Any:
    found = (await up["partners"].get("coordinator-95", f"/v1/services/{d.VICTIM_SUPPORT_SERVICE}")).json()["answers"]
    return found if found and found["accepted"] else None

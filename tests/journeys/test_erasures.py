"""An erasure is acknowledged by who acted on it, not by who only received it. Runs on Apache Kafka too."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from services.referrals.app import look_at_erasures
from services.reporting import facts
from tests.journeys.house import House, house
from tests.services.referrals.conftest import CONTENT, REFERRAL_BODY
from tests.waiting import until

pytestmark = pytest.mark.kafka


@pytest.fixture
async def two(database_url: Callable[[str | None], str], bootstrap_servers: str, on_kafka: bool) -> AsyncIterator[House]:
    async with house(database_url, bootstrap_servers, on_kafka, "referrals", "reporting") as made:
        yield made


async def test_a_service_that_parked_an_erasure_has_not_acknowledged_it_until_it_was_replayed(
    two: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget = facts.forget_persons

    async def refuse(session: AsyncSession, erased: Mapping[UUID, Collection[UUID]]) -> None:
        raise ValueError("planted")

    monkeypatch.setattr(facts, "forget_persons", refuse)
    referral_id = await _received(two, "first")
    erasure_id = await _erase(two, referral_id)
    [letter] = await until(lambda: _parked(two))
    later = await _received(two, "second")
    await until(lambda: _went_on(two, later))

    waiting = await _waiting(two, erasure_id)
    monkeypatch.setattr(facts, "forget_persons", forget)
    replayed = await two["reporting"].post("administrator", f"/v1/dead-letters/{letter['id']}/replay")

    assert "reporting" in waiting
    assert replayed.status_code == 200, replayed.text
    await until(lambda: _acted(two, erasure_id))


async def _received(up: House, reference: str) -> str:
    answer = await up["referrals"].post("police-95", "/v1/referrals", REFERRAL_BODY | {"external_reference": reference})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def _erase(up: House, referral_id: str) -> str:
    seen = (await up["referrals"].get("coordinator-95", f"/v1/referrals/{referral_id}", CONTENT)).json()
    body = {"person_ids": [one["id"] for one in seen["people"]]}
    answer = await up["referrals"].post("coordinator-95", f"/v1/referrals/{referral_id}/erasures", body, version=seen["version"])
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def _parked(up: House) -> Any:
    return (await up["reporting"].get("administrator", "/v1/dead-letters")).json()["items"]


async def _went_on(up: House, referral_id: str) -> bool:
    """Reporting has counted a later referral, heard everything, and said how far it has acted."""
    counted = await up["reporting"].rows(f"SELECT received_on FROM situations WHERE referral_id = '{referral_id}'")
    [cursor] = await up["reporting"].rows("SELECT sequence FROM cursors WHERE source = 'referrals'")
    [head] = await up["referrals"].rows("SELECT sequence FROM streams WHERE stream = 'internal'")
    said = await up["referrals"].rows("SELECT 1 FROM stream_readers WHERE client_id = 'reporting' AND acknowledged_at IS NOT NULL")
    return bool(counted) and cursor.sequence == head.sequence and bool(said)


async def _waiting(up: House, erasure_id: str) -> list[str]:
    await look_at_erasures(up["referrals"].runtime)
    found = (await up["referrals"].get("coordinator-95", f"/v1/erasures/{erasure_id}")).json()
    [internal] = [one for one in found["notices"] if one["stream"] == "internal"]
    waiting: list[str] = internal["waiting_for"]
    return waiting


async def _acted(up: House, erasure_id: str) -> bool:
    return "reporting" not in await _waiting(up, erasure_id)

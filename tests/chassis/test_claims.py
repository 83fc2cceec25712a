"""Who holds another history of a stream than we do: a service of ours stops us, anybody else is looked into."""

from collections.abc import AsyncIterator, Callable

import pytest
from structlog.testing import capture_logs

from libs.chassis import streams, streams_api
from libs.chassis.telemetry import REGISTRY
from tests.chassis.serving import Served, served
from tests.chassis.speaking import fact, say, stamp_all
from tests.planted import seen_red

FEED = "/v1/streams/{}/events"
COUNTED = "maillon_stream_claims_refused_total"


@pytest.fixture
async def partners(database_url: Callable[[str | None], str]) -> AsyncIterator[Served]:
    async with served(database_url("partners")) as made:
        await say(made.speaker, fact(), fact())
        await stamp_all(made.speaker)
        yield made


def counted(kind: str) -> float:
    return REGISTRY.get_sample_value(COUNTED, {"service": "partners", "kind": kind}) or 0.0


async def diverged(partners: Served) -> dict[str, str]:
    return await partners.runtime.diverged()


@pytest.mark.parametrize("claim", [{"after": 9, "epoch": 1}, {"after": 2, "epoch": 1, "digest": "ab" * 32}, {"after": 2, "epoch": 2}])
async def test_an_integrator_who_holds_another_history_stops_nothing_and_the_operator_is_told_indeed(
    partners: Served, claim: dict[str, str | int]
) -> None:
    before = counted("departement")

    with capture_logs() as logs:
        answer = await partners.get("coordinator-95", FEED.format("departement:95"), **claim)

    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (409, "stream-diverged")
    assert "l'exploitant est prévenu" in answer.json()["detail"]
    told = next((one for one in logs if one["event"] == "stream.claim_refused"), None)
    assert told is not None, "nobody was told"
    assert (told["log_level"], told["stream"], told["client"]) == ("warning", "departement:95", "coordinator-95")
    assert str(claim["epoch"]) in told["reason"]
    assert counted("departement") == before + 1
    assert await diverged(partners) == {}


async def test_a_service_of_ours_that_holds_another_history_stops_it(partners: Served) -> None:
    before = counted("internal")

    answer = await partners.get("referrals", FEED.format("internal"), after=9, epoch=1)

    assert answer.status_code == 409
    assert list(await diverged(partners)) == ["internal"]
    assert counted("internal") == before


async def test_what_is_too_old_or_was_replaced_tells_nobody(partners: Served) -> None:
    async with partners.runtime.database.transaction() as session:
        await streams.new_epoch(session, "a test")

    with capture_logs() as logs:
        replaced = await partners.get("coordinator-95", FEED.format("departement:95"), after=9, epoch=1)

    assert replaced.json()["type"].rpartition("/")[2] == "epoch-ended"
    assert [one for one in logs if one["event"] == "stream.claim_refused"] == []


async def test_planted_an_operator_who_is_told_by_word_only_is_seen(partners: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was: the answer said so, and nothing else happened."""
    monkeypatch.setattr(streams_api, "_tell_operator", lambda *_: None)

    await seen_red(
        test_an_integrator_who_holds_another_history_stops_nothing_and_the_operator_is_told_indeed(partners, {"after": 9, "epoch": 1}),
        "nobody was told",
    )

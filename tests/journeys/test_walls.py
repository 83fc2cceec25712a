"""Every route of every service against the table role × operation × perimeter. What others add later is walked too, without a line here."""

import base64
import json
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from joserfc import jwt

from libs.chassis import security, streams_api
from libs.chassis.access import Rule
from libs.chassis.refusals import NotFound
from libs.chassis.security import Principal
from libs.contracts.vocabularies import Role
from services.referrals.models import Referral
from services.referrals.rights import acknowledgements
from services.referrals.working import work
from tests.journeys.house import SERVICES
from tests.journeys.walls import World, hint, settle, unreachable, walk_of_lists, walk_of_perimeters, walk_of_roles, world
from tests.serving import app_of

DatabaseUrl = Callable[[str | None], str]


@pytest.fixture
async def empty(database_url: DatabaseUrl) -> AsyncIterator[World]:
    async with world(database_url) as made:
        yield made


@pytest.fixture
async def reporting(database_url: DatabaseUrl) -> AsyncIterator[World]:
    """The smallest service alone, to plant faults in."""
    async with world(database_url, "reporting") as made:
        yield made


@pytest.fixture
async def funding(database_url: DatabaseUrl) -> AsyncIterator[World]:
    async with world(database_url, "funding") as made:
        await settle(made)
        yield made


@pytest.fixture
async def referrals(database_url: DatabaseUrl) -> AsyncIterator[World]:
    async with world(database_url, "referrals") as made:
        await settle(made)
        yield made


@pytest.fixture
async def settled(empty: World) -> World:
    await settle(empty)
    return empty


# Who may call at all


async def test_every_route_believes_no_forged_token_and_no_wrong_role(empty: World) -> None:
    walked = {name: await walk_of_roles(name, up) for name, up in empty.services.items()}

    assert [finding for _, findings in walked.values() for finding in findings] == []
    assert all(calls > 200 for calls, _ in walked.values())


async def _found(made: World, name: str = "reporting") -> str:
    return "\n".join((await walk_of_roles(name, made[name]))[1])


async def test_planted_a_route_beside_the_guard_is_found(reporting: World) -> None:
    async def back_door() -> dict[str, str]:
        return {}

    app_of(reporting["reporting"].client).add_api_route("/v1/back-door", back_door, operation_id="back_door", include_in_schema=False)

    assert await _found(reporting) == "reporting GET /v1/back-door is in no access table"


async def test_planted_a_table_that_nobody_looks_at_is_found(reporting: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rule, "allows", lambda self, caller: True)

    found = await _found(reporting)

    assert "reporting GET /v1/indicators answers 200 to: wrong role police" in found


async def test_planted_claims_that_nobody_checks_are_found(reporting: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting["reporting"].runtime.tokens._claims, "validate", lambda claims: None)

    found = await _found(reporting)

    for case in ("expired", "not valid yet", "another issuer's name", "another audience"):
        assert f"to: {case} (" in found
    assert "unsigned" not in found


async def test_planted_a_signature_that_nobody_checks_is_found(reporting: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def believe(token: str, key: Any, algorithms: Any) -> Any:
        return jwt.Token({}, json.loads(_payload(token)))

    monkeypatch.setattr(security, "_algorithms_of", lambda key: ("ES256", "none", "HS256"))
    monkeypatch.setattr(jwt, "decode", believe)

    found = await _found(reporting)

    for case in (
        "another key of the same name",
        "unsigned, with something that looks like a signature",
        "a role of its own making",
        "HMAC under the public key (PEM)",
    ):
        assert f"to: {case} (" in found


def _payload(token: str) -> bytes:
    return base64.urlsafe_b64decode(token.split(".")[1] + "==")


async def test_planted_a_door_that_is_locked_for_all_is_found(reporting: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rule, "allows", lambda self, caller: False)

    assert "to the right role" in await _found(reporting)


# Whose object it is


async def test_what_is_another_perimeters_cannot_be_told_from_what_does_not_exist(settled: World) -> None:
    compared, findings = await walk_of_perimeters(settled)
    listed, shown = await walk_of_lists(settled)

    assert findings + shown == []
    assert compared > 80
    assert listed > 40
    assert await unreachable(settled) == []  # each of these objects does answer somebody


async def test_planted_a_perimeter_that_nobody_checks_is_found(funding: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Principal, "departements", lambda self: None)
    monkeypatch.setattr(Principal, "covers_departement", lambda self, code: True)

    _, findings = await walk_of_perimeters(funding)
    _, shown = await walk_of_lists(funding)

    assert "funding GET /v1/plans/{plan_id}: funder of another département is answered 200" in findings
    assert any(finding.startswith("funding GET /v1/plans shows") for finding in shown)


async def test_planted_a_social_worker_who_sees_the_whole_departement_is_found(referrals: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def whole_departement(caller: Principal, referral: Referral) -> bool:
        return caller.covers_departement(referral.departement)

    kept = work.may_see
    for module in list(sys.modules.values()):
        if getattr(module, "may_see", None) is kept:
            monkeypatch.setattr(module, "may_see", whole_departement)

    _, findings = await walk_of_perimeters(referrals, only=Role.ISCG)

    assert "referrals GET /v1/referrals/{referral_id}: iscg of the same département is answered 200" in findings
    assert not [finding for finding in findings if "another département" in finding]


async def test_planted_streams_that_everybody_reads_are_found(reporting: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams_api, "_readable", lambda caller, stream: stream)

    _, findings = await walk_of_perimeters(reporting)

    for what in ("", "/digests/{sequence}", "/events"):
        assert f"reporting GET /v1/streams/{{stream}}{what}: coordinator of another département is answered 200" in findings


async def test_planted_erasures_that_every_coordinator_sees_are_found(referrals: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acknowledgements, "_sees", lambda caller, erasure: True)

    _, findings = await walk_of_perimeters(referrals)

    seen = {finding.partition(": coordinator of another département is answered")[0] for finding in findings}
    assert seen == {
        "referrals GET /v1/erasures/{erasure_id}",
        "referrals POST /v1/erasures/{erasure_id}/confirmations",
        "referrals GET /desk/erasures/{erasure_id}",
        "referrals POST /desk/erasures/{erasure_id}",
    }


async def test_planted_a_route_for_which_nothing_was_settled_is_found(referrals: World) -> None:
    del referrals.ids["referrals"]["erasure_id"]

    assert "referrals GET /v1/erasures/{erasure_id} has no object here" in await unreachable(referrals)


async def test_planted_a_403_for_what_is_anothers_is_found(funding: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NotFound, "status", 403)

    _, findings = await walk_of_perimeters(funding)

    assert any("is answered 403 about the object" in finding for finding in findings)


def _problem(status: int, **more: str) -> httpx.Response:
    return httpx.Response(status, json={"type": "not-found", "instance": "one", **more})


@pytest.mark.parametrize(
    ("real", "found"),
    [
        (_problem(404), False),
        (_problem(404, detail="Cette saisine est celle d'un autre département."), True),
        (_problem(403), True),
        (_problem(409), True),
        (_problem(412), True),
        (_problem(200), True),
        (httpx.Response(404, json={"type": "not-found"}, headers={"ETag": '"4"'}), True),
    ],
)
def test_a_hint_is_any_difference(real: httpx.Response, found: bool) -> None:
    assert (hint(real, _problem(404)) is not None) is found


def test_all_services_are_walked() -> None:
    assert set(SERVICES) == {"referrals", "partners", "funding", "reporting"}

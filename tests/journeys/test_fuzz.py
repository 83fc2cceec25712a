"""The same fuzz where something exists: a referral, its orientation, a plan… whose ids and versions are right, so that strange bodies come as far as the commands.

CI has a section for it (MAILLON_FUZZ_EXAMPLES, MAILLON_FUZZ_SEED: see tests/hostile/test_schema_fuzz.py).
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import httpx
import pytest

from libs.chassis import etag
from libs.chassis.app import create_app
from libs.chassis.security import IssuerKeys
from libs.contracts import demonstration as d
from libs.embedded.issuer import Issuer
from libs.embedded.issuer import create_app as create_issuer
from tests.hostile.schema_fuzz import Outcome, fuzz, listening
from tests.journeys.house import SERVICES
from tests.journeys.walls import World, settle, world
from tests.services.referrals.conftest import CONTENT
from tests.settings import NOWHERE, settings_for

EXAMPLES = int(os.environ.get("MAILLON_FUZZ_EXAMPLES", "0"))
SEED = int(os.environ.get("MAILLON_FUZZ_SEED", "20261125"))

pytestmark = pytest.mark.skipif(not EXAMPLES, reason="CI's section of all operations in all phases")

NOTHING_THERE = {
    "/v1/dead-letters/": "nothing is parked",
}
"""Paths whose object does not exist here, with the reason."""
GIVEN_BACK = "/v1/referrals/{referral_id}/decline"
"""Once chance found it, the referral would be nobody's, and all the rest of it unseen. It is fuzzed with odd versions."""
_THE_DOOR = frozenset({400, 404, 405, 422})


@pytest.fixture
async def settled(database_url: Callable[[str | None], str]) -> AsyncIterator[World]:
    async with world(database_url) as made:
        await settle(made)
        yield made


@pytest.fixture
def _any_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions move with every success: here each is believed."""
    compare = etag.match
    for module in list(sys.modules.values()):
        if getattr(module, "match", None) is compare:
            monkeypatch.setattr(module, "match", lambda current, expected: None)


class Everywhere:
    """A social worker of every post of the département: chance gives the referral from one to the other."""

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer

    def issue(self, who: str) -> str:
        posts = [f"post:{post.id}" for post in d.POSTS if post.departement == "95"]
        claims: dict[str, Any] = {"perimeter": [*posts, "departement:95"]} if who == "iscg-95" else {}
        return self._issuer.issue(who, **claims)


@contextmanager
def _served(settled: World, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The service's address, and its document."""
    service, up = SERVICES[name], settled.services[name]
    app = create_app(service, settings_for(name, service.settings, database_url=up.runtime.settings.database_url), roles=("api",))
    issuer = create_issuer(up.issuer)
    app.state.runtime.tokens.keys = IssuerKeys(f"{NOWHERE}/jwks", httpx.AsyncClient(transport=httpx.ASGITransport(issuer)))
    with listening(app) as url:
        yield url, app.openapi()


async def _fuzzed(settled: World, name: str, phases: Sequence[str], given: Mapping[str, str], only: str = "", besides: str = "") -> Outcome:
    """`only`: the addresses where one method at least has this header. `besides`: an address that is left out."""
    with _served(settled, name) as (url, document):
        document = document | {"paths": {path: methods for path, methods in document["paths"].items() if path != besides}}
        if only:
            kept = {path for path, methods in document["paths"].items() if f"'{only}'" in str(methods)}
            document = document | {"paths": {path: methods for path, methods in document["paths"].items() if path in kept}}
        issuer = cast(Issuer, Everywhere(settled.services[name].issuer))
        return await asyncio.to_thread(
            fuzz,
            url,
            document,
            issuer,
            examples=max(EXAMPLES, 5),
            seed=SEED,
            phases=phases,
            given=given,
            first=("coordinator-95", "iscg-95"),
        )


def _ids(settled: World, name: str) -> dict[str, str]:
    ids = settled.ids[name] | {"name": "themes", "recipient": "departement:95"}
    return {f"path.{parameter}": value for parameter, value in ids.items()}


AGAIN = f"again: MAILLON_FUZZ_SEED={SEED} MAILLON_FUZZ_EXAMPLES={EXAMPLES}"


@pytest.mark.usefixtures("_any_version")
async def test_whatever_is_sent_about_what_exists_gets_an_answer_that_the_document_promises(settled: World) -> None:
    blind: set[str] = set()
    for name in settled.services:
        given = _ids(settled, name) | {"header.If-Match": '"1"', "header.X-Purpose": CONTENT}
        outcome = await _fuzzed(settled, name, ("examples", "fuzzing"), given, besides=GIVEN_BACK)
        assert outcome.failures == {}, AGAIN
        # of those that name an object in their address: what a body names is drawn by chance
        named = {label: answered for label, answered in outcome.operations.items() if "{" in label}
        blind |= {f"{name} {label}" for label, answered in named.items() if answered <= _THE_DOOR and 404 in answered}

    assert {one for one in blind if not any(path in one for path in NOTHING_THERE)} == set()


async def test_whatever_version_is_named_of_what_exists_gets_an_answer_that_the_document_promises(settled: World) -> None:
    for name in ("referrals", "partners", "funding"):
        given = _ids(settled, name) | {"header.X-Purpose": CONTENT}
        outcome = await _fuzzed(settled, name, ("coverage", "fuzzing"), given, only="If-Match")
        assert outcome.failures == {}, AGAIN
        assert outcome.answers[412] > 0

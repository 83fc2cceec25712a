"""The referrals service with the demonstration territory heard: units, posts and services of the Val-d'Oise and the Yvelines."""

import json
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from io import StringIO
from typing import Any
from uuid import UUID

import httpx
import pytest
import structlog

from libs.chassis.database import migrate
from libs.chassis.settings import secret_bytes
from libs.contracts import demonstration as d
from libs.contracts.partners import PostOpened, ServiceRegistered, UnitRegistered
from libs.contracts.vocabularies import UnitKind
from libs.embedded.postgres import Postgres
from services.referrals.api import REFERRAL_EXAMPLE
from services.referrals.app import SERVICE
from services.referrals.delays.due import Delays
from services.referrals.receiving.intake import Intakes
from services.referrals.receiving.schemas import ReferralIn
from services.referrals.receiving.sealing import Intake, sealed
from services.referrals.rights import erasure
from tests.serving import Served, served

MORNING = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
CONTENT = "follow_up"
REFERRAL_BODY: dict[str, Any] = json.loads(json.dumps(REFERRAL_EXAMPLE, default=str))


@dataclass
class Referrals(Served):
    """`body()` is a referral as the police posts it; `receive()` posts one and gives its id."""

    numbers: int = 0
    usual: dict[str, Any] = field(default_factory=dict)
    """What is otherwise than in the example (there, somebody is in danger) unless a test says it."""

    def body(self, **changes: Any) -> dict[str, Any]:
        self.numbers += 1
        body: dict[str, Any] = json.loads(json.dumps(REFERRAL_EXAMPLE, default=str))
        return body | {"external_reference": f"test-{self.numbers}"} | self.usual | changes

    async def receive(self, who: str = "police-95", **changes: Any) -> UUID:
        answer = await self.post(who, "/v1/referrals", self.body(**changes))
        assert answer.status_code == 201, answer.text
        return UUID(answer.json()["id"])

    async def read_as(self, who: str, referral_id: UUID) -> dict[str, Any]:
        answer = await self.get(who, f"/v1/referrals/{referral_id}", CONTENT)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def version(self, referral_id: UUID) -> int:
        [row] = await self.rows(f"SELECT version FROM referrals WHERE id = '{referral_id}'")
        return int(row.version)

    async def move(self, who: str, referral_id: UUID, move: str, body: Any = None) -> httpx.Response:
        return await self.post(who, f"/v1/referrals/{referral_id}/{move}", body, version=await self.version(referral_id))

    async def accepted(self, **changes: Any) -> UUID:
        referral_id = await self.receive(**changes)
        assert (await self.move("iscg-95", referral_id, "accept")).status_code == 200
        return referral_id

    async def persons(self, referral_id: UUID) -> list[UUID]:
        return [row.id for row in await self.rows(f"SELECT id FROM persons WHERE referral_id = '{referral_id}' ORDER BY position")]

    async def orient(self, referral_id: UUID, service_id: UUID = d.VICTIM_SUPPORT_SERVICE, need: str = "victim_support") -> httpx.Response:
        [person, *_] = await self.persons(referral_id)
        body = {"person_id": person, "service_id": service_id, "need": need}
        return await self.post("iscg-95", f"/v1/referrals/{referral_id}/orientations", body)

    async def answer(self, who: str, orientation_id: str, move: str, body: Any = None, version: int = 1) -> httpx.Response:
        return await self.post(who, f"/v1/orientations/{orientation_id}/{move}", body, version=version)

    def intakes(self) -> Intakes:
        return Intakes(self.runtime.vault, self.runtime.signer, Delays.of(self.runtime))

    def intake(self, body: dict[str, Any], **chosen: Any) -> Intake:
        request = ReferralIn.model_validate_json(json.dumps(body))
        return sealed(self.runtime.vault, secret_bytes(self.runtime.settings.search_key), "police-95", request, bytes(32), **chosen)

    async def receive_demonstration(self) -> None:
        """The referral that the OpenAPI examples speak of."""
        intake = self.intake(self.body(), referral_id=d.REFERRAL, person_ids=(d.VICTIM, d.ALLEGED_PERPETRATOR))
        async with self.runtime.database.transaction() as session:
            await self.intakes().receive(session, [intake], datetime(2026, 11, 23, 8, 0, tzinfo=UTC))


@pytest.fixture(scope="session")
async def informed(postgres: Postgres, templates: dict[str, str]) -> str:
    """The kind of database in which the territory was heard: to hear it is half of what a test would take."""
    kind = "informed_referrals"
    postgres.create_database(kind)
    await migrate(postgres.url(kind), SERVICE.name)
    async with served(SERVICE, postgres.url(kind)) as up:
        await up.hear("partners", *territory())
    templates[kind] = kind
    return kind


@pytest.fixture
async def referrals(database_url: Callable[[str | None], str], informed: str) -> AsyncIterator[Referrals]:
    async with served(SERVICE, database_url(informed)) as up:
        yield Referrals(up.client, up.runtime, up.issuer, up.openapi, heard=len(territory()))


@pytest.fixture
def calm(referrals: Referrals) -> None:
    """Nobody is in danger unless a test says it: an urgency alone says when a referral is due."""
    referrals.usual["danger"] = False


def territory() -> list[Any]:
    """The demonstration territory as the partners service says it."""
    units = [
        UnitRegistered(
            departement=unit.departement,
            unit_id=unit.id,
            force=unit.force,
            kind=UnitKind.OTHER,
            communes=(unit.commune,),
            registered_at=MORNING,
        )
        for unit in d.UNITS
    ]
    posts = [
        PostOpened(
            departement=post.departement,
            post_id=post.id,
            employer_id=post.employer_id,
            force=post.force,
            full_time_percent=post.full_time_percent,
            channels=post.channels,
            units=post.units,
            communes=post.communes,
            filled=True,
            opened_on=date(2026, 1, 1),
            opened_at=MORNING,
        )
        for post in d.POSTS
    ]
    services = [
        ServiceRegistered(
            departement=service.departement,
            service_id=service.id,
            organization_id=service.organization_id,
            kind=service.kind,
            needs=service.needs,
            communes=service.communes,
            capacity=service.capacity,
            registered_at=MORNING,
        )
        for service in d.SERVICES
    ]
    return [*units, *posts, *services]


@pytest.fixture
def erasures_logged(monkeypatch: pytest.MonkeyPatch) -> StringIO:
    """The lines about erasures that the service logs, as it writes them: whoever made the first application of the process has its output for all others."""
    log = StringIO()
    lines = structlog.wrap_logger(
        structlog.PrintLogger(log),
        processors=[structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    )
    monkeypatch.setattr(erasure, "_log", lines)
    return log

"""A small fictitious service to try the HTTP house rules on, and a token issuer beside it. Only libs.chassis: no domain noun."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any
from uuid import UUID, uuid4

import httpx
from fastapi import APIRouter, FastAPI, Query, Response
from joserfc import jwt
from joserfc.jwk import ECKey, Key
from pydantic import Field
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis.access import AccessTable, Rule
from libs.chassis.app import create_app
from libs.chassis.docs import Example, examples
from libs.chassis.etag import IfMatch, etag, match
from libs.chassis.idempotency import Once
from libs.chassis.pagination import Page, page_of
from libs.chassis.problems import problems
from libs.chassis.refusals import NotFound, Refusal
from libs.chassis.runtime import Db
from libs.chassis.security import Caller, Purpose
from libs.chassis.serve import documentary_settings
from libs.chassis.service import Service
from libs.chassis.settings import Settings
from libs.chassis.strict import Answer, Body, QueryBool, line, prose
from libs.contracts.types import Day, Id, Instant
from libs.contracts.vocabularies import Channel, Role

ISSUER = "http://issuer.test"
MARKER = "Zébulon-Marqueur"
"""Stands for a personal value in everything that is submitted."""


class ThingSettings(Settings):
    service = "partners"


class PartIn(Body):
    label: Annotated[str, line(20)]
    count: Annotated[int, Field(ge=0, le=1000)]


class ThingIn(Body):
    name: Annotated[str, line(40)]
    story: Annotated[str, prose(200)] | None = None
    channel: Channel | None = None
    seen_at: Instant | None = None
    seen_on: Day | None = None
    parent: Id | None = None
    known: bool | None = None
    parts: Annotated[list[PartIn], Field(default_factory=list, max_length=5)]


class ThingOut(Answer):
    id: UUID
    name: str
    version: int


class ThingsOut(Answer):
    items: list[ThingOut]
    next: str | None


class Taken(Refusal):
    type = "thing-taken"
    title = "Nom déjà pris"


router = APIRouter()


@router.post(
    "/v1/things",
    operation_id="make_thing",
    status_code=201,
    response_model=ThingOut,
    responses=problems(409),
    openapi_extra=examples(
        Example("police-95", 201, {"name": "Premier"}),
        Example("police-95", 409, {"name": "Premier"}, "The same name again"),
        Example("police-95", 422, {"name": ""}),
    ),
)
async def make_thing(body: ThingIn, caller: Caller, once: Once) -> Response:
    async def command(session: AsyncSession) -> ThingOut:
        made = await session.scalar(
            text("INSERT INTO things (id, name) VALUES (:id, :name) ON CONFLICT DO NOTHING RETURNING id"),
            {"id": uuid4(), "name": body.name},
        )
        if made is None:
            raise Taken("Un objet porte déjà ce nom.", pointers=[("/name", "Ce nom est pris.")])
        return ThingOut(id=made, name=body.name, version=1)

    return await once(command, status=201, location="/v1/things/{id}")


@router.post("/v1/echo", operation_id="echo", response_model=ThingOut, max_body_size=4096)
async def echo(body: ThingIn, caller: Caller) -> ThingOut:
    return ThingOut(id=UUID(int=0), name=body.name, version=len(body.parts))


@router.get(
    "/v1/things/{thing_id}",
    operation_id="read_thing",
    response_model=ThingOut,
    openapi_extra=examples(Example("iscg-95", 404, path={"thing_id": UUID(int=5)})),
)
async def read_thing(thing_id: Id, caller: Caller, purpose: Purpose, database: Db, response: Response) -> ThingOut:
    async with database.transaction() as session:
        row = (await session.execute(text("SELECT id, name, version FROM things WHERE id = :id"), {"id": thing_id})).one_or_none()
    if row is None:
        raise NotFound
    etag(response, row.version)
    return ThingOut(id=row.id, name=row.name, version=row.version)


class Rename(Body):
    name: Annotated[str, line(40)]


@router.patch("/v1/things/{thing_id}", operation_id="rename_thing", response_model=ThingOut)
async def rename_thing(thing_id: Id, body: Rename, caller: Caller, expected: IfMatch, database: Db, response: Response) -> ThingOut:
    async with database.transaction() as session:
        current = await session.scalar(text("SELECT version FROM things WHERE id = :id FOR UPDATE"), {"id": thing_id})
        if current is None:
            raise NotFound
        match(current, expected)
        await session.execute(
            text("UPDATE things SET name = :name, version = version + 1 WHERE id = :id"), {"name": body.name, "id": thing_id}
        )
    etag(response, current + 1)
    return ThingOut(id=thing_id, name=body.name, version=current + 1)


@router.get("/v1/things", operation_id="list_things", response_model=ThingsOut)
async def list_things(
    page: Page,
    caller: Caller,
    response: Response,
    database: Db,
    tag: Annotated[list[str] | None, Query(max_length=3)] = None,
    closed: Annotated[QueryBool, Query()] = False,
) -> ThingsOut:
    async with database.transaction() as session:
        rows = (
            await session.execute(
                text("SELECT id, name, version FROM things WHERE CAST(:after AS text) IS NULL OR name > :after ORDER BY name LIMIT :limit"),
                {"after": None if page.after is None else page.after[0], "limit": page.limit + 1},
            )
        ).all()
    shown, following = page_of(rows, page, lambda row: (row.name, row.id))
    page.link(response, following)
    return ThingsOut(items=[ThingOut(id=row.id, name=row.name, version=row.version) for row in shown], next=following)


@router.get("/v1/broken", operation_id="break_down", response_model=ThingOut)
async def break_down(caller: Caller) -> ThingOut:
    raise RuntimeError(f"{MARKER} lives at 12 rue Fictive")


POLICE = Rule(roles={Role.POLICE}, within={"departement"})
ACCESS = AccessTable(
    {
        "make_thing": POLICE,
        "echo": POLICE,
        "read_thing": Rule(roles={Role.ISCG}, purpose=True),
        "rename_thing": Rule(roles={Role.POLICE}),
        "list_things": Rule(roles={Role.POLICE, Role.ISCG}),
        "break_down": Rule(roles={Role.POLICE}),
    }
)


def service(routers: Sequence[APIRouter] = (router,), access: AccessTable = ACCESS) -> Service:
    return Service(name="partners", title="Essai <du socle>", settings=ThingSettings, routers=routers, access=access, says=())


class Issuer:
    """Signs tokens, and publishes its keys; counts how often it was asked for them."""

    def __init__(self) -> None:
        self.keys: list[Key] = [ECKey.generate_key("P-256", {"kid": "first"})]
        self.asked = 0
        self.down = False
        self.extra: list[dict[str, Any]] = []

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(self._answer))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        if self.down:
            raise httpx.ConnectError("down")
        return httpx.Response(200, json={"keys": [*self.extra, *(key.as_dict(private=False) for key in self.keys)]})

    def claims(self, **changed: Any) -> dict[str, Any]:
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": "maillon",
            "sub": "police-95",
            "client_id": "police-95",
            "role": "police",
            "perimeter": ["departement:95"],
            "scope": "maillon",
            "iat": now,
            "exp": now + 600,
            "jti": str(uuid4()),
        }
        return {name: value for name, value in {**claims, **changed}.items() if value is not None}

    def token(self, *, key: Key | None = None, header: dict[str, Any] | None = None, **changed: Any) -> str:
        key = key or self.keys[-1]
        algorithm = {"EC": "ES256", "RSA": "RS256", "OKP": "Ed25519"}.get(key.key_type, "HS256")
        given = {"alg": algorithm, "kid": key.kid, "typ": "at+jwt", **(header or {})}
        full = {name: value for name, value in given.items() if value is not None}
        return jwt.encode(full, self.claims(**changed), key, algorithms=[full["alg"]], default_type=None)

    def headers(self, **changed: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(**changed)}"}


def app_of(issuer: Issuer, *, database_url: str | None = None, of: Service | None = None, **settings: Any) -> FastAPI:
    """The application, with its keys taken from the issuer above."""
    if database_url is not None:
        settings["database_url"] = database_url
    chosen = documentary_settings(ThingSettings, token_issuer=ISSUER, token_jwks_url=f"{ISSUER}/jwks", **settings)
    app = create_app(of or service(), chosen, roles=("api",))
    app.state.runtime.tokens.keys._client = issuer.client()
    return app


@asynccontextmanager
async def calling(app: FastAPI, headers: dict[str, str] | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application whose lifespan runs meanwhile."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://maillon.test", headers=headers, timeout=30) as client,
    ):
        yield client

"""The walls between callers, tried on every route that there is: who may call at all, and whose objects answer.

Nothing here names a route: the routes come from the applications, the rules from the access tables, the bodies from the OpenAPI examples.
"""

import base64
import hmac
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple, cast

import httpx
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fastapi.routing import APIRoute
from joserfc import jwt
from joserfc.jwk import ECKey
from sqlalchemy import text

from libs.chassis import audit_api, dead_letters_api, operations_api, streams_api, subscriptions_api
from libs.chassis.access import EVERY_ROLE, AccessTable, Rule
from libs.contracts import demonstration as d
from libs.contracts.partners import PostOpened
from libs.contracts.vocabularies import Role
from libs.embedded.issuer import Issuer
from services.funding.examples import SEED_CONTRIBUTIONS, SEED_FUNDERS, SEED_PLAN
from services.referrals.desk.provider import Provider, Tokens
from services.referrals.desk.sessions import Sessions
from tests.documents import JSON, shown
from tests.journeys.house import SERVICES
from tests.journeys.territory import register_territory
from tests.services.referrals.conftest import CONTENT, REFERRAL_BODY, territory
from tests.services.referrals.desk.conftest import furnish
from tests.services.referrals.desk.conftest import settings as desk_settings
from tests.services.referrals.test_justice import REQUISITION
from tests.serving import Served, app_of, served
from tests.settings import NOWHERE

INSIDERS: dict[Role, str] = {
    Role.POLICE: "police-95",
    Role.ISCG: "iscg-95",
    Role.COORDINATOR: "coordinator-95",
    Role.PARTNER: "partner-95",
    Role.EMPLOYER: "employer-95",
    Role.FUNDER: "funder-95",
    Role.MINISTRY: "interior",
    Role.ADMINISTRATOR: "administrator",
    Role.AUDITOR: "auditor",
    Role.SERVICE: "reporting",
}
"""A client of each role, with the Val-d'Oise or the nation for its perimeter."""


class Outsider(NamedTuple):
    """A caller whose role may call, and whose perimeter holds nothing of what there is: a client, and how its token differs from that client's."""

    of: str
    client_id: str
    claims: dict[str, Any]

    def token(self, issuer: Issuer) -> str:
        return issuer.issue(self.client_id, **self.claims)


_YVELINES = "another département"
_BESIDE = "the same département"
OUTSIDERS: dict[Role, tuple[Outsider, ...]] = {
    Role.POLICE: (
        Outsider(_YVELINES, "police-78", {}),
        Outsider(_BESIDE, "police-95", {"client_id": "police-95-beside", "sub": "police-95-beside"}),
    ),
    Role.ISCG: (Outsider(_YVELINES, "iscg-78", {}), Outsider(_BESIDE, "iscg-95", {"perimeter": [f"post:{d.POST_78}", "departement:95"]})),
    Role.COORDINATOR: (Outsider(_YVELINES, "coordinator-78", {}),),
    Role.PARTNER: (Outsider(_YVELINES, "partner-78", {}), Outsider(_BESIDE, "partner-95", {"organization": str(d.SHELTER)})),
    Role.EMPLOYER: (Outsider(_YVELINES, "employer-95", {"organization": str(d.EMPLOYER_78)}),),
    Role.FUNDER: (Outsider(_YVELINES, "funder-95", {"perimeter": ["departement:78"]}),),
}
"""In the Yvelines, and in the Val-d'Oise itself: another police system, post, organization. The other roles are national: nothing lies outside their perimeter."""

OPEN: dict[str, frozenset[Role]] = {
    "read_organization": EVERY_ROLE,
    "read_service": EVERY_ROLE,
    "read_unit": EVERY_ROLE,
    "read_commune": EVERY_ROLE,
    "read_post": EVERY_ROLE,
    "read_funder": frozenset({Role.EMPLOYER}),
    "list_funders": frozenset({Role.EMPLOYER}),
}
"""Read beyond the perimeter on purpose: the directory is one for the nation, whoever orients a person looks for help where that person lives; a funder is
an institution, and an employer has no département. By name: a row that names every role says who may ask, not that everything is everybody's."""

NOBODY = "00000000-0000-4000-8000-00000000dead"
"""The id of nothing."""

NOTHING = {
    "stream": "departement:2B",
    "sequence": "0",
    "move": "contact",
    "step": "cancel",
    "recipient": f"post:{NOBODY}",
    "kind": "post",
    "name": NOBODY,
}
"""Path parameters that are no ids, of nothing that there is; the others are `NOBODY`."""


class Route(NamedTuple):
    """A route of a service and its row of the access table, `None` when it has none."""

    service: str
    method: str
    path: str
    operation: str
    rule: Rule | None

    @property
    def parameters(self) -> list[str]:
        return [part[1:-1].partition(":")[0] for part in self.path.split("/") if part.startswith("{")]

    def __str__(self) -> str:
        return f"{self.service} {self.method} {self.path}"


def table_of(name: str, up: Served) -> AccessTable:
    """All rows of a service: its own and the chassis'."""
    chassis = operations_api.access(up.runtime.settings)
    return chassis | streams_api.ACCESS | dead_letters_api.ACCESS | audit_api.ACCESS | subscriptions_api.ACCESS | SERVICES[name].access


def routes_of(name: str, up: Served) -> list[Route]:
    """Every method of every route the application answers, those outside the OpenAPI document included."""
    table = table_of(name, up)
    found: list[Route] = []
    for route in app_of(up.client).routes:
        operation = (route.operation_id if isinstance(route, APIRoute) else None) or ""
        path: str = getattr(route, "path_format", "") or getattr(route, "path", repr(route))
        methods = sorted(getattr(route, "methods", None) or {"GET"})
        found += [Route(name, method, path, operation, table.get(operation)) for method in methods]
    return found


# Tokens


def _b64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def bad_tokens(issuer: Issuer, who: str) -> dict[str, str | None]:
    """What must never be believed, made from a client that may call: case → token."""
    good = issuer.issue(who)
    header, payload, signature = good.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    published = issuer.jwks()["keys"][0]
    kid = published["kid"]
    pem = ECKey.import_key(published).public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    stranger = ECKey.generate_key("P-256", {"kid": kid})
    return {
        "no token": None,
        "expired": issuer.issue(who, lifetime=-3600),
        "not valid yet": issuer.issue(who, nbf=32503680000),
        "another issuer's name": issuer.issue(who, iss="https://ailleurs.invalid"),
        "another issuer's key": Issuer(NOWHERE).issue(who),
        "another key of the same name": jwt.encode({"alg": "ES256", "typ": "at+jwt", "kid": kid}, claims, stranger, algorithms=["ES256"]),
        "another audience": issuer.issue(who, aud="ailleurs"),
        "unsigned": f"{_b64(json.dumps({'alg': 'none', 'typ': 'at+jwt', 'kid': kid}).encode())}.{payload}.",
        "unsigned, with something that looks like a signature": f"{_b64(json.dumps({'alg': 'none', 'typ': 'at+jwt', 'kid': kid}).encode())}.{payload}.AAAA",
        "signature cut off": f"{header}.{payload}.",
        "a role of its own making": f"{header}.{_b64(json.dumps(claims | {'role': 'administrator'}).encode())}.{signature}",
        "HMAC under the public key (PEM)": _confused(pem, kid, payload),
        "HMAC under the public key (JWK)": _confused(json.dumps(published).encode(), kid, payload),
    }


def _confused(secret: bytes, kid: str, payload: str) -> str:
    """By hand: joserfc refuses to sign with a public key."""
    signed = f"{_b64(json.dumps({'alg': 'HS256', 'typ': 'at+jwt', 'kid': kid}).encode())}.{payload}"
    return f"{signed}.{_b64(hmac.digest(secret, signed.encode(), 'sha256'))}"


# The first wall: may this caller call at all


async def walk_of_roles(name: str, up: Served) -> tuple[int, list[str]]:
    """Calls every route with every token. Gives how many calls were made, and what was found wrong."""
    calls, findings = 0, []
    issuer = up.issuer
    forged = {role: bad_tokens(issuer, who) for role, who in INSIDERS.items()}
    tokens = {role: issuer.issue(who) for role, who in INSIDERS.items()}
    nowhere = {role: issuer.issue(who, perimeter=[], organization=None) for role, who in INSIDERS.items()}
    for route in routes_of(name, up):
        rule = route.rule
        if rule is None:
            findings.append(f"{route} is in no access table")
            continue
        if rule.public:
            if route.path.startswith("/v1/") and route.operation in SERVICES[name].access:
                findings.append(f"{route} is open to everybody")
            continue
        address = _filled(route, {})
        asked: list[tuple[str, str | None, set[int]]] = []
        if rule.page:
            found = await walk_of_page(up, route, rule, forged[min(rule.roles)], tokens)
            calls, findings = calls + found[0], findings + found[1]
            continue
        first = min(rule.roles)
        asked += [(f"{case} ({first.value})", token, {401}) for case, token in forged[first].items()]
        asked += [(f"wrong role {role.value}", tokens[role], {403}) for role in Role if role not in rule.roles]
        if rule.within:
            asked += [(f"no perimeter {role.value}", nowhere[role], {403}) for role in rule.roles]
        for case, token, expected in asked:
            calls += 1
            answer = await up.client.request(route.method, address, headers=_bearer(token))
            if answer.status_code not in expected:
                findings.append(f"{route} answers {answer.status_code} to: {case}")
            elif answer.status_code == 401 and not answer.headers.get("www-authenticate", "").startswith("Bearer"):
                findings.append(f"{route} does not say how to authenticate to: {case}")
        for role in rule.roles:
            calls += 1
            answer = await up.client.request(route.method, address, headers=_bearer(tokens[role]))
            if answer.status_code in (401, 403) or answer.status_code >= 500:
                findings.append(f"{route} answers {answer.status_code} to the right role {role.value}")
    return calls, findings


async def walk_of_page(
    up: Served, route: Route, rule: Rule, forged: Mapping[str, str | None], tokens: Mapping[Role, str]
) -> tuple[int, list[str]]:
    """The same for a page: a session holds the token. A stranger is sent to sign in, or told to; who signed in without the right is told no."""
    findings = []
    for case, token in forged.items():
        answer = await call_page(up, route, token, {})
        sent_away = answer.status_code == 303 and answer.headers["location"].startswith("/desk/sign-in")
        if not (sent_away or (route.method == "POST" and answer.status_code == 401)):
            findings.append(f"{route} answers {answer.status_code} to: {case}")
    for role in Role:
        answer = await call_page(up, route, tokens[role], {})
        if (answer.status_code == 403) is (role in rule.roles) or answer.status_code in (401, 500) or answer.status_code > 500:
            findings.append(f"{route} answers {answer.status_code} to the role {role.value}")
    return len(forged) + len(Role), findings


async def call_page(up: Served, route: Route, token: str | None, ids: Mapping[str, str]) -> httpx.Response:
    """As a browser does whose session holds this token."""
    sessions = Sessions.of(up.runtime)
    headers: dict[str, str] = {}
    form: dict[str, str] = {}
    if token is not None:
        async with up.runtime.database.transaction() as session:
            secret = await sessions.make(session, Tokens(access_token=token, id_token="", refresh_token=None, name=""), datetime.now(UTC))
            await session.execute(text("UPDATE desk_sessions SET purpose = 'follow_up' WHERE purpose IS NULL"))
        headers["Cookie"] = f"{sessions.cookie}={secret}"
        form |= {"csrf": sessions.csrf_of(secret), "version": "1", "key": secret[:20]}
    if route.method != "POST":
        return await up.client.request(route.method, _filled(route, ids), headers=headers)
    origin = cast(Provider, app_of(up.client).state.desk_provider).origin
    return await up.client.request(route.method, _filled(route, ids), data=form, headers=headers | {"Origin": origin})


def _bearer(token: str | None) -> dict[str, str]:
    return {} if token is None else {"Authorization": f"Bearer {token}"}


# The second wall: whose object is it


@dataclass
class World:
    """Services, each with what happens in the Val-d'Oise. `ids`: path parameter → an object of that département."""

    services: dict[str, Served]
    ids: dict[str, dict[str, str]]

    def __getitem__(self, name: str) -> Served:
        return self.services[name]


@asynccontextmanager
async def world(database_url: Callable[[str | None], str], *names: str) -> AsyncIterator[World]:
    """The named services, or all of them; nothing has happened yet."""
    async with AsyncExitStack() as stack:
        chosen = names or tuple(SERVICES)
        # a walk is refused more often in a minute than any honest address
        services = {
            name: await stack.enter_async_context(
                served(
                    SERVICES[name],
                    database_url(name),
                    rate_limit_refusals=1_000_000,
                    **(desk_settings() if name == "referrals" else {}),
                )
            )
            for name in chosen
        }
        if "referrals" in services:
            furnish(services["referrals"])
        yield World(services, {name: {"stream": "departement:95", "sequence": "0"} for name in chosen})


async def settle(made: World) -> None:
    """A referral with an orientation, another whose persons were erased, a plan with contributions and an agreement, a subscription in each service."""
    steps = {"partners": _settle_partners, "referrals": _settle_referrals, "funding": _settle_funding}
    for name in steps.keys() & made.services.keys():
        await steps[name](made[name], made.ids[name])
    for name, up in made.services.items():
        body = {"stream": "departement:95", "url": "https://recepteur.example/maillon"}
        made.ids[name]["subscription_id"] = await _made(up, "coordinator-95", "/v1/subscriptions", body)


async def _settle_partners(up: Served, ids: dict[str, str]) -> None:
    await register_territory(up)
    ids |= {
        "organization_id": str(d.ASSOCIATION),
        "service_id": str(d.VICTIM_SUPPORT_SERVICE),
        "unit_id": str(d.UNIT_CERGY),
        "post_id": str(d.POST_CERGY),
        "code": d.COMMUNE_CERGY,
    }


async def _settle_referrals(up: Served, ids: dict[str, str]) -> None:
    await up.hear("partners", *territory())
    ids["referral_id"] = await _made(up, "police-95", "/v1/referrals", REFERRAL_BODY)
    address = f"/v1/referrals/{ids['referral_id']}"
    ids |= {
        "move": NOTHING["move"],
        "step": NOTHING["step"],
        "recipient": f"post:{d.POST_CERGY}",
        "kind": "post",
        "name": str(d.POST_CERGY),
    }
    assert (await up.post("iscg-95", f"{address}/accept", version=1)).status_code == 200
    seen = (await up.get("iscg-95", address, CONTENT)).json()
    ids["person_id"] = seen["people"][0]["id"]
    asked = {"person_id": ids["person_id"], "service_id": d.VICTIM_SUPPORT_SERVICE, "need": "victim_support"}
    ids["orientation_id"] = await _made(up, "iscg-95", f"{address}/orientations", asked)
    call = {"person_id": ids["person_id"], "mode": "phone", "result": "reached", "attempted_at": "2026-11-24T10:30:00Z"}
    ids["contact_id"] = await _made(up, "iscg-95", f"{address}/contacts", call)
    held = {"person_ids": [ids["person_id"]], "place": "station", "duration_minutes": 20, "held_at": "2026-11-24T11:30:00Z"}
    ids["interview_id"] = await _made(up, "iscg-95", f"{address}/interviews", held)
    needs = {"person_id": ids["person_id"], "needs": ["rights"], "known_to_services": "known"}
    ids["assessment_id"] = await _made(up, "iscg-95", f"{address}/assessments", needs)
    sent = {"kind": "prosecutor_report", "court": d.COMMUNE_CERGY, "person_ids": [ids["person_id"]], "sent_at": "2026-11-24T16:30:00Z"}
    ids["alert_id"] = await _made(up, "iscg-95", f"{address}/alerts", sent)
    ids["requisition_id"] = await _made(up, "coordinator-95", f"{address}/requisitions", REQUISITION)
    ids["erasure_id"] = await _erased(up)


async def _erased(up: Served) -> str:
    """Of a referral of its own, whose organization is asked to confirm it."""
    referral_id = await _made(up, "police-95", "/v1/referrals", REFERRAL_BODY | {"external_reference": "erased"})
    address = f"/v1/referrals/{referral_id}"
    assert (await up.post("iscg-95", f"{address}/accept", version=1)).status_code == 200
    person_id = (await up.get("iscg-95", address, CONTENT)).json()["people"][0]["id"]
    asked = {"person_id": person_id, "service_id": d.VICTIM_SUPPORT_SERVICE, "need": "victim_support"}
    await _made(up, "iscg-95", f"{address}/orientations", asked)
    version = (await up.get("coordinator-95", address, CONTENT)).json()["version"]
    answer = await up.post("coordinator-95", f"{address}/erasures", {"person_ids": [person_id]}, version=version)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def _settle_funding(up: Served, ids: dict[str, str]) -> None:
    await up.hear("partners", *(event for event in territory() if isinstance(event, PostOpened)))
    for funder in SEED_FUNDERS:
        await _made(up, "administrator", "/v1/funders", funder)
    ids["funder_id"] = str(d.FUNDER_STATE)
    ids["plan_id"] = await _made(up, "coordinator-95", "/v1/plans", SEED_PLAN)
    for contribution in SEED_CONTRIBUTIONS:
        await _made(up, "coordinator-95", f"/v1/plans/{d.PLAN}/contributions", contribution)
    ids["contribution_id"] = str(d.CONTRIBUTION_STATE)
    [signing] = [one.example for one in shown(up.openapi()) if one.operation == "sign_agreement"][:1]
    ids["agreement_id"] = await _made(up, signing["x-token"], "/v1/agreements", signing["value"])


async def _made(up: Served, who: str, address: str, body: Any) -> str:
    answer = await up.post(who, address, body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def _filled(route: Route, ids: Mapping[str, str]) -> str:
    address = route.path
    for part in route.path.split("/"):
        if part.startswith("{"):
            address = address.replace(part, ids.get(part[1:-1].partition(":")[0], NOBODY))
    return address


class Request(NamedTuple):
    """What an operation needs to come as far as its object."""

    body: Any = None
    purpose: str = CONTENT


def _requests_of(up: Served) -> dict[str, Request]:
    """Operation → a request that works, from its examples."""
    found = {"acknowledge_stream": Request({"epoch": 1, "sequence": 0})}
    for one in shown(up.openapi()):
        if one.media == JSON and one.example["x-status"] < 300:
            purpose = one.example.get("x-headers", {}).get("X-Purpose", CONTENT)
            found.setdefault(one.operation, Request(one.example.get("value"), purpose))
    return found


async def call(up: Served, route: Route, token: str, ids: Mapping[str, str], request: Request, key: str) -> httpx.Response:
    if route.rule is not None and route.rule.page:
        return await call_page(up, route, token, ids)
    headers = _bearer(token) | {"Idempotency-Key": key, "If-Match": '"999"', "X-Purpose": request.purpose}
    if request.body is None:
        return await up.client.request(route.method, _filled(route, ids), headers=headers)
    headers["Content-Type"] = "application/json"
    return await up.client.request(route.method, _filled(route, ids), content=json.dumps(request.body), headers=headers)


def _of_objects(routes: list[Route]) -> Iterator[tuple[Route, Rule]]:
    """Those that name an object."""
    for route in routes:
        rule = route.rule
        if rule is not None and not rule.public and route.parameters:
            yield route, rule


def outsiders_of(route: Route, rule: Rule) -> Iterator[tuple[Role, Outsider]]:
    for role in sorted((rule.roles & OUTSIDERS.keys()) - OPEN.get(route.operation, frozenset())):
        for outsider in OUTSIDERS[role]:
            yield role, outsider


async def walk_of_perimeters(made: World, only: Role | None = None) -> tuple[int, list[str]]:
    """Whoever is outside cannot tell an object from nothing. Gives how many pairs of answers were compared, and what was found wrong.

    `only`: the reading of one role, for a planted fault that shows there.
    """
    compared, findings = 0, []
    for name, up in made.services.items():
        requests = _requests_of(up)
        for route, rule in _of_objects(routes_of(name, up)):
            for role, outsider in outsiders_of(route, rule):
                if only is not None and (role is not only or route.method != "GET"):
                    continue
                token = outsider.token(up.issuer)
                request = requests.get(route.operation, Request())
                compared += 1
                key = f"{name}-{route.operation}-{compared}"
                real = await call(up, route, token, made.ids[name], request, f"{key}-real")
                absent = await call(up, route, token, NOTHING, request, f"{key}-absent")
                if fault := hint(real, absent):
                    findings.append(f"{route}: {role.value} of {outsider.of} {fault}")
    return compared, findings


def hint(real: httpx.Response, absent: httpx.Response) -> str | None:
    """How an answer about an object of another perimeter differs from the answer about nothing; None when both are 404 in the same words."""
    if real.status_code < 300:
        return f"is answered {real.status_code}"
    if real.status_code == 404 and _told(real) == _told(absent):
        return None
    return f"is answered {real.status_code} about the object, {absent.status_code} about nothing"


_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def _told(answer: httpx.Response) -> tuple[int, Any, set[str]]:
    """A page names its own address: the id that was asked for stands in it."""
    if answer.headers.get("content-type", "").startswith("text/html"):
        return answer.status_code, _ID.sub("id", answer.text), set(answer.headers)
    problem = answer.json()
    return answer.status_code, {name: value for name, value in problem.items() if name != "instance"}, set(answer.headers)


async def walk_of_lists(made: World) -> tuple[int, list[str]]:
    """No list shows whoever is outside an id of the Val-d'Oise that stands for a situation, its money or a subscription."""
    listed, findings = 0, []
    for name, up in made.services.items():
        # `name` is a post's: of the directory, as all ids of partners
        mine = {value for part, value in made.ids[name].items() if len(value) == 36 and part != "name"} if name != "partners" else set()
        mine |= {made.ids[name]["subscription_id"]}
        for route in routes_of(name, up):
            rule = route.rule
            if rule is None or rule.public or route.parameters or route.method != "GET":
                continue
            for role, outsider in outsiders_of(route, rule):
                answer = await call(up, route, outsider.token(up.issuer), {}, Request(), "unused")
                listed += 1
                if any(one in answer.text for one in mine):
                    findings.append(f"{route} shows {role.value} of {outsider.of} what is another perimeter's")
    return listed, findings


async def unreachable(made: World) -> list[str]:
    """The control: routes whose object nobody at all is answered about, or which nothing was settled for, so that a 404 there proves nothing."""
    found = []
    for name, up in made.services.items():
        requests = _requests_of(up)
        routes = [one for one in _of_objects(routes_of(name, up)) if any(outsiders_of(*one))]
        for route, rule in sorted(routes, key=lambda one: one[0].method == "DELETE"):
            if not made.ids[name].keys() >= set(route.parameters):
                found.append(f"{route} has no object here")
                continue
            answers = [
                (
                    await call(
                        up,
                        route,
                        up.issuer.issue(INSIDERS[role]),
                        made.ids[name],
                        requests.get(route.operation, Request()),
                        f"{route.operation}-{role}",
                    )
                )
                for role in sorted(rule.roles)
            ]
            if all(answer.status_code == 404 for answer in answers):
                found.append(str(route))
    return found

"""The OpenAPI document as this house writes it, and Swagger UI out of a wheel: no CDN, so that it works on a closed network.

A route's request examples name the demonstration client to call with and the status to expect; a test posts each (tests/chassis/openapi_examples.py):

    @router.post("/v1/units", …, openapi_extra=examples(Example("administrator", 201, {"name": "Commissariat fictif", …})))
"""

import copy
import html
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import swagger_ui_bundle
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic_core import to_jsonable_python
from starlette.responses import FileResponse, HTMLResponse, Response

from libs.chassis.access import AccessTable, Rule
from libs.chassis.etag import expected_version
from libs.chassis.idempotency import KEY_PATTERN, once_of
from libs.chassis.problems import Problem, problems
from libs.chassis.refusals import NotFound
from libs.contracts.vocabularies import Purpose

Schema = dict[str, Any]

API_VERSION = "1.0.0"


@dataclass(frozen=True)
class Example:
    """A request that works as it stands. `client`: a client id of the embedded issuer, "" for a public route; `status`: the documented answer.

    `path`, `query` and `headers` fill in what the route needs; `Idempotency-Key` and `X-Purpose` are given by who sends it.
    """

    client: str
    status: int
    body: Any = None
    summary: str = ""
    path: Mapping[str, Any] = field(default_factory=dict)
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def document(self) -> Schema:
        said: Schema = {
            "summary": self.summary or f"{self.client or 'public'}: {self.status}",
            "x-token": self.client,
            "x-status": self.status,
        }
        given = {"value": self.body, "x-path": self.path, "x-query": self.query, "x-headers": self.headers}
        return said | {name: to_jsonable_python(value) for name, value in given.items() if value is not None and value != {}}


def examples(*given: Example) -> Schema:
    """The `openapi_extra` of a route."""
    documents = {f"example-{number}": one.document() for number, one in enumerate(given, 1)}
    if any(one.body is not None for one in given):
        return {"requestBody": {"content": {"application/json": {"examples": documents}}}}
    return {"x-examples": documents}


_IDEMPOTENCY_KEY: Schema = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "description": "Une clé neuve par demande, la même quand la demande est répétée : la réponse est alors rejouée (`Idempotency-Replayed: true`).",
    "schema": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": KEY_PATTERN},
}
_IF_MATCH: Schema = {
    "name": "If-Match",
    "in": "header",
    "required": True,
    "description": "La version lue (l'ETag de l'objet), entre guillemets.",
    "schema": {"type": "string", "pattern": '^"(0|[1-9][0-9]{0,17})"$', "example": '"1"'},
}
_X_PURPOSE: Schema = {
    "name": "X-Purpose",
    "in": "header",
    "required": True,
    "description": "Pourquoi le contenu est lu ; inscrit au journal. " + " ; ".join(f"`{one.value}` : {one.label}" for one in Purpose),
    "schema": {"type": "string", "enum": [one.value for one in Purpose]},
}

_RATE_HEADERS: Schema = {
    "Retry-After": {"description": "Dans combien de secondes reprendre.", "schema": {"type": "integer", "minimum": 1}},
    "RateLimit-Policy": {
        "description": "La règle : `q` demandes par fenêtre de `w` secondes. Va aussi avec les autres réponses.",
        "schema": {"type": "string", "example": '"client";q=120000;w=60'},
    },
    "RateLimit": {
        "description": "Il reste `r` demandes, la fenêtre finit dans `t` secondes. Va aussi avec les autres réponses.",
        "schema": {"type": "string", "example": '"client";r=0;t=42'},
    },
}


def depends_on(dependant: Dependant, call: Callable[..., Any]) -> bool:
    return any(one.call is call or depends_on(one, call) for one in dependant.dependencies)


def write_openapi(app: FastAPI, access: AccessTable) -> Schema:
    """FastAPI's document, with what it cannot know: who may call, which headers count, how refusals look."""
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        servers=app.servers,
        separate_input_output_schemas=app.separate_input_output_schemas,
    )
    components: Schema = document.setdefault("components", {})
    schemas: Schema = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    made = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= made.pop("$defs", {})
    schemas["Problem"] = made
    components["securitySchemes"] = {
        "token": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "Jeton d'accès (RFC 9068) du fournisseur d'identité.",
        }
    }
    for route in app.routes:
        if isinstance(route, APIRoute) and route.include_in_schema and route.operation_id is not None:
            for method in route.methods or ():
                _complete(document["paths"][route.path_format][method.lower()], method, route, access[route.operation_id])
    _link(document["paths"])
    return document


def _link(paths: Schema) -> None:
    """What was made is read, changed and worked under the id that the answer of 201 gives: a link to each operation that is about it."""
    for path, operations in paths.items():
        made = operations.get("post", {}).get("responses", {}).get("201")
        parent = paths.get(path.rpartition("/")[0], {}).get("get", {}).get("responses", {}).get("200", {})
        if made is None or made["content"] == parent.get("content"):  # what was made is a part of what is answered, and the id the whole's
            continue
        outer = {f"path.{name}": f"$request.path.{name}" for name in _IN_PATH.findall(path)}
        for below, about in paths.items():
            for place, of in ((path, outer), (f"/v1/{path.rpartition('/')[2]}", {})):
                if found := re.fullmatch(rf"{re.escape(place)}/{{(\w+)}}(/[\w-]+)?", below):
                    parameters = {**of, f"path.{found[1]}": "$response.body#/id"}
                    for operation in about.values():
                        link = {"operationId": operation["operationId"], "parameters": parameters}
                        made.setdefault("links", {})[operation["operationId"]] = link
                    break


_IN_PATH = re.compile(r"{(\w+)}")


_BEFORE_THE_ROUTE = frozenset({400, 408, 414, 431, 503})
"""`libs.chassis.limits` answers so to any request: headers too slow or too large, an address too long, too much in work."""


def _complete(operation: Schema, method: str, route: APIRoute, rule: Rule) -> None:
    statuses = {*_BEFORE_THE_ROUTE, 422}
    parameters: list[Schema] = operation.get("parameters", [])
    if rule.public:
        operation["security"] = []
    else:
        operation["security"] = [{"token": []}]
        operation["x-roles"] = sorted(rule.roles)
        statuses |= {401, 403, 429}
    if depends_on(route.dependant, once_of):
        parameters.append(_IDEMPOTENCY_KEY)
        statuses |= {409}
    if depends_on(route.dependant, expected_version):
        parameters.append(_IF_MATCH)
        statuses |= {412, 428}
    if rule.purpose:
        parameters.append(_X_PURPOSE)
    if "{" in route.path_format:
        statuses |= {404}
    if method not in {"GET", "HEAD"}:
        statuses |= {413}  # where no body is declared, too: whoever needs an Idempotency-Key reads what comes
    if route.body_field is not None:
        statuses |= {415}
    for parameter in parameters:
        _name_bounds(parameter.get("schema", {}))
    if parameters:
        operation["parameters"] = parameters
    answers: Schema = operation["responses"]
    answers.pop("422", None)  # FastAPI's own form of it
    for status, answer in problems(*sorted(statuses)).items():
        answers.setdefault(str(status), answer)
    if "429" in answers:
        answers["429"]["headers"] = _RATE_HEADERS


def _name_bounds(schema: Schema) -> None:
    """Of a bound on a number that is read from text (`strict.QueryInt`) pydantic 2.14 writes its own name, not JSON Schema's."""
    for ours, theirs in (("ge", "minimum"), ("le", "maximum"), ("gt", "exclusiveMinimum"), ("lt", "exclusiveMaximum")):
        if ours in schema:
            schema[theirs] = schema.pop(ours)
    for choice in schema.get("anyOf", ()):
        _name_bounds(choice)


# Swagger UI 4.15, the newest in a wheel, reads OpenAPI 3.0 only; FastAPI writes 3.1.


def for_swagger(document: Schema) -> Schema:
    """The same document in OpenAPI 3.0's words, for the pages of /docs."""
    told: Schema = _in_3_0(copy.deepcopy(document))
    told["openapi"] = "3.0.3"
    return told


def _in_3_0(part: Any) -> Any:
    if isinstance(part, list):
        return [_in_3_0(one) for one in part]
    if not isinstance(part, dict):
        return part
    part = {name: _in_3_0(one) for name, one in part.items()}
    choices = part.get("anyOf")
    if isinstance(choices, list) and {"type": "null"} in choices:
        others = [one for one in choices if one != {"type": "null"}]
        part.pop("anyOf")
        part |= {"nullable": True} | ({"allOf": others} if len(others) == 1 else {"anyOf": others})
    if "const" in part and isinstance(part.get("type"), str):
        part["enum"] = [part.pop("const")]
    if isinstance(part.get("examples"), list):
        part["example"] = part.pop("examples")[0]
    return part


_UI = next((Path(swagger_ui_bundle.__file__).parent / "vendor").glob("swagger-ui-*"))
_ASSETS = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "favicon-32x32.png": "image/png",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# style-src: Swagger UI writes style attributes; it is given no script of others' and no place to send anything but here
_START = """window.addEventListener("load", () => {
  window.ui = SwaggerUIBundle({
    url: "/docs/openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null, docExpansion: "list",
    presets: [SwaggerUIBundle.presets.apis], persistAuthorization: false,
  });
});
"""


def docs_page(title: str) -> Response:
    page = f"""<!doctype html>
<html lang="fr">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<link rel="stylesheet" href="/docs/assets/swagger-ui.css">
<link rel="icon" href="/docs/assets/favicon-32x32.png">
<script src="/docs/assets/swagger-ui-bundle.js"></script>
<script src="/docs/assets/start.js"></script>
</head>
<body>
<main id="swagger-ui"></main>
<noscript>Cette page a besoin de JavaScript ; le document est à l'adresse /openapi.json.</noscript>
</body>
</html>
"""
    return HTMLResponse(page, headers={"Content-Security-Policy": _POLICY})


def docs_asset(name: str) -> Response:
    """A file of Swagger UI. Raises NotFound."""
    if name == "start.js":
        return Response(_START, media_type="text/javascript")
    if name not in _ASSETS:
        raise NotFound
    return FileResponse(_UI / name, media_type=_ASSETS[name], headers={"Cache-Control": "public, max-age=86400"})

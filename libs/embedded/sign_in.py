"""Persons sign in at a desk: the authorization code flow with PKCE (RFC 6749 §4.1, RFC 7636, OpenID Connect Core §3.1), S256 only.

/authorize shows the demonstration's persons, whoever looks: a choice is no proof of anything. No cookie and no session are kept: each sign-in is a
choice of its own, and what waits is a code (`grants.py`). Pages are plain HTML and one stylesheet, without any script.
"""

import base64
import hmac
import re
import time
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ExceptionHandler

from libs.contracts.demonstration import CLIENTS, DESKS, PERSONS, DemonstrationDesk, DemonstrationPerson
from libs.embedded.authorization import (
    OPENID,
    AuthorizationRequest,
    DeskRefusal,
    PageRefusal,
    fields_of_query,
    is_verifier,
    origin_of,
    read_request,
)
from libs.embedded.grants import CodeRefused, Grants, TooManyWaiting
from libs.embedded.oauth import OAuthError, read_form
from libs.embedded.tokens import ACCESS_TOKEN, AUDIENCE, ID_TOKEN, LIFETIME_SECONDS, ForeignToken, Issuer

_TEMPLATES = Path(__file__).with_name("templates")
_BEARER = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+)", re.ASCII)
_PRIVATE = {"Cache-Control": "no-store", "Referrer-Policy": "same-origin", "X-Content-Type-Options": "nosniff"}


class SignIn:
    """The part of the issuer's HTTP side that persons see, and what a desk fetches for them."""

    def __init__(self, issuer: Issuer, grants: Grants) -> None:
        self._issuer = issuer
        self._grants = grants

    def routes(self) -> list[Route]:
        return [
            Route("/authorize", self.ask, methods=["GET"]),
            Route("/authorize", self.choose, methods=["POST"]),
            Route("/userinfo", self.userinfo, methods=["GET", "POST"]),
            Route("/end-session", self.end_session, methods=["GET", "POST"]),
            Route("/sign-in.css", self.stylesheet),
        ]

    def exception_handlers(self) -> dict[Any, ExceptionHandler]:
        return {PageRefusal: self._say_on_a_page, DeskRefusal: self._tell_the_desk}

    async def ask(self, request: Request) -> Response:
        """The page that offers the persons."""
        return _choice(read_request(request.scope["query_string"]))

    async def choose(self, request: Request) -> Response:
        """What the page posts: `person`, or `cancel`; the request itself stands in its address and is checked again."""
        asked = read_request(request.scope["query_string"])
        if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":  # a browser says who made it post: another site may not
            raise PageRefusal("Cette connexion n'a pas été demandée depuis la page de choix.", 403)
        form = await _page_form(request)
        if "cancel" in form:
            raise DeskRefusal(asked.redirect_uri, asked.state, "access_denied", "La connexion n'a pas eu lieu.")
        person = PERSONS.get(form.get("person", ""))
        if person is None:
            return _choice(asked, "Cette personne n'est pas dans la liste : choisissez-en une ci-dessous.")
        try:
            code = self._grants.give(asked.client_id, asked.redirect_uri, asked.code_challenge, asked.nonce, asked.scope, person)
        except TooManyWaiting as error:
            said = "Trop de connexions attendent leur suite : recommencez dans une minute."
            raise DeskRefusal(asked.redirect_uri, asked.state, "temporarily_unavailable", said) from error
        return self._back(asked.redirect_uri, {"code": code, "state": asked.state})

    def redeem(self, client_id: str, form: Mapping[str, str]) -> dict[str, Any]:
        """The tokens of a code, for /token. Whatever is wrong, the code is spent. Raises OAuthError."""
        if client_id not in DESKS:
            raise OAuthError("invalid_client", f"Poste de travail inconnu. Postes de démonstration : {', '.join(DESKS)}.", 401)
        missing = [name for name in ("code", "redirect_uri", "code_verifier") if not form.get(name)]
        if missing:
            raise OAuthError("invalid_request", f"Il manque {', '.join(missing)}.")
        try:
            taken = self._grants.take(form["code"])
        except CodeRefused as error:
            raise OAuthError("invalid_grant", "Ce code n'est pas valable, a déjà servi, ou a plus d'une minute.") from error
        if taken.client_id != client_id or taken.redirect_uri != form["redirect_uri"]:
            raise OAuthError("invalid_grant", "Ce code a été donné à un autre poste de travail, ou pour une autre adresse.")
        verifier = form["code_verifier"]
        if not is_verifier(verifier) or not hmac.compare_digest(_s256(verifier), taken.challenge):
            raise OAuthError("invalid_grant", "code_verifier ne répond pas à code_challenge.")
        person = taken.person
        access_token = self._issuer.issue(
            person.client_id, client_id=client_id, sub=str(person.id), name=person.name, scope=taken.scope, sid=taken.sid
        )
        id_token = self._issuer.identify(person, client_id, nonce=taken.nonce, auth_time=taken.at, sid=taken.sid)
        said = {"access_token": access_token, "token_type": "Bearer", "expires_in": LIFETIME_SECONDS, "scope": taken.scope}
        return said | {"id_token": id_token}

    async def userinfo(self, request: Request) -> JSONResponse:
        """OpenID Connect Core §5.3: the person of an access token, as long as its sign-in is not revoked."""
        found = _BEARER.fullmatch(request.headers.get("authorization", ""))
        if found is None:
            return _no_userinfo(401, "invalid_request", "Il faut un jeton d'accès, dans l'en-tête Authorization: Bearer.")
        try:
            claims = self._issuer.read(found[1], ACCESS_TOKEN)
        except ForeignToken:
            return _no_userinfo(401, "invalid_token", "Ce jeton n'est pas un jeton d'accès de cet émetteur.")
        if claims["aud"] != AUDIENCE or claims["exp"] <= time.time() or self._grants.is_revoked(claims.get("sid", "")):
            return _no_userinfo(401, "invalid_token", "Ce jeton a expiré, ou sa connexion a été révoquée.")
        if OPENID not in claims["scope"].split():
            return _no_userinfo(403, "insufficient_scope", "Ce jeton est celui d'un logiciel, non d'une personne.")
        return JSONResponse({"sub": claims["sub"], "name": claims["name"]}, headers={"Cache-Control": "no-store"})

    async def end_session(self, request: Request) -> Response:
        """OpenID Connect RP-Initiated Logout: revokes the sign-in of `id_token_hint`, and goes back where the desk asks, if that is registered."""
        if request.method == "POST":
            form = await _page_form(request)
        else:
            form, repeated = fields_of_query(request.scope["query_string"])
            if repeated:
                raise PageRefusal("L'adresse donne deux fois le même champ.")
        desk, sid = self._leaving(form)
        address = form.get("post_logout_redirect_uri")
        if address and (desk is None or origin_of(address, desk.post_logout_paths) is None):
            raise PageRefusal("L'adresse où revenir (post_logout_redirect_uri) n'est pas enregistrée pour ce poste de travail.")
        if sid is not None:
            self._grants.revoke(sid)
        if not address:
            return _page("said.html", title="Déconnexion terminée", sentence="Vous pouvez fermer cette page.")
        state = form.get("state")
        return RedirectResponse(f"{address}?{urlencode({'state': state})}" if state else address, 303, _PRIVATE)

    def _leaving(self, form: Mapping[str, str]) -> tuple[DemonstrationDesk | None, str | None]:
        """The desk that is left, and the sign-in that ends. An id_token is good here even when it has expired. Raises PageRefusal."""
        client_id, sid = form.get("client_id"), None
        if form.get("id_token_hint"):
            try:
                claims = self._issuer.read(form["id_token_hint"], ID_TOKEN)
            except ForeignToken as error:
                raise PageRefusal("Le jeton d'identité (id_token_hint) ne vient pas de cet émetteur.") from error
            if client_id not in {None, "", claims["aud"]}:
                raise PageRefusal("Le jeton d'identité (id_token_hint) est celui d'un autre poste de travail.")
            client_id, sid = claims["aud"], claims["sid"]
        return DESKS.get(client_id or ""), sid

    async def stylesheet(self, _: Request) -> Response:
        headers = {"Cache-Control": "max-age=3600", "X-Content-Type-Options": "nosniff"}
        return Response((_TEMPLATES / "sign_in.css").read_bytes(), media_type="text/css", headers=headers)

    def _back(self, redirect_uri: str, said: Mapping[str, str]) -> Response:
        """To the desk; `iss` so that it knows who answers (RFC 9207). `redirect_uri` was found registered."""
        return RedirectResponse(f"{redirect_uri}?{urlencode({**said, 'iss': self._issuer.url})}", 303, _PRIVATE)

    async def _tell_the_desk(self, _: Request, error: Exception) -> Response:
        if not isinstance(error, DeskRefusal):
            raise error
        said = {"error": error.code, "error_description": error.description}
        return self._back(error.redirect_uri, said if error.state is None else said | {"state": error.state})

    async def _say_on_a_page(self, _: Request, error: Exception) -> Response:
        if not isinstance(error, PageRefusal):
            raise error
        return _page("said.html", error.status, title="Connexion impossible", sentence=error.sentence)


def _s256(verifier: str) -> str:
    return base64.urlsafe_b64encode(sha256(verifier.encode("ascii")).digest()).rstrip(b"=").decode("ascii")


async def _page_form(request: Request) -> dict[str, str]:
    try:
        return await read_form(request)
    except OAuthError as error:
        raise PageRefusal(error.description, error.status) from error


def _no_userinfo(status: int, code: str, sentence: str) -> JSONResponse:
    """RFC 6750 §3."""
    headers = {"WWW-Authenticate": f'Bearer realm="maillon", error="{code}"', "Cache-Control": "no-store"}
    return JSONResponse({"error": code, "error_description": sentence}, status, headers)


@lru_cache(maxsize=1)
def _templates() -> Environment:
    return Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def _page(template: str, status: int = 200, goes_to: str = "", **said: Any) -> HTMLResponse:
    """`goes_to`: the origin that the page's form ends at; Chromium checks form-action on the redirect after a form too."""
    form_action = f"'self' {goes_to}" if goes_to else "'none'"
    policy = f"default-src 'none'; style-src 'self'; form-action {form_action}; base-uri 'none'; frame-ancestors 'none'"
    headers = _PRIVATE | {"Content-Security-Policy": policy, "X-Frame-Options": "DENY", "Content-Language": "fr"}
    return HTMLResponse(_templates().get_template(template).render(said), status, headers)


def _choice(asked: AuthorizationRequest, mistake: str | None = None) -> HTMLResponse:
    goes_to = origin_of(asked.redirect_uri, asked.desk().redirect_paths) or ""
    persons = [_shown(person) for person in PERSONS.values()]
    status = 200 if mistake is None else 400
    return _page("sign_in.html", status, goes_to, desk=asked.desk().label, query=asked.query(), persons=persons, mistake=mistake)


def _shown(person: DemonstrationPerson) -> dict[str, str]:
    client = CLIENTS[person.client_id]
    return {"id": str(person.id), "name": person.name, "function": client.label}

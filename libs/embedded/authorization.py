"""What a desk asks when it sends a person to /authorize (RFC 6749 §4.1.1, RFC 7636, OpenID Connect Core §3.1.2), read strictly.

A request whose client or whose address to return to cannot be trusted is refused on a page; everything else is told to the desk, by redirect.
"""

import re
from typing import NamedTuple
from urllib.parse import urlencode

from libs.contracts.demonstration import DESKS, DemonstrationDesk
from libs.embedded.oauth import OAuthError, pairs_of
from libs.embedded.tokens import SCOPE

OPENID = "openid"
SCOPES = frozenset({OPENID, "profile", SCOPE})

# The literal address: the name localhost may be somebody else's (RFC 8252 §8.3), and [::1] cannot be written in the form-action of a content
# security policy. The port is the desk's own choice.
_LOOPBACK = re.compile(r"(http://127\.0\.0\.1(?::([1-9][0-9]{0,4}))?)(/[A-Za-z0-9/_-]*)", re.ASCII)
_SEEN = re.compile(r"[\x20-\x7e]{1,2000}", re.ASCII)
"""What RFC 6749 appendix A allows in `state`; ours is also bounded."""
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}", re.ASCII)


class PageRefusal(Exception):
    """Said on a page, to the person: nobody is known whom it could be told to."""

    def __init__(self, sentence: str, status: int = 400) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.status = status


class DeskRefusal(Exception):
    """Said to the desk, by redirect (RFC 6749 §4.1.2.1)."""

    def __init__(self, redirect_uri: str, state: str | None, code: str, description: str) -> None:
        super().__init__(description)
        self.redirect_uri = redirect_uri
        self.state = state
        self.code = code
        self.description = description
        """ASCII without quotes: RFC 6749 allows nothing else here, hence sentences that need no accent."""


class AuthorizationRequest(NamedTuple):
    """A request that holds. `redirect_uri` is registered, on loopback."""

    client_id: str
    redirect_uri: str
    scope: str
    state: str
    nonce: str
    code_challenge: str

    def query(self) -> str:
        """The request as it may be sent again."""
        return urlencode({**self._asdict(), "response_type": "code", "code_challenge_method": "S256"})

    def desk(self) -> DemonstrationDesk:
        return DESKS[self.client_id]


def origin_of(address: str, paths: frozenset[str]) -> str | None:
    """`http://127.0.0.1:8001` of a loopback address with one of these paths; None of any other address."""
    found = _LOOPBACK.fullmatch(address)
    if found is None or found[3] not in paths or int(found[2] or 80) > 65535:
        return None
    return found[1]


def is_verifier(text: str) -> bool:
    """RFC 7636 §4.1."""
    return _VERIFIER.fullmatch(text) is not None


def fields_of_query(query: bytes) -> tuple[dict[str, str], frozenset[str]]:
    """The fields that say something (an empty one counts as absent, RFC 6749 §3.1), and the names given more than once. Raises PageRefusal."""
    try:
        pairs = [(name, value) for name, value in pairs_of(query) if value]
    except OAuthError as error:
        raise PageRefusal(error.description, error.status) from error
    given = dict(pairs)
    names = [name for name, _ in pairs]
    return given, frozenset(name for name in given if names.count(name) > 1)


def read_request(query: bytes) -> AuthorizationRequest:
    """Raises PageRefusal, DeskRefusal."""
    given, repeated = fields_of_query(query)
    if repeated & {"client_id", "redirect_uri"}:
        raise PageRefusal("L'adresse donne deux fois le poste de travail, ou l'adresse où revenir.")
    desk = DESKS.get(given.get("client_id", ""))
    if desk is None:
        raise PageRefusal("Le poste de travail qui demande la connexion (client_id) est inconnu.")
    redirect_uri = given.get("redirect_uri", "")
    if origin_of(redirect_uri, desk.redirect_paths) is None:
        raise PageRefusal(
            "L'adresse où revenir (redirect_uri) n'est pas enregistrée pour ce poste de travail : il faut http://127.0.0.1, "
            f"un port quelconque, et {' ou '.join(sorted(desk.redirect_paths))}."
        )
    state = given.get("state", "")
    state_holds = "state" not in repeated and _SEEN.fullmatch(state) is not None
    flaw = _flaw(given, repeated, state_holds)
    if flaw is not None:
        raise DeskRefusal(redirect_uri, state if state_holds else None, *flaw)
    scope = " ".join(sorted(set(given["scope"].split(" "))))
    return AuthorizationRequest(desk.client_id, redirect_uri, scope, state, given["nonce"], given["code_challenge"])


def _flaw(given: dict[str, str], repeated: frozenset[str], state_holds: bool) -> tuple[str, str] | None:
    """The first thing that is wrong: RFC 6749's code, and a sentence."""
    scopes = set(given.get("scope", "").split(" "))
    kind = given.get("response_type")
    flaws = (
        (bool(repeated), "invalid_request", "Chaque champ se donne une seule fois."),
        ("request" in given, "request_not_supported", "Le champ request ne convient pas."),
        ("request_uri" in given, "request_uri_not_supported", "Le champ request_uri ne convient pas."),
        (kind is None, "invalid_request", "Il manque response_type=code."),
        (kind != "code", "unsupported_response_type", "Seul response_type=code est offert."),
        (given.get("response_mode", "query") != "query", "invalid_request", "Seul response_mode=query est offert."),
        (OPENID not in scopes, "invalid_scope", "Il manque openid dans scope."),
        (not scopes <= SCOPES, "invalid_scope", "Seuls openid, profile et maillon sont offerts dans scope."),
        (not state_holds, "invalid_request", "Il faut state : 2000 signes ASCII au plus."),
        (_SEEN.fullmatch(given.get("nonce", "")) is None, "invalid_request", "Il faut nonce : 2000 signes ASCII au plus."),
        (given.get("code_challenge_method") != "S256", "invalid_request", "Il faut code_challenge_method=S256."),
        (_CHALLENGE.fullmatch(given.get("code_challenge", "")) is None, "invalid_request", "Il faut code_challenge : 43 signes base64url."),
        ("none" in given.get("prompt", "").split(" "), "login_required", "Une personne doit choisir : prompt=none ne convient pas."),
    )
    return next(((code, sentence) for wrong, code, sentence in flaws if wrong), None)

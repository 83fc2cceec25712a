"""What a client says to the development issuer, read strictly, and what is answered when it is wrong (RFC 6749 §5.2)."""

import base64
import binascii
from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote_plus

from starlette.requests import Request

LARGEST_FORM = 16 * 1024
_MOST_FIELDS = 20
_BASIC = "Basic "


class OAuthError(Exception):
    """RFC 6749 §5.2."""

    def __init__(self, code: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.code = code
        self.description = description
        self.status = status


def pairs_of(encoded: bytes) -> list[tuple[str, str]]:
    """The fields of a form or of a query string, in order. Raises OAuthError."""
    if len(encoded) > LARGEST_FORM:
        raise OAuthError("invalid_request", "La demande est trop longue.", 413)
    try:
        return parse_qsl(encoded.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError as error:
        raise OAuthError("invalid_request", "Le formulaire n'est pas lisible.") from error


def fields_of(encoded: bytes) -> dict[str, str]:
    """The same, each field given once. Raises OAuthError."""
    pairs = pairs_of(encoded)
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise OAuthError("invalid_request", "Un paramètre est donné deux fois.")
    return fields


async def read_form(request: Request) -> dict[str, str]:
    """Raises OAuthError."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise OAuthError("invalid_request", "La demande est un formulaire : application/x-www-form-urlencoded.")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_FORM:
            break
    return fields_of(bytes(body))


def client_id_of(request: Request, form: Mapping[str, str]) -> str:
    """Who asks: by Basic authentication, or by `client_id` in the form. Raises OAuthError."""
    authorization = request.headers.get("authorization")
    if authorization is None:
        if not form.get("client_id"):
            raise OAuthError("invalid_request", "Il manque client_id : curl -d client_id=police-95 …")
        return form["client_id"]
    if not authorization.startswith(_BASIC):
        raise OAuthError("invalid_client", "Seule l'authentification Basic est reconnue.", 401)
    try:
        text = base64.b64decode(authorization.removeprefix(_BASIC), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise OAuthError("invalid_client", "L'en-tête Authorization n'est pas lisible.", 401) from error
    return unquote_plus(text.partition(":")[0])

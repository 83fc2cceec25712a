"""What a form of the desk brings: read strictly, bounded, and only from the desk's own pages."""

import hmac
import re
from dataclasses import dataclass
from typing import ClassVar, Final, TypeVar

from fastapi import Request

from libs.chassis.refusals import Forbidden, Malformed
from libs.chassis.strict import one_header
from libs.contracts.types import Code
from services.referrals.forms import read_pairs

C = TypeVar("C", bound=Code)

_FORM_BYTES: Final = 65_536
_MOST_FIELDS: Final = 200
_PATH = re.compile(r"/desk(?:/[a-z0-9_-]+)*/?", re.ASCII)

FORM = "maillon.desk_form"
"""Where the guard puts the form that it checked, in the ASGI scope."""


class NotFromHere(Forbidden):
    type: ClassVar[str] = "not-from-here"
    title: ClassVar[str] = "Formulaire refusé"


@dataclass(frozen=True, slots=True)
class Form:
    """The fields that say something: an empty one counts as absent."""

    pairs: tuple[tuple[str, str], ...]

    def all(self, name: str) -> list[str]:
        return [value for given, value in self.pairs if given == name]

    def one(self, name: str) -> str:
        """Its value, "" when absent or given more than once."""
        values = self.all(name)
        return values[0] if len(values) == 1 else ""


async def read_form(request: Request) -> Form:
    """Raises Malformed, TooLarge."""
    pairs = await read_pairs(request, most_bytes=_FORM_BYTES, most_fields=_MOST_FIELDS)
    return Form(tuple((name, value) for name, value in pairs if value.strip()))


def is_from_here(request: Request, origin: str) -> bool:
    """Whether the browser itself says that one of our pages sent it."""
    said, site = one_header(request.scope, "origin"), one_header(request.scope, "sec-fetch-site")
    return site in (None, "same-origin") and (said == origin if said is not None else site is not None)


def check_origin(request: Request, origin: str) -> None:
    """Raises NotFromHere."""
    if not is_from_here(request, origin):
        raise NotFromHere("Ce formulaire ne vient pas d'une page de ce poste de travail : rien n'a été changé.")


def is_of_session(form: Form, csrf: str) -> bool:
    return hmac.compare_digest(form.one("csrf").encode(), csrf.encode())


def code_of(vocabulary: type[C], given: str) -> C | None:
    """The code, None when nothing is given. Raises Malformed."""
    if not given:
        return None
    found = next((one for one in vocabulary if one.value == given), None)
    if found is None:
        raise Malformed("Un choix de cette adresse n'existe pas : revenez à la page d'avant.")
    return found


def own_path(given: str, otherwise: str) -> str:
    """A path of the desk to go to, whatever was asked: never another site."""
    return given if len(given) <= 200 and _PATH.fullmatch(given) else otherwise

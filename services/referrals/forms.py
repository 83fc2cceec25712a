"""What a browser's form brings, read strictly and bounded: for the answer pages and for the desk."""

from urllib.parse import parse_qsl

from fastapi import Request

from libs.chassis.limits import BODY_LIMIT
from libs.chassis.refusals import Malformed
from libs.chassis.strict import one_header


async def read_pairs(request: Request, *, most_bytes: int, most_fields: int) -> list[tuple[str, str]]:
    """The fields that say something, in order: an empty one counts as absent. Raises Malformed, TooLarge."""
    request.scope[BODY_LIMIT] = most_bytes
    kind = (one_header(request.scope, "content-type") or "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise Malformed("Cette adresse n'accepte que le formulaire de sa page.")
    try:
        return parse_qsl((await request.body()).decode("ascii"), max_num_fields=most_fields, errors="strict")
    except ValueError:
        raise Malformed("Le formulaire ne peut pas être lu.") from None


def whole_number(typed: str) -> int | None:
    """Of at most nine digits; None for anything else."""
    return int(typed) if typed.isascii() and typed.isdigit() and len(typed) < 10 else None

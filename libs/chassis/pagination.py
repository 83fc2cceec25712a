"""Lists, a page at a time: `limit` and an opaque `cursor`; `next` and `Link: rel="next"` say how to go on.

    async def list_units(page: Page, response: Response, …) -> UnitsOut:
        rows = await queries.units(session, after=page.after, limit=page.limit + 1)     # ORDER BY created_at, id; row > after
        rows, next = page_of(rows, page, lambda row: (row.created_at, row.id))
        page.link(response, next)
        return UnitsOut(items=[…], next=next)

A cursor holds the sort key of the last row given, signed for its operation: a made-up or changed one is refused (400 `cursor-invalid`).
Sort keys are instants, days, ids, codes and numbers: never a name.
"""

import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from hashlib import sha256
from typing import Annotated, Any, ClassVar, TypeVar
from urllib.parse import urlencode
from uuid import UUID

from fastapi import Depends, Query, Request, Response
from pydantic_core import to_json

from libs.chassis.refusals import Malformed
from libs.chassis.settings import Settings, secret_bytes
from libs.chassis.strict import QueryInt
from libs.contracts.types import write_instant

Row = TypeVar("Row")
Key = tuple[Any, ...]

LIMIT = 200
_SIGNATURE = 12


class CursorInvalid(Malformed):
    type: ClassVar[str] = "cursor-invalid"
    title: ClassVar[str] = "Curseur illisible"


def _pack(value: object) -> object:
    match value:
        case datetime():
            return {"t": value.isoformat()}
        case date():
            return {"d": value.isoformat()}
        case UUID():
            return {"u": value.hex}
        case _:
            return value


def _unpack(value: Any) -> Any:
    match value:
        case {"t": str(text)}:
            return datetime.fromisoformat(text)
        case {"d": str(text)}:
            return date.fromisoformat(text)
        case {"u": str(text)}:
            return UUID(hex=text)
        case _:
            return value


def _signature(secret: bytes, operation: str, payload: bytes) -> bytes:
    return hmac.digest(secret, b"cursor\0" + operation.encode() + b"\0" + payload, sha256)[:_SIGNATURE]


def write_cursor(secret: bytes, operation: str, key: Key) -> str:
    payload = json.dumps([_pack(value) for value in key], separators=(",", ":")).encode()
    return urlsafe_b64encode(_signature(secret, operation, payload) + payload).rstrip(b"=").decode()


def read_cursor(secret: bytes, operation: str, cursor: str) -> Key:
    """The key that `write_cursor` was given. Raises CursorInvalid."""
    try:
        raw = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
    except ValueError:
        raw = b""
    signature, payload = raw[:_SIGNATURE], raw[_SIGNATURE:]
    if not payload or not hmac.compare_digest(signature, _signature(secret, operation, payload)):
        raise CursorInvalid("Ce curseur ne vient pas de cette liste : reprenez-la depuis le début.")
    return tuple(_unpack(value) for value in json.loads(payload))


@dataclass(frozen=True, slots=True)
class PageAsked:
    """`after`: the sort key of the last row the caller has, None for the beginning."""

    limit: int
    after: Key | None
    _operation: str
    _secret: bytes
    _path: str
    _query: tuple[tuple[str, str], ...]

    def cursor(self, key: Key) -> str:
        return write_cursor(self._secret, self._operation, key)

    def answer(self, items: Iterable[Mapping[str, Any]], next: str | None, headers: Mapping[str, str] | None = None) -> Response:
        """The whole list as it leaves, of rows that hold what its model says of an item: the model would look again at what the database holds already,
        and writes the same (docs/decisions/0011)."""
        response = Response(
            to_json({"items": [_written(item) for item in items], "next": next}), media_type="application/json", headers=headers
        )
        self.link(response, next)
        return response

    def link(self, response: Response, next: str | None) -> None:
        """`Link: <…>; rel="next"`: the same request, further on. A relative reference, so that it holds behind any proxy."""
        if next is not None:
            response.headers.append("Link", f'<{self._path}?{urlencode([*self._query, ("cursor", next)])}>; rel="next"')


def _written(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in item.items()}


def _plain(value: Any) -> Any:
    """What pydantic writes otherwise than a model would (an instant), or takes its time for (the driver's own class of UUID)."""
    if isinstance(value, UUID):
        return str(value)
    return write_instant(value) if isinstance(value, datetime) else value


def page_of(rows: Sequence[Row], page: PageAsked, key: Callable[[Row], Key]) -> tuple[list[Row], str | None]:
    """What to show of the `page.limit + 1` rows that were asked for, and the cursor of the next page (None: this is the last)."""
    shown = list(rows[: page.limit])
    return shown, page.cursor(key(shown[-1])) if len(rows) > page.limit else None


def cursor_secret(settings: Settings) -> bytes:
    """The same on every replica; derived, so that a cursor tells nothing of the search key."""
    return hmac.digest(secret_bytes(settings.search_key), b"maillon cursors", sha256)


async def _page(
    request: Request,
    limit: Annotated[QueryInt, Query(ge=1, le=LIMIT, description="How many items at most")] = 50,
    cursor: Annotated[
        str | None, Query(max_length=500, pattern="^[A-Za-z0-9_-]+$", description="`next` of the page before; nothing for the first page")
    ] = None,
) -> PageAsked:
    operation = request.scope["route"].operation_id
    secret: bytes = request.app.state.cursor_secret
    return PageAsked(
        limit=limit,
        after=None if cursor is None else read_cursor(secret, operation, cursor),
        _operation=operation,
        _secret=secret,
        _path=request.scope["path"],
        _query=tuple((name, value) for name, value in request.query_params.multi_items() if name != "cursor"),
    )


Page = Annotated[PageAsked, Depends(_page)]
"""`limit` (1–200, default 50) and `cursor` of a list."""

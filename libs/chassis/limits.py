"""Bounds on what a caller can make us hold: pure ASGI (BaseHTTPMiddleware leaked asyncpg connections of cancelled tasks), and below it a protocol
class for what uvicorn 0.54 leaves unbounded: the number, size and slowness of headers, the requests that wait on one connection, and answers that
nobody reads.

(Rates per client: `libs.chassis.rates`, in each route's guard, where the client is known.)
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, ClassVar
from urllib.parse import unquote_to_bytes
from uuid import uuid4

from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from libs.chassis.problems import MEDIA_TYPE, TYPES, refused
from libs.chassis.refusals import Malformed, Refusal, Unavailable

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

BODY_LIMIT = "maillon.body_limit"
"""ASGI scope key: a route with a limit of its own puts it there before it reads; None: any length, each part in time."""

MOST_HEADERS = 100
MOST_HEADER_BYTES = 32_768
LONGEST_URL = 8_192
HEADER_SECONDS = 15.0
MOST_WAITING = 8
"""Requests of one connection behind the one in work. Browsers and HTTP libraries send none; uvicorn would keep any number: 14,000 of them are 256 KiB."""
UNREAD_SECONDS = 60.0
"""How long an answer may wait without any of it being read. Long, because the kernel takes more of it only once a good part of its megabytes is gone."""

LEAVE = "maillon.leave"
"""ASGI scope key: called without arguments once the request is over, and its answer read but for the 64 KiB that a connection may hold back."""
PROBES = frozenset({"/livez", "/readyz"})
"""Answered however many requests are in work."""

FLOW = "maillon.flow"
"""ASGI scope key: whether and until when the connection takes no more."""

_CLOSE = {"Connection": "close"}
"""What follows of such a request is not worth reading."""


_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


class TooLarge(Refusal):
    status: ClassVar[int] = 413
    type: ClassVar[str] = "too-large"
    title: ClassVar[str] = "Demande trop volumineuse"


class TooSlow(Refusal):
    status: ClassVar[int] = 408
    type: ClassVar[str] = "too-slow"
    title: ClassVar[str] = "Demande trop lente"


class HeadersTooLarge(Refusal):
    status: ClassVar[int] = 431
    type: ClassVar[str] = "headers-too-large"
    title: ClassVar[str] = "En-têtes trop volumineux"


class TooManyAtOnce(Refusal):
    status: ClassVar[int] = 429
    type: ClassVar[str] = "too-many-at-once"
    title: ClassVar[str] = "Trop de demandes à la fois"


class Limits:
    """Concurrency, header bounds, readable address, body size counted as it streams, time for the body to arrive."""

    def __init__(self, app: App, *, body_bytes: int, body_seconds: float, concurrency: int) -> None:
        self._app = app
        self._body_bytes, self._body_seconds, self._concurrency = body_bytes, body_seconds, concurrency
        self._in_work = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = _unreadable(scope)
        if refusal is None and self._in_work >= self._concurrency and scope["path"] not in PROBES:
            refusal = Unavailable("Trop de demandes sont en cours : réessayez dans un instant.", retry_after_seconds=1)
        if refusal is not None:
            await _answer(refused(refusal), scope, receive, send)
            return
        scope[BODY_LIMIT] = self._body_bytes
        self._in_work += 1
        try:
            try:
                await self._app(scope, _Bounded(scope, receive, self._body_seconds), send)
            finally:
                self._in_work -= 1
            if LEAVE in scope and (flow := scope.get(FLOW)) is not None and flow.write_paused:
                await flow.drain()
        finally:
            if (leave := scope.get(LEAVE)) is not None:
                leave()


async def _too_many_waiting(scope: Any, receive: Any, send: Any) -> None:
    refusal = TooManyAtOnce(
        "Trop de demandes sont envoyées sur cette connexion sans attendre leurs réponses : envoyez à nouveau celles qui n'en ont pas eu.",
        headers={"Retry-After": "1"},
    )
    await _answer(refused(refusal), scope, receive, send)


async def _answer(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    await response(scope, receive, send)


def _unreadable(scope: Scope) -> Refusal | None:
    headers = scope["headers"]
    if len(headers) > MOST_HEADERS or sum(len(name) + len(value) for name, value in headers) > MOST_HEADER_BYTES:
        return HeadersTooLarge("Les en-têtes de la demande dépassent la taille permise.", headers=_CLOSE)
    raw_path, query = scope.get("raw_path") or scope["path"].encode("utf-8", "surrogatepass"), scope["query_string"]
    if len(raw_path) + len(query) > LONGEST_URL:
        return Malformed("L'adresse de la demande est trop longue.")
    if not (_readable(raw_path) and _readable(query)):
        return Malformed("L'adresse de la demande n'est pas de l'UTF-8 lisible.")
    return None


def _readable(raw: bytes) -> bool:
    """UTF-8 once decoded, without control characters: Starlette would put U+FFFD for what is not."""
    if b"%" in raw:
        raw = unquote_to_bytes(raw)
    elif raw.isascii():
        return _CONTROL.search(raw) is None
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return not any(character < " " or "\x7f" <= character <= "\x9f" for character in text)


class _Bounded:
    """`receive`, counted and timed: a body may come in any number of parts, not in any size or time."""

    __slots__ = ("_deadline", "_receive", "_received", "_scope", "_seconds", "_whole")

    def __init__(self, scope: Scope, receive: Receive, seconds: float) -> None:
        self._scope, self._receive, self._seconds = scope, receive, seconds
        self._received = 0
        self._deadline: float | None = None
        self._whole = False

    async def __call__(self) -> Message:
        if self._whole:
            return await self._receive()  # waits for the caller to hang up: as long as the answer takes
        limit: int | None = self._scope[BODY_LIMIT]
        if limit is None:  # any length, as long as it keeps coming
            self._deadline = asyncio.get_running_loop().time() + self._seconds
        elif self._deadline is None:
            self._deadline = asyncio.get_running_loop().time() + self._seconds
            for name, value in self._scope["headers"]:
                if name == b"content-length" and (not value.isdigit() or int(value) > limit):
                    raise _too_large(limit)
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            raise TooSlow("La demande n'est pas arrivée à temps.", headers=_CLOSE) from None
        if message["type"] == "http.request":
            self._received += len(message.get("body", b""))
            if limit is not None and self._received > limit:
                raise _too_large(limit)
            self._whole = not message.get("more_body", False)
        return message


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"La demande dépasse la taille permise de {limit // 1024} Kio.", headers=_CLOSE)


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's httptools protocol with bounds on headers, waiting requests and unread answers, and problems instead of plain text.

    It keeps 431 and 414 apart from 400.
    """

    _refusal: tuple[int, str, str] | None = None
    _header_bytes = 0
    _header_timer: asyncio.TimerHandle | None = None
    _began_now = False
    _delivered = 0
    _overhead = 0
    _full = False
    """What else comes is not read: the last of the waiting requests is answered that there are too many, and ends the connection."""
    _unread = 0
    _unread_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn's own class
        super().connection_made(transport)
        self._start_header_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_header_timer()
        self._stop_unread_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """httptools keeps a header, or a trailer, until it is whole: what comes without becoming part of a body is counted as it comes.

        Bodies in chunks of one byte cost six bytes for each: sixteen are allowed. The part in which a request begins is not counted: it may
        hold the end of the request before, and is 256 KiB at most.
        """
        if self._full:
            return
        self._began_now, delivered = False, self._delivered
        super().data_received(data)
        if self._began_now or self.transport.is_closing():
            return
        self._overhead += len(data) - (self._delivered - delivered)
        if self._overhead > MOST_HEADER_BYTES + LONGEST_URL + 16 * self._delivered:
            self._refusal = (HeadersTooLarge.status, HeadersTooLarge.type, HeadersTooLarge.title)
            self.send_400_response("")

    def on_body(self, body: bytes) -> None:
        self._delivered += len(body)
        super().on_body(body)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope[FLOW] = self.flow  # type: ignore[literal-required]  # a key of ours
        self._began_now, self._delivered, self._overhead = True, 0, 0
        self._header_bytes = 0
        self._start_header_timer()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > LONGEST_URL:
            self._refuse(414, "url-too-long", "Adresse trop longue")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > MOST_HEADER_BYTES or len(self.headers) >= MOST_HEADERS:
            self._refuse(HeadersTooLarge.status, HeadersTooLarge.type, HeadersTooLarge.title)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._stop_header_timer()
        if not self._is_plain():
            self._refuse(400, Malformed.type, Malformed.title)
        super().on_headers_complete()
        if len(self.pipeline) > MOST_WAITING:
            last, _ = self.pipeline.popleft()
            last.keep_alive = False
            self.pipeline.appendleft((last, _too_many_waiting))
            self._full = True
            raise ValueError(TooManyAtOnce.type)  # the parser stops

    def _is_plain(self) -> bool:
        """One Host (RFC 9112, 3.2; HTTP/1.0 may have none), and no coding of the body but chunks: llhttp lets both pass."""
        hosts = [value for name, value in self.headers if name == b"host"]
        codings = [value.strip().lower() for name, value in self.headers if name == b"transfer-encoding"]
        return codings in ([], [b"chunked"]) and (len(hosts) == 1 or (not hosts and self.parser.get_http_version() == "1.0"))

    def _refuse(self, status: int, type: str, title: str) -> None:
        self._refusal = (status, type, title)
        raise ValueError(type)  # the parser stops, and calls send_400_response

    def send_400_response(self, msg: str) -> None:
        self._stop_header_timer()
        if self._full:
            return  # said in its turn, after the answers to the requests before
        cycle = self.cycle
        if cycle is not None and cycle.response_started and not cycle.response_complete:
            self.transport.close()  # trailers of a request that is being answered: there is nothing to say in its place
            return
        status, type, title = self._refusal or (400, "malformed", "Demande illisible")
        body = {
            "type": TYPES + type,
            "title": title,
            "status": status,
            "detail": "La demande HTTP ne peut pas être lue.",
            "instance": f"urn:uuid:{uuid4()}",
        }
        content = json.dumps(body, ensure_ascii=False).encode()
        self.transport.write(
            STATUS_LINE.get(status, b"HTTP/1.1 400 Bad Request\r\n")
            + b"content-type: %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % (MEDIA_TYPE.encode(), len(content))
            + content
        )
        self.transport.close()

    def _unsupported_upgrade_warning(self) -> None:
        """Whoever asks for another protocol is answered in this one (RFC 9110, 7.8); uvicorn would advise the operator to install WebSockets."""

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._start_unread_timer()  # closing waits for as long as nobody reads

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start_unread_timer()

    def resume_writing(self) -> None:
        self._stop_unread_timer()
        super().resume_writing()

    def _look_whether_it_is_read(self) -> None:
        if self.transport.get_write_buffer_size() < self._unread:
            self._start_unread_timer()
        else:
            self.transport.abort()

    def _start_unread_timer(self) -> None:
        self._stop_unread_timer()
        self._unread = self.transport.get_write_buffer_size()
        self._unread_timer = self.loop.call_later(UNREAD_SECONDS, self._look_whether_it_is_read)

    def _stop_unread_timer(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def timeout_keep_alive_handler(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        super().timeout_keep_alive_handler()

    def _start_header_timer(self) -> None:
        self._stop_header_timer()
        self._header_timer = self.loop.call_later(HEADER_SECONDS, self._headers_late)

    def _stop_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _headers_late(self) -> None:
        self._refusal = (TooSlow.status, TooSlow.type, TooSlow.title)
        if not self.transport.is_closing():
            self.send_400_response("")

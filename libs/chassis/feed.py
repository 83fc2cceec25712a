"""Reading other services' feeds and lists, as the consumer does when Kafka is behind: with this service's own token, bounded in time."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from libs.chassis import streams
from libs.chassis.security import ServiceToken, TokenUnobtainable
from libs.chassis.streams import Place
from libs.chassis.trust import trusted

PAGE = 1000
LARGEST = 64 * 1024 * 1024
"""Bytes of one answer: a page of a thousand of the longest events has some ten million."""


class FeedError(Exception):
    """The feed cannot be read now; transient."""


class FeedDiverged(FeedError):
    """The speaker holds another history than the reader: it was restored from the past, and waits for its operator."""


class FeedPast(Exception):
    """The feed begins after the cursor: list, then follow. `last_sequence`: up to where the reader's history holds, when it was replaced since."""

    def __init__(self, oldest_sequence: int, last_sequence: int | None = None) -> None:
        super().__init__(f"the feed begins at {oldest_sequence}")
        self.oldest_sequence, self.last_sequence = oldest_sequence, last_sequence


class FeedReplaced(Exception):
    """The cursor stands in a history that was replaced. `last`: where it goes back to, with the epoch that goes on from there."""

    def __init__(self, last: Place) -> None:
        super().__init__(f"epoch {last.epoch} goes on after {last.sequence}")
        self.last = last


@dataclass(frozen=True, slots=True)
class Page:
    records: list[streams.Record]
    head: Place


class Listing:
    """Reads a source's paged lists and remembers the stream position of the first page: following from there misses nothing."""

    def __init__(self, feed: "Feed", source: str) -> None:
        self._feed = feed
        self._source = source
        self._first: Place | None = None

    async def read(self, path: str) -> AsyncIterator[dict[str, Any]]:
        """Every item of the list at `path` (`/v1/posts`), page after page. Raises FeedError, FeedPast, FeedReplaced."""
        next_path: str | None = path
        read: set[str] = set()
        while next_path is not None:
            if next_path in read:
                raise FeedError(f"{self._source}: the pages of the list go in circles")
            read.add(next_path)
            answer = await self._feed.get(self._source, next_path)
            if self._first is None:
                self._first = await self._position(answer)
            with _readable(f"{self._source}: the list"):
                items = _json(answer)["items"]
                if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
                    raise TypeError("items")
                link = answer.links.get("next", {}).get("url")
                next_path = httpx.URL(link).raw_path.decode() if link else None
            for item in items:
                yield item

    async def _position(self, listed: httpx.Response) -> Place:
        with _readable(f"{self._source}: the list's position"):
            epoch, sequence = streams.read_position(listed.headers["Stream-Position"])
        answer = await self._feed.get(self._source, f"/v1/streams/{streams.INTERNAL}/digests/{sequence}")
        with _readable(f"{self._source}: the digest"):
            return Place.of_json(epoch, sequence, _json(answer)["digest"])

    def position(self) -> Place | None:
        return self._first


class Feed:
    """`urls` maps the name of a source to the base URL of its service."""

    def __init__(
        self, urls: dict[str, str], token: ServiceToken, *, transport: Callable[[str], httpx.AsyncBaseTransport | None] | None = None
    ) -> None:
        self._token = token
        self._clients = {
            source: httpx.AsyncClient(
                base_url=url,
                verify=trusted(),
                timeout=httpx.Timeout(10, connect=3),
                transport=transport(source) if transport else None,
            )
            for source, url in urls.items()
        }

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        for client in self._clients.values():
            await client.aclose()

    async def get(self, source: str, path: str, **params: str | int) -> httpx.Response:
        """One authorised GET. Raises FeedError, FeedPast, FeedReplaced."""
        client = self._clients.get(source)
        if client is None:
            raise FeedError(f"no URL is configured for {source}")
        try:
            request = client.build_request("GET", path, params=params or None, headers=await self._token.headers())
            answer = await _whole(client, request)
        except (httpx.HTTPError, TokenUnobtainable) as error:
            raise FeedError(f"{source}: {type(error).__name__}") from error
        if answer is None:
            raise FeedError(f"{source}: an answer of more than {LARGEST} bytes")
        if answer.status_code == 200:
            return answer
        if answer.status_code == 401:
            self._token.forget()
        with _readable(f"{source}: an answer of {answer.status_code}"):
            raise _refused(source, answer.status_code, _json(answer))

    async def events(self, source: str, stream: str, cursor: Place, limit: int = PAGE) -> Page:
        """A page of events after a place, saying where the reader stands, so that the speaker notices when it was restored from the past.

        Raises FeedError, FeedDiverged, FeedPast, FeedReplaced.
        """
        claim: dict[str, str | int] = {"after": cursor.sequence, "epoch": cursor.epoch, "digest": cursor.digest.hex()}
        answer = await self.get(source, f"/v1/streams/{quote(stream, safe='')}/events", **claim, limit=limit)
        with _readable(f"{source}: the feed"):
            body = _json(answer)
            return Page([streams.Record.of_cloudevent(stream, event) for event in body["events"]], _head(body["head"]))

    async def head(self, source: str, stream: str) -> Place:
        answer = await self.get(source, f"/v1/streams/{quote(stream, safe='')}")
        with _readable(f"{source}: the head"):
            return _head(_json(answer))

    async def beginning(self, source: str, stream: str) -> Place:
        """The place before the oldest event that is kept: where a reader goes on that cannot have what came before. Raises FeedError."""
        answer = await self.get(source, f"/v1/streams/{quote(stream, safe='')}")
        with _readable(f"{source}: the head"):
            epoch, before = _head(_json(answer)).epoch, int(_json(answer)["oldest_sequence"]) - 1
        answer = await self.get(source, f"/v1/streams/{quote(stream, safe='')}/digests/{before}")
        with _readable(f"{source}: the digest"):
            place = Place.of_json(epoch, before, _json(answer)["digest"])
        page = await self.events(source, stream, place, limit=1)
        return replace(place, epoch=page.records[0].epoch) if page.records else place

    async def acknowledge(self, source: str, stream: str, epoch: int, sequence: int) -> None:
        """Tell the speaker how far we have acted on what it said. Raises FeedError."""
        client = self._clients.get(source)
        if client is None:
            raise FeedError(f"no URL is configured for {source}")
        said = {"epoch": epoch, "sequence": sequence}
        try:
            answer = await client.put(f"/v1/streams/{quote(stream, safe='')}/position", json=said, headers=await self._token.headers())
        except (httpx.HTTPError, TokenUnobtainable) as error:
            raise FeedError(f"{source}: {type(error).__name__}") from error
        if answer.status_code != 204:
            raise FeedError(f"{source}: {answer.status_code} to an acknowledgement")

    def listing(self, source: str) -> Listing:
        return Listing(self, source)


async def _whole(client: httpx.AsyncClient, request: httpx.Request) -> httpx.Response | None:
    """The answer, read to its end; None when that lies too far."""
    answer = await client.send(request, stream=True)
    content = bytearray()
    try:
        async for part in answer.aiter_bytes():
            content += part
            if len(content) > LARGEST:
                return None
    finally:
        await answer.aclose()
    headers = [(name, value) for name, value in answer.headers.multi_items() if name not in ("content-encoding", "content-length")]
    return httpx.Response(answer.status_code, headers=headers, content=bytes(content), request=request)


def _head(body: dict[str, Any]) -> Place:
    return Place.of_json(body["epoch"], body["sequence"], body["digest"])


@contextmanager
def _readable(what: str) -> Iterator[None]:
    """Whatever cannot be read of an answer is a FeedError."""
    try:
        yield
    except (ValueError, KeyError, TypeError, httpx.InvalidURL) as error:
        raise FeedError(f"{what} is unreadable ({type(error).__name__})") from error


def _json(answer: httpx.Response) -> Any:
    """Raises ValueError."""
    try:
        return answer.json()
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refused(source: str, status: int, problem: Any) -> FeedError | FeedPast | FeedReplaced:
    """What a problem says. Raises ValueError, KeyError, TypeError."""
    kind = str(problem["type"]).rpartition("/")[2].rpartition(":")[2]
    if status == 410 and kind == streams.FeedTooOld.type:
        last = problem.get("last_sequence")
        if last is not None and (type(last) is not int or last < 0):
            raise ValueError("this is no number of a stream")
        return FeedPast(int(problem["oldest_sequence"]), last)
    if status == 409 and kind == streams.EpochEnded.type:
        return FeedReplaced(Place.of_json(problem["epoch"], problem["last_sequence"], problem["last_digest"]))
    if status == 409 and kind == streams.Diverged.type:
        return FeedDiverged(f"{source} holds another history of its stream and waits for its operator")
    return FeedError(f"{source}: {status} {kind}")

"""Each reader of `tests.hostile.test_parsers.READERS` is broken, and its property test sees it: where it refuses, and where it reads, it raises what it
documents nowhere.

A test that is green with a broken reader never calls it, hides what it raises, or draws nothing that comes so far.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from functools import wraps
from importlib import import_module
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from tests.hostile.test_parsers import READERS

PLACES = {
    "libs.chassis.feed:Feed": "libs.chassis.feed:Feed.events",
    "libs.chassis.feed:Listing": "libs.chassis.feed:Listing.read",
    "libs.chassis.security:IssuerKeys": "libs.chassis.security:IssuerKeys.find",
    "libs.chassis.security:TokenVerifier": "libs.chassis.security:TokenVerifier.verify",
    "libs.chassis.settings:Settings": "libs.chassis.settings:Settings.load",
    "libs.chassis.streams:Record": "libs.chassis.streams:Record.of_cloudevent",
    "libs.chassis.strict:Text": "tests.chassis.test_strict:LINE.validate_python",
    "libs.chassis.vault:DataKey": "libs.chassis.vault:DataKey.open",
    "libs.chassis.webhooks:Channel": "libs.chassis.webhooks:Channel.post",
    "libs.client.client:Client": "libs.chassis.streams:Record.of_cloudevent",
    "libs.client.client:Cursor": "libs.client.client:Cursor.at",
    "libs.contracts.registry:EVENTS": "libs.chassis.projector:heard_of",
} | dict.fromkeys(
    [*(f"libs.contracts.types:{name}" for name in ("Day", "Id", "Instant")), "services.partners.schemas:Rna"],
    "tests.hostile.test_parsers:Scalars.model_validate_json",
)
"""Where a reader that is no function reads; the types, where their test reads by them."""

ONE_WAY = {
    "libs.chassis.ndjson:lines": ("reads", "a line too long is given as such, in its place"),
    "libs.chassis.security:IssuerKeys": ("reads", "what is no key is passed over"),
    "libs.chassis.telemetry:request_context": ("reads", "what is no trace begins one"),
    "libs.chassis.webhooks:Channel": ("refuses", "an answer is read for its Retry-After only, when the event was not taken"),
    "libs.client.receipts:verify_receipt": ("refuses", "chance signs nothing; what is signed is tried in the other tests of that file"),
    "libs.contracts.identifiers:is_siren": ("reads", "it says no"),
    "libs.contracts.identifiers:is_siret": ("reads", "it says no"),
    "services.referrals.directory.names:read_item": ("reads", "what is not readable is None"),
}
"""Readers that only read, or only refuse, with the reason."""

NOT_HERE = {
    "libs.chassis.rates:Rates": "it counts, and reads nothing but numbers of its own",
    "services.partners.imports:import_communes": "tried over HTTP, where an exception is a status that its test refuses",
    "services.partners.imports:import_jurisdictions": "tried over HTTP, where an exception is a status that its test refuses",
    "services.reporting.facts:parse": "reads a log of its own service, which was read once by libs.chassis.projector:heard_of",
}
"""Readers that are not broken here, with the reason."""


class Undocumented(Exception):
    pass


class _Breaking:
    """Around a reading: breaks where it refuses, or where it `reads`."""

    def __init__(self, where: str) -> None:
        self._where = where

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._where == "reads" if error is None else self._where == "refuses" and isinstance(error, Exception):
            raise Undocumented


def broken(reader: Callable[..., Any], where: str) -> Callable[..., Any]:
    """The same reader, of the same kind of function."""

    async def many_in_time(*given: Any, **named: Any) -> AsyncIterator[Any]:
        with _Breaking(where):
            async for one in reader(*given, **named):
                yield one

    async def in_time(*given: Any, **named: Any) -> Any:
        with _Breaking(where):
            return await reader(*given, **named)

    def many(*given: Any, **named: Any) -> Iterator[Any]:
        with _Breaking(where):
            yield from reader(*given, **named)

    def at_once(*given: Any, **named: Any) -> Any:
        with _Breaking(where):
            return reader(*given, **named)

    kinds = ((isasyncgenfunction, many_in_time), (iscoroutinefunction, in_time), (isgeneratorfunction, many))
    return wraps(reader)(next((made for is_kind, made in kinds if is_kind(reader)), at_once))


def plant(reader: str, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, _, name = PLACES.get(reader, reader).partition(":")
    owner, _, method = name.rpartition(".")
    if not owner:  # a function, under whatever name it was imported
        right = getattr(import_module(module), name)
        wrong = broken(right, where)
        bound = [(user, alias) for user in list(sys.modules.values()) for alias, one in list(vars(user).items()) if one is right]
        for user, alias in bound:
            monkeypatch.setattr(user, alias, wrong)
        return
    holder = getattr(import_module(module), owner)
    declared = vars(holder).get(method)
    wrong = broken(declared.__func__ if isinstance(declared, classmethod) else getattr(holder, method), where)
    monkeypatch.setattr(holder, method, classmethod(wrong) if isinstance(declared, classmethod) else wrong)


def properties(reader: str) -> list[Any]:
    """Its property tests."""
    file, _, name = READERS[reader].partition("::")
    module = import_module(file.removesuffix(".py").replace("/", "."))
    found = [one for one in vars(module).values() if getattr(one, "is_hypothesis_test", False)]
    return found if name == "given" else [one for one in found if one.__name__ == name]


def sees(test: Any, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the test lets the planted exception out."""
    inner = test.hypothesis.inner_test
    if iscoroutinefunction(inner):
        monkeypatch.setattr(test.hypothesis, "inner_test", wraps(inner)(lambda *drawn, **named: asyncio.run(inner(*drawn, **named))))
    try:
        test(**given)
    except Undocumented:
        return True
    except BaseExceptionGroup as group:  # Hypothesis tells of several where it broke in several places
        return group.subgroup(Undocumented) is not None
    return False


def test_every_reader_is_broken_or_says_why_not() -> None:
    assert (PLACES.keys() | ONE_WAY.keys() | NOT_HERE.keys()) <= READERS.keys()
    assert not NOT_HERE.keys() & (PLACES.keys() | ONE_WAY.keys())


WAYS = [
    (reader, where)
    for reader in READERS
    for where in ("reads", "refuses")
    if reader not in NOT_HERE and ONE_WAY.get(reader, (where,))[0] == where
]


@pytest.mark.parametrize(("reader", "where"), WAYS)
def test_planted_a_reader_that_breaks_is_seen_by_its_test(reader: str, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def written(content: bytes) -> Path:
        (tmp_path / "file").write_bytes(content)
        return tmp_path / "file"

    tests = properties(reader)
    plant(reader, where, monkeypatch)

    given = {"written": written} if "importing" in reader else {}
    assert any(sees(test, given, monkeypatch) for test in tests)


@pytest.mark.parametrize("reader", ["libs.chassis.security:bearer", "libs.chassis.feed:Feed", "libs.chassis.settings:Settings"])
def test_a_reader_that_does_not_break_is_not_seen(reader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tests = properties(reader)
    plant(reader, "nowhere", monkeypatch)

    assert tests
    assert not any(sees(test, {}, monkeypatch) for test in tests)

"""Cursors: opaque, of one list, and nobody else's to make."""

from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.chassis.pagination import CursorInvalid, read_cursor, write_cursor

SECRET = bytes(32)
KEY = (datetime(2026, 11, 23, 10, 0, 0, 123456, UTC), date(2026, 1, 1), UUID(int=7), "95127", 5, None)


def test_a_cursor_gives_back_its_key_with_its_types() -> None:
    assert read_cursor(SECRET, "list_things", write_cursor(SECRET, "list_things", KEY)) == KEY


_SCALARS: st.SearchStrategy[Any] = st.none() | st.integers() | st.text() | st.uuids() | st.dates() | st.datetimes(timezones=st.just(UTC))


@given(st.lists(_SCALARS, max_size=4).map(tuple))
def test_whatever_the_key(key: tuple[Any, ...]) -> None:
    assert read_cursor(SECRET, "l", write_cursor(SECRET, "l", key)) == key


@given(st.text(max_size=60) | st.from_regex(r"[A-Za-z0-9_-]{30,90}={0,2}", fullmatch=True))
def test_anything_at_all_is_no_cursor(text: str) -> None:
    with pytest.raises(CursorInvalid):
        read_cursor(SECRET, "l", text)


def test_a_cursor_belongs_to_one_list_and_one_house() -> None:
    cursor = write_cursor(SECRET, "list_things", KEY)

    for secret, operation in ((SECRET, "list_others"), (b"x" * 32, "list_things")):
        with pytest.raises(CursorInvalid):
            read_cursor(secret, operation, cursor)


def test_a_changed_cursor_is_refused_wherever_it_was_changed() -> None:
    cursor = write_cursor(SECRET, "list_things", KEY)

    for place in range(len(cursor) - 1):  # the last character may hold unused bits
        changed = cursor[:place] + ("A" if cursor[place] != "A" else "B") + cursor[place + 1 :]
        with pytest.raises(CursorInvalid):
            read_cursor(SECRET, "list_things", changed)


@pytest.mark.parametrize("cursor", ["", "A", "AAAA", "é", "A" * 500, "....", "eyJ9"])
def test_rubbish_is_refused(cursor: str) -> None:
    with pytest.raises(CursorInvalid):
        read_cursor(SECRET, "list_things", cursor)

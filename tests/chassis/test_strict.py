"""Strict input: texts, query values, answers."""

import json
import re
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from libs.chassis import strict
from libs.chassis.refusals import Malformed
from libs.chassis.strict import MOST_COMMAS, MOST_FIELDS, Answer, Body, QueryBool, QueryInt, line, prose, read_json
from tests.planted import red

LINE: TypeAdapter[str] = TypeAdapter(Annotated[str, line(10)])
PROSE: TypeAdapter[str] = TypeAdapter(Annotated[str, prose(20)])
INT: TypeAdapter[int] = TypeAdapter(QueryInt)
BOOL: TypeAdapter[bool] = TypeAdapter(QueryBool)


@pytest.mark.parametrize(
    ("given_text", "kept"), [("  Cergy ", "Cergy"), ("é", "é"), ("Saint-Ouen", "Saint-Ouen"), ("李", "李"), ("a" * 10, "a" * 10)]
)
def test_a_line_is_stripped_and_normalised(given_text: str, kept: str) -> None:
    assert LINE.validate_python(given_text) == kept


@pytest.mark.parametrize(
    "text", ["", "   ", "a" * 11, "a\nb", "a\tb", "a\x00b", "\x7f", "\x85", "a\u2028b", "\ud800", "a\u202eb", 3, None, b"a", True]
)
def test_a_line_refuses(text: Any) -> None:
    with pytest.raises(ValidationError):
        LINE.validate_python(text)


def test_prose_keeps_its_lines_and_tabs() -> None:
    assert PROSE.validate_python(" un\r\ndeux\ttrois ") == "un\ndeux\ttrois"


@pytest.mark.parametrize("text", ["a\x00b", "a\x08b", "a\rb", "\ud800", "a" * 21])
def test_prose_refuses(text: str) -> None:
    with pytest.raises(ValidationError):
        PROSE.validate_python(text)


@given(st.text(max_size=30))
def test_whatever_the_schemas_pattern_refuses_the_validator_refuses_and_the_other_way_round(text: str) -> None:
    schema = LINE.json_schema()
    documented = re.search(schema["pattern"], text) is not None and 1 <= len(text) <= 10

    try:
        LINE.validate_python(text)
    except ValidationError:
        accepted = False
    else:
        accepted = True

    # outer blanks are taken off before the length is looked at, and NFC may change it: the schema is never laxer than that
    if documented:
        assert accepted or len(text.strip()) != len(text) or not text.isascii()
    if not documented:
        assert not accepted or len(text) > 10


@pytest.mark.parametrize("text", ["+1", "1.0", "1_0", " 1", "01", "", "1e3", "٣", "9" * 19, "true"])
def test_a_number_in_a_query_is_plain_digits(text: str) -> None:
    with pytest.raises(ValidationError):
        INT.validate_python(text)


def test_numbers_and_flags_in_a_query_are_read() -> None:
    assert [INT.validate_python(text) for text in ("0", "-5", "200")] == [0, -5, 200]
    assert [BOOL.validate_python(text) for text in ("true", "false")] == [True, False]


@pytest.mark.parametrize("text", ["1", "yes", "True", "on", ""])
def test_a_flag_in_a_query_is_true_or_false(text: str) -> None:
    with pytest.raises(ValidationError):
        BOOL.validate_python(text)


class Counted(Body):
    count: int


@pytest.mark.parametrize("body", [{"count": False}, {"count": 1.0}, {"count": "1"}, {"count": 1, "other": 2}, {}])
def test_a_body_is_not_coerced_and_has_no_unknown_field(body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        Counted.model_validate(body)
    assert "input_value" not in str(caught.value)


def test_an_answer_has_no_defaults() -> None:
    with pytest.raises(TypeError, match="no defaults"):

        class _Sloppy(Answer):
            count: int = 0

    assert issubclass(Answer, BaseModel)


def fields(count: int) -> dict[str, int]:
    return {f"x{number}": number for number in range(count)}


@pytest.mark.parametrize("value", [fields(MOST_FIELDS + 1), [[{"deep": fields(MOST_FIELDS + 1)}]], [0] * (MOST_COMMAS + 2)])
def test_json_that_is_too_wide_is_refused(value: Any) -> None:
    with pytest.raises(Malformed, match=r"champs|valeurs"):
        read_json(json.dumps(value).encode())


@pytest.mark.parametrize("value", [fields(MOST_FIELDS), [0] * (MOST_COMMAS + 1), [fields(7)] * 1000, "," * MOST_COMMAS])
def test_json_as_wide_as_may_be_is_read(value: Any) -> None:
    assert read_json(json.dumps(value).encode()) == value


def test_a_byte_order_mark_is_refused_by_name() -> None:
    with pytest.raises(Malformed, match="marque d'ordre des octets"):
        read_json(b"\xef\xbb\xbf{}")


def test_planted_a_byte_order_mark_that_is_not_named_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strict, "BOM_UTF8", b"no mark")

    with red("marque d'ordre des octets"):
        test_a_byte_order_mark_is_refused_by_name()


def test_planted_control_characters_that_are_let_through_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strict, "_BAD_IN_LINE", re.compile("(?!)"))

    with red("DID NOT RAISE"):
        test_a_line_refuses("a\x00b")

"""Strict input: JSON of bounded width and depth, unknown fields refused, no lax coercion, every size bounded, no control character.

    class UnitIn(Body):
        name: Annotated[str, line(200)]
        communes: Annotated[list[CommuneCode], Field(max_length=1000)]

Use `list`, not `tuple`, in request models (JSON has lists, and strict tuples refuse them).
"""

import json
import math
import re
import unicodedata
from codecs import BOM_UTF8
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema
from starlette.requests import Request

from libs.chassis.refusals import Malformed


class Body(BaseModel):
    """What a request brings. Frozen: what was received is what is stored."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)


class Answer(BaseModel):
    """What an answer says. No defaults: a field that is in the schema is in the answer."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        defaults = [name for name, field in cls.model_fields.items() if not field.is_required()]
        if defaults:
            raise TypeError(f"{cls.__name__}: an answer has no defaults ({', '.join(defaults)})")

    @classmethod
    def of(cls, row: object, **more: Any) -> Self:
        """Out of what a row holds under the same names; `more`: what it does not hold, or is told otherwise."""
        return cls.model_validate({name: getattr(row, name) for name in cls.model_fields if name not in more} | more)


# Bidirectional overrides and isolates make a text show as something else than it is (CVE-2021-42574); U+2028/9 break lines.
_NOT_IN_LINES = "\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069"
_NOT_IN_PROSE = "\u0000-\u0008\u000b-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069"
_BAD_IN_LINE = re.compile(f"[{_NOT_IN_LINES}\ud800-\udfff]")
_BAD_IN_PROSE = re.compile(f"[{_NOT_IN_PROSE}\ud800-\udfff]")


def _schema_pattern(refused: str, minimum: int) -> str:
    escaped = "".join(character if character == "-" else f"\\u{ord(character):04x}" for character in refused)
    return f"^[^{escaped}]*$" if minimum == 0 else f"^[^{escaped}]*[^{escaped}\\s][^{escaped}]*$"


@dataclass(frozen=True, slots=True)
class Text:
    """Metadata for `Annotated[str, …]`: stripped, NFC, between `minimum` and `maximum` characters after that."""

    maximum: int
    minimum: int
    lines: bool

    def read(self, value: str) -> str:
        if self.lines and "\r" in value:
            value = value.replace("\r\n", "\n")
        if not (value.isascii() and value.isprintable()):  # the fast path: plain ASCII needs no table look-up
            if (_BAD_IN_PROSE if self.lines else _BAD_IN_LINE).search(value):
                raise PydanticCustomError("text_characters", "control characters are not allowed")
            value = unicodedata.normalize("NFC", value)
        value = value.strip()
        if len(value) > self.maximum:
            raise PydanticCustomError("string_too_long", "at most {max_length} characters", {"max_length": self.maximum})
        if len(value) < self.minimum:
            raise PydanticCustomError("string_too_short", "at least {min_length} characters", {"min_length": self.minimum})
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.read, core_schema.str_schema(strict=True))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        made = handler(schema)
        pattern = _schema_pattern(_NOT_IN_PROSE if self.lines else _NOT_IN_LINES, self.minimum)
        made.update(minLength=self.minimum, maxLength=self.maximum, pattern=pattern)
        return made


def line(maximum: int, minimum: int = 1) -> Text:
    """One line of text: `Annotated[str, line(200)]`."""
    return Text(maximum, minimum, lines=False)


def prose(maximum: int, minimum: int = 1) -> Text:
    r"""Text with line breaks (\n) and tabs: `Annotated[str, prose(20_000)]`."""
    return Text(maximum, minimum, lines=True)


_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}", re.ASCII)


def _whole(value: object) -> object:
    if isinstance(value, str):
        if not _WHOLE.fullmatch(value):
            raise PydanticCustomError("int_parsing", "a whole number in decimal digits")
        return int(value)
    return value


def _flag(value: object) -> object:
    if isinstance(value, str):
        if value not in ("true", "false"):
            raise PydanticCustomError("bool_parsing", "true or false")
        return value == "true"
    return value


QueryInt = Annotated[int, BeforeValidator(_whole), Field(strict=True)]
"""A whole number in a query string or path: plain digits, no `+1`, `1.0`, `1_000` or blanks."""

QueryBool = Annotated[bool, BeforeValidator(_flag), Field(strict=True)]
"""`true` or `false` in a query string."""


def wrong(sentence: str) -> PydanticCustomError:
    """For validators: `raise wrong("La fin précède le début.")`. The sentence reaches the caller, so it never holds a submitted value.

    (A plain ValueError's message does not: it may quote what was sent.)
    """
    return PydanticCustomError("refused", "{sentence}", {"sentence": sentence})


def one_header(scope: Mapping[str, Any], name: str) -> str | None:
    """The header's value, None when absent. Raises Malformed when it is sent twice or holds anything but visible ASCII."""
    wanted = name.encode("ascii")
    values = [value for key, value in scope["headers"] if key == wanted]
    if not values:
        return None
    text: str = values[0].decode("latin-1").strip(" \t")
    if len(values) > 1 or not (text.isascii() and text.isprintable()):
        raise Malformed(f"L'en-tête {name} ne peut pas être lu : une seule valeur, en caractères ASCII visibles.")
    return text


# JSON

MOST_FIELDS = 100
"""Of one object; the largest that is asked for has 15. Each unknown one costs 1.5 KB and 8 µs to refuse: 95,000 fit in 1 MiB."""
MOST_COMMAS = 50_000
"""Of one body: an import of a thousand rows has 7,000. A list in a list of four bytes takes a hundred once it is read."""


class StrictRequest(Request):
    """Its JSON is read by `read_json`."""

    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            self._json = read_json(await self.body())
        return self._json


def read_json(body: bytes) -> Any:
    """JSON as RFC 8259 has it: UTF-8, no NaN, no key twice, no number that becomes infinite, and neither deep nor wide. Raises Malformed."""
    if len(body) > MOST_COMMAS and body.count(b",") > MOST_COMMAS:
        raise Malformed("Le corps de la demande contient trop de valeurs.")
    if body.startswith(BOM_UTF8):
        raise Malformed("Le texte commence par une marque d'ordre des octets (BOM), qui n'est pas acceptée : envoyez de l'UTF-8 sans elle.")
    try:
        return _DECODER.decode(body.decode("utf-8"))
    except UnicodeDecodeError:
        raise Malformed("Le corps de la demande n'est pas de l'UTF-8.") from None
    except _JsonRefused as refused:
        raise Malformed(str(refused)) from None
    except RecursionError:
        raise Malformed("Le corps de la demande est trop profondément imbriqué.") from None
    except ValueError:
        raise Malformed("Le corps de la demande n'est pas du JSON.") from None


class _JsonRefused(ValueError):
    pass


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MOST_FIELDS:
        raise _JsonRefused(f"Un objet contient plus de {MOST_FIELDS} champs.")
    made = dict(pairs)
    if len(made) != len(pairs):
        raise _JsonRefused("Un champ est donné deux fois dans le même objet.")
    return made


def _no_constant(_: str) -> Any:
    raise _JsonRefused("NaN et Infinity ne sont pas du JSON.")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _JsonRefused("Un nombre est trop grand.")
    return number


def _within(text: str) -> int:
    if len(text) > 40:
        raise _JsonRefused("Un nombre est trop grand.")
    return int(text)


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_constant, parse_float=_finite, parse_int=_within)

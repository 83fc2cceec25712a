"""Values that must not be found: looked for byte by byte, as they are, in hexadecimal, and in base64 wherever they begin in what was encoded."""

from base64 import b64encode
from collections.abc import Iterable
from functools import cache


@cache
def forms(value: str) -> frozenset[bytes]:
    """How a value may be written. PostgreSQL writes bytes in hexadecimal; cursors, tokens and signed statements are base64."""
    raw = value.encode()
    found = {raw, raw.hex().encode(), raw.hex().upper().encode()}
    for before in range(3):  # three bytes are four characters: a value may begin in the first, second or third
        encoded = b64encode(b"\0" * before + raw + b"\0\0")[-(-8 * before // 6) : 8 * (before + len(raw)) // 6]
        found |= {encoded, encoded.translate(bytes.maketrans(b"+/", b"-_"))}
    return frozenset(found | {form.hex().encode() for form in found})


def held(content: str | bytes, values: Iterable[str]) -> list[str]:
    """Those of the values that the content holds in any form."""
    looked = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    return [value for value in values if any(form in looked for form in forms(value))]

"""The search for personal values is not blind: each way in which one could be written is found."""

import json
from base64 import b32encode, b64encode, urlsafe_b64encode
from collections.abc import Callable

import pytest

from tests.needles import held

VALUES = ("zqxjvmarqueur", "639989731", "1913-02-17", "?>~é¿")


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize(
    "written",
    [
        str.encode,
        lambda text: repr(text.encode().hex()).encode(),
        lambda text: text.encode().hex().upper().encode(),
        lambda text: json.dumps({"name": text}, ensure_ascii=False).encode(),
        *(lambda text, before=before: b64encode(b"abc"[:before] + text.encode() + b"z") for before in range(4)),
        *(lambda text, before=before: urlsafe_b64encode(b"{[("[:before] + text.encode()).rstrip(b"=") for before in range(4)),
    ],
)
def test_a_value_is_found_however_it_is_written(value: str, written: Callable[[str], bytes]) -> None:
    assert held(b"\xff\0" + written(value) + b"\0", VALUES) == [value]


def test_what_is_not_there_is_not_found() -> None:
    assert held("zqxjv marqueur 63998973 1913-02-1", VALUES) == []
    assert held(b32encode(VALUES[0].encode()), VALUES) == []

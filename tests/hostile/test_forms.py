"""Bodies: JSON, and the forms that people send to the desk and to the development issuer. Anything at all becomes values, or the documented refusal."""

import json
from urllib.parse import urlencode

from fastapi import Request
from hypothesis import given
from hypothesis import strategies as st

from libs.chassis.refusals import Malformed
from libs.chassis.strict import read_json
from libs.embedded import oauth
from services.referrals.desk import forms
from tests.hostile.anything import JSON, some

FORM = b"application/x-www-form-urlencoded"
bodies = st.binary(max_size=60) | st.lists(st.tuples(st.text(max_size=6), st.text(max_size=6)), max_size=4).map(
    lambda pairs: urlencode(pairs).encode()
)
kinds = st.sampled_from([FORM, FORM, FORM, FORM + b"; charset=utf-8", b"text/plain", b"\xff"]) | st.binary(max_size=9)
many = st.sampled_from([b"&".join([b"a=1"] * 201), b"a=" + b"b" * 70_000])


def sent(kind: bytes, body: bytes) -> Request:
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request({"type": "http", "method": "POST", "headers": [(b"content-type", kind)]}, receive)


@some
@given(
    body=st.binary(max_size=60)
    | st.sampled_from([b"[" * 100_000, b"1," * 60_000, b'{"a":1,"a":2}', b"1e999", b"\xff", b"NaN"])
    | JSON.map(lambda value: json.dumps(value).encode())
)
def test_a_body_of_json(body: bytes) -> None:
    """FastAPI makes a 400 of whatever is raised here: over HTTP nothing would tell a reader that breaks from one that refuses."""
    try:
        read = read_json(body)
    except Malformed:
        return

    assert read_json(json.dumps(read, allow_nan=False).encode()) == read


@some
@given(kind=kinds, body=bodies | many)
async def test_a_form_of_the_desk(kind: bytes, body: bytes) -> None:
    try:
        form = await forms.read_form(sent(kind, body))
    except Malformed:
        return

    assert kind.lower().partition(b";")[0].strip() == FORM
    assert len(form.pairs) <= 200
    assert all(value.strip() for _, value in form.pairs)
    assert all(form.one(name) in ("", *form.all(name)) for name, _ in form.pairs)


@some
@given(kind=kinds, body=bodies | many)
async def test_a_form_of_the_issuer(kind: bytes, body: bytes) -> None:
    try:
        fields = await oauth.read_form(sent(kind, body))
    except oauth.OAuthError:
        return

    assert kind.lower().partition(b";")[0].strip() == FORM
    assert all(isinstance(value, str) for pair in fields.items() for value in pair)

"""A receipt proves, offline, that exactly these bytes were received: whatever part is tampered with, it proves nothing."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import ECKey, OctKey
from typer.testing import CliRunner, Result

from libs.chassis.signing import Signer
from libs.chassis.streams import canonical
from libs.client.cli import app
from libs.client.receipts import Flaw, ReceiptInvalid, keyed, pairs, verify_receipt
from libs.contracts.receipts import RECEIPT
from tests.hostile.anything import JSON, some

SIGNER, STRANGER = (Signer(ECKey.generate_key("P-256").as_dict(private=True)) for _ in range(2))
KEYS = SIGNER.public_jwks()
SENT = '{"external_reference": "é-1"}'.encode()
REFERRAL, OTHER = str(UUID(int=1)), str(UUID(int=2))


def receipt(sent: bytes = SENT, referral: str = REFERRAL, *, signer: Signer = SIGNER, media_type: str | None = RECEIPT) -> dict[str, str]:
    statement = canonical(
        {
            "referral_id": referral,
            "client_id": "police-95",
            "received_at": "2026-11-25T08:00:00+00:00",
            "sha256": sha256(sent).hexdigest(),
        }
    )
    return {"statement": statement.decode(), "signature": signer.sign_detached(statement, media_type=media_type)}


def answer(**changes: Any) -> dict[str, Any]:
    return {"id": REFERRAL, "status": "assigned", "receipt": receipt()} | changes


def flaw_of(said: dict[str, Any], sent: bytes = SENT, keys: dict[str, Any] = KEYS) -> Flaw:
    with pytest.raises(ReceiptInvalid) as refused:
        verify_receipt(said, sent, keys)
    return refused.value.flaw


def test_an_untouched_receipt_is_accepted_alone_in_its_answer_and_in_a_line_of_a_batch() -> None:
    for said in (receipt(), answer(), {"line": 1, "key": "k", "outcome": "created", "referral": answer(), "problem": None}):
        proved = verify_receipt(said, SENT, KEYS)

        assert str(proved.statement.referral_id) == REFERRAL
        assert proved.key_id == SIGNER.key_id


@pytest.mark.parametrize("place", range(len(SENT)))
def test_every_byte_of_the_request_counts(place: int) -> None:
    assert flaw_of(receipt(), SENT[:place] + bytes([SENT[place] ^ 1]) + SENT[place + 1 :]) is Flaw.DIGEST


def _header(signed: dict[str, str], **changes: Any) -> dict[str, str]:
    """The header of a signature changed, the signature itself left as it was."""
    header, _, signature = signed["signature"].split(".")
    read = json.loads(urlsafe_b64decode(header + "=="))
    made = urlsafe_b64encode(json.dumps(read | changes).encode()).rstrip(b"=").decode()
    return signed | {"signature": f"{made}..{signature}"}


def _confused() -> dict[str, str]:
    """HMAC with the published key for a secret (RFC 8725 §2.1)."""
    signed = receipt()
    secret = OctKey.import_key(json.dumps(KEYS["keys"][0]).encode())
    header = {"alg": "HS256", "kid": SIGNER.key_id, "typ": RECEIPT}
    head, _, signature = jws.serialize_compact(header, signed["statement"].encode(), secret).split(".")
    return signed | {"signature": f"{head}..{signature}"}


def _restated(**changes: str) -> dict[str, str]:
    signed = receipt()
    return signed | {"statement": canonical(json.loads(signed["statement"]) | changes).decode()}


FORGED: dict[str, tuple[Callable[[], dict[str, str]], Flaw]] = {
    "another's key": (lambda: receipt(signer=STRANGER), Flaw.SIGNATURE),
    "another's key under our name": (lambda: _header(receipt(signer=STRANGER), kid=SIGNER.key_id), Flaw.SIGNATURE),
    "no algorithm": (lambda: _header(receipt(), alg="none"), Flaw.SIGNATURE),
    "no algorithm, no signature": (
        lambda: {**(one := _header(receipt(), alg="none")), "signature": one["signature"].rpartition(".")[0] + "."},
        Flaw.SIGNATURE,
    ),
    "a secret made of the public key": (_confused, Flaw.SIGNATURE),
    "a key in the header": (lambda: _header(receipt(signer=STRANGER), jwk=STRANGER.public_jwks()["keys"][0]), Flaw.SIGNATURE),
    "signed as something else": (lambda: receipt(media_type=None), Flaw.SIGNATURE),
    "signed as a receipt of another kind": (lambda: receipt(media_type="vnd.maillon.head+jws"), Flaw.SIGNATURE),
    "the kind changed afterwards": (lambda: _header(receipt(media_type=None), typ=RECEIPT), Flaw.SIGNATURE),
    "cut": (lambda: {**(one := receipt()), "signature": one["signature"][:-4]}, Flaw.SIGNATURE),
    "without its signature": (lambda: {**(one := receipt()), "signature": one["signature"].partition("..")[0] + ".."}, Flaw.SIGNATURE),
    "another referral in the statement": (lambda: _restated(referral_id=OTHER), Flaw.SIGNATURE),
    "another digest in the statement": (lambda: _restated(sha256=sha256(b"other").hexdigest()), Flaw.SIGNATURE),
    "a space in the statement": (lambda: {**(one := receipt()), "statement": one["statement"] + " "}, Flaw.SIGNATURE),
    "of another request": (lambda: receipt(b"other"), Flaw.DIGEST),
    "no receipt": (dict, Flaw.FORM),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_receipt_is_refused(name: str) -> None:
    made, flaw = FORGED[name]

    assert flaw_of(made()) is flaw
    assert flaw_of(answer(receipt=made())) is flaw


def test_the_receipt_of_another_referral_proves_nothing_of_this_one() -> None:
    assert flaw_of(answer(id=OTHER)) is Flaw.REFERRAL
    assert flaw_of(answer(receipt=receipt(referral=OTHER))) is Flaw.REFERRAL


def test_a_signed_head_of_a_stream_is_no_receipt() -> None:
    """The same key signs both."""
    statement = canonical({"source": "referrals", "stream": "internal", "epoch": "1", "sequence": "1", "digest": "00"})
    signed = {"statement": statement.decode(), "signature": SIGNER.sign_detached(statement)}

    assert flaw_of(signed) is Flaw.SIGNATURE
    assert flaw_of(signed | {"signature": SIGNER.sign_detached(statement, media_type=RECEIPT)}) is Flaw.FORM


def test_a_receipt_of_a_former_key_stays_valid() -> None:
    now = Signer(ECKey.generate_key("P-256").as_dict(private=True), former=KEYS)

    assert verify_receipt(receipt(), SENT, now.public_jwks()).key_id == SIGNER.key_id


@some
@given(said=JSON | st.fixed_dictionaries({"statement": st.text(), "signature": st.text()}), keys=st.lists(JSON, max_size=2))
def test_anything_at_all_is_refused(said: Any, keys: Any) -> None:
    for one in (said, {"receipt": said}, {"referral": said}):
        if isinstance(one, dict):
            assert flaw_of(one) in set(Flaw)
            assert flaw_of(one, SENT, {"keys": keys}) in set(Flaw)


@some
@given(said=st.binary(max_size=40) | JSON.map(lambda one: json.dumps(one).encode()), sent=st.binary(max_size=20))
def test_any_file_at_all_gives_pairs_or_a_refusal(said: bytes, sent: bytes) -> None:
    try:
        found = list(pairs(said, sent))
    except ReceiptInvalid:
        return
    assert all(isinstance(one, dict) for _, one, _ in found)


# The command


class Folder:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.write("keys.json", KEYS)

    def write(self, name: str, said: Any) -> str:
        file = self.path / name
        file.write_bytes(said if isinstance(said, bytes) else json.dumps(said).encode())
        return str(file)

    def verify(self, said: Any, sent: bytes, keys: str = "keys.json") -> Result:
        files = self.write("receipt", said), self.write("request", sent)
        return CliRunner().invoke(app, ["receipt", "verify", *files, "--keys", str(self.path / keys)])


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_the_command_says_what_is_proved_and_what_is_not(folder: Folder) -> None:
    good, bad, unreadable = folder.verify(answer(), SENT), folder.verify(answer(), SENT + b"\n"), folder.verify(b"{", SENT)

    assert (good.exit_code, REFERRAL in good.stdout) == (0, True)
    assert (bad.exit_code, Flaw.DIGEST.label in bad.output) == (1, True)
    assert (unreadable.exit_code, Flaw.FORM.label in unreadable.output) == (1, True)
    assert folder.verify(answer(), SENT, keys="nowhere").exit_code == 2
    folder.write("keys.json", STRANGER.public_jwks())
    assert folder.verify(answer(), SENT).exit_code == 1


def test_the_results_of_a_batch_are_checked_line_by_line(folder: Folder) -> None:
    lines = [b'{"a": 1}', b'{"key": "k", "referral": {}}', b"not json", b'{"a": 2} \r']
    results = [
        {"line": number, "outcome": "created", "referral": answer(receipt=receipt(sent))}
        for number, sent in ((1, keyed(lines[0])), (2, lines[1]), (4, keyed(lines[3])))
    ]
    results.insert(2, {"line": 3, "outcome": "refused", "referral": None})
    said = b"\n".join(json.dumps(one).encode() for one in results)

    good, moved = folder.verify(said, b"\n".join(lines)), folder.verify(said, b"\n".join(reversed(lines)))
    beyond = folder.verify(said, lines[0])

    assert (good.exit_code, "3 reçu(s) valide(s), 0 non valide(s)" in good.stdout) == (0, True)
    assert (moved.exit_code, "ligne 4" in moved.output) == (1, True)
    assert beyond.exit_code == 1

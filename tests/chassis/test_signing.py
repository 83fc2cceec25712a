"""Signatures that anybody can check offline."""

import json
from base64 import urlsafe_b64encode
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import ECKey, KeySet, OctKey

from libs.chassis.signing import SignatureInvalid, Signer, verify, verify_detached

BODY = b'{"digest":"4bf5","\xc3\xa9":1}'


def signer(**more: Any) -> Signer:
    return Signer(ECKey.generate_key("P-256").as_dict(private=True), **more)


def base64url(value: object) -> str:
    return urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize("payload", [BODY, b"urlsafe-only~", bytes(range(256)), b"x" * 4000])
def test_a_detached_signature_holds_for_its_bytes_only(payload: bytes) -> None:
    mine = signer()

    signature = mine.sign_detached(payload)

    assert signature.split(".")[1] == ""
    assert verify_detached(signature, payload, mine.public_jwks()) == mine.key_id
    for other in (payload + b" ", payload[:-1], b""):
        with pytest.raises(SignatureInvalid):
            verify_detached(signature, other, mine.public_jwks())


def test_what_was_signed_as_one_thing_is_not_another() -> None:
    mine = signer()
    plain, receipt = mine.sign_detached(BODY), mine.sign_detached(BODY, media_type="a+jws")

    assert verify_detached(receipt, BODY, mine.public_jwks(), media_type="a+jws") == mine.key_id
    for signature, media_type in ((plain, "a+jws"), (receipt, None), (receipt, "b+jws")):
        with pytest.raises(SignatureInvalid):
            verify_detached(signature, BODY, mine.public_jwks(), media_type=media_type)


def test_the_library_reads_what_was_signed() -> None:
    mine = signer()
    keys = KeySet.import_key_set(mine.public_jwks())  # type: ignore[arg-type]  # joserfc types a key set more narrowly than it reads it

    detached = jws.deserialize_compact(mine.sign_detached(BODY), keys, payload=BODY)
    carried = jws.deserialize_compact(mine.sign(BODY), keys)

    assert detached.headers() == {"alg": "ES256", "kid": mine.key_id}
    assert carried.payload == BODY
    assert verify(mine.sign(BODY), mine.public_jwks()) == BODY


def test_the_published_keys_hold_no_private_part() -> None:
    private = ECKey.generate_key("P-256").as_dict(private=True)

    published = json.dumps(Signer(private).public_jwks())

    assert str(private["d"]) not in published
    assert '"d"' not in published


def test_what_a_former_key_signed_stays_checkable() -> None:
    before = signer()
    signature = before.sign_detached(BODY)

    now = signer(former=before.public_jwks())

    assert verify_detached(signature, BODY, now.public_jwks()) == before.key_id
    assert verify_detached(now.sign_detached(BODY), BODY, now.public_jwks()) == now.key_id


def test_forged_signatures_are_refused() -> None:
    mine, other = signer(), signer()
    keys = mine.public_jwks()
    header, _, signature = mine.sign_detached(BODY).split(".")
    public = json.dumps(keys["keys"][0])
    confused = jws.serialize_compact({"alg": "HS256", "kid": mine.key_id}, BODY, OctKey.import_key(public))
    own_key = ECKey.generate_key("P-256")
    embedded = {"alg": "ES256", "kid": mine.key_id, "jwk": own_key.as_dict(private=False)}
    forgeries = {
        "another's key": other.sign_detached(BODY),
        "no algorithm": f"{base64url({'alg': 'none', 'kid': mine.key_id})}..",
        "the public key as a secret": jws.detach_content(confused),
        "a key of its own in the header": jws.detach_content(jws.serialize_compact(embedded, BODY, own_key)),
        "another header": f"{base64url({'alg': 'ES256', 'kid': mine.key_id, 'b': 1})}..{signature}",
        "no key named": jws.detach_content(jws.serialize_compact({"alg": "ES256"}, BODY, ECKey.generate_key("P-256"))),
        "a payload inside": mine.sign(BODY),
        "cut": f"{header}..{signature[:-4]}",
        "words": "not a signature",
        "nothing": "",
    }

    for name, forged in forgeries.items():
        with pytest.raises(SignatureInvalid):
            pytest.fail(f"{name} was accepted for {verify_detached(forged, BODY, keys)}")
    for forged in (other.sign(BODY), mine.sign_detached(BODY), "a.b.c", "", confused):
        with pytest.raises(SignatureInvalid):
            verify(forged, keys)


@pytest.mark.parametrize(
    "jwk",
    [
        "not json",
        "{}",
        "[]",
        json.dumps(ECKey.generate_key("P-256").as_dict(private=False)),
        json.dumps(ECKey.generate_key("P-384").as_dict(private=True)),
        json.dumps({"kty": "oct", "k": "c2VjcmV0LXNlY3JldA"}),
    ],
)
def test_a_key_that_cannot_sign_is_refused_without_being_quoted(jwk: str) -> None:
    with pytest.raises(ValueError, match="P-256") as refused:
        Signer(jwk)

    assert "c2VjcmV0" not in str(refused.value)

"""Signatures that anybody can check offline: stream heads, audit checkpoints, receipts.

A *detached* JWS (RFC 7515 appendix F) in compact form, `header..signature`, by ES256: the signed bytes travel beside it,
untouched. Not RFC 7797's unencoded payload: joserfc 1.8 does not detach a payload made of URL-safe characters and fails
on one that is not UTF-8.
"""

import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet

_ALGORITHMS = ("ES256",)
_REGISTRY = jws.JWSRegistry(algorithms=list(_ALGORITHMS))
_ES256 = ECDSA(SHA256())
_COORDINATE = 32
"""Bytes of each half of an ES256 signature (RFC 7518 §3.4)."""


def _base64url(value: bytes) -> bytes:
    return urlsafe_b64encode(value).rstrip(b"=")


class SignatureInvalid(ValueError):
    """The signature is not one of these bytes by one of these keys."""


class Signer:
    """Signs with one private key, and publishes the public half of it beside the public keys that signed before it."""

    def __init__(self, jwk: str | Mapping[str, Any], *, former: Mapping[str, Any] | None = None) -> None:
        """`jwk`: a private EC P-256 key as JWK (RFC 7517). `former`: a JWKS of earlier public keys, so that old signatures stay checkable.

        Raises ValueError, which never quotes the key.
        """
        try:
            key = ECKey.import_key(json.loads(jwk) if isinstance(jwk, str) else dict(jwk))
        except (JoseError, ValueError, TypeError, KeyError):
            raise ValueError("the signing key is not a JWK with a private EC key on P-256") from None
        private = key.private_key
        if key.curve_name != "P-256" or private is None:
            raise ValueError("the signing key is not a JWK with a private EC key on P-256")
        self._private = private
        self.key_id: str = key.kid or key.thumbprint()
        self._headers: dict[str | None, bytes] = {}
        public = {**key.as_dict(private=False), "kid": self.key_id, "use": "sig", "alg": "ES256"}
        earlier = [one for one in (former or {}).get("keys", []) if one.get("kid") != self.key_id]
        self._jwks: dict[str, Any] = {"keys": [public, *earlier]}

    def sign_detached(self, payload: bytes, *, media_type: str | None = None) -> str:
        """`header..signature` over exactly these bytes. `media_type` (`typ`, RFC 7515 §4.1.9): what it is, so that it is taken for nothing else."""
        header = self._header(media_type)
        return (header + b".." + self._signature(header + b"." + _base64url(payload))).decode("ascii")

    def sign(self, payload: bytes) -> str:
        """`header.payload.signature`: carries what it signs, to be kept or sent alone."""
        signed = self._header(None) + b"." + _base64url(payload)
        return (signed + b"." + self._signature(signed)).decode("ascii")

    def _signature(self, signed: bytes) -> bytes:
        # joserfc looks the key up and writes the halves by way of hexadecimal text for each signature: 25 µs beside OpenSSL's 38
        halves = decode_dss_signature(self._private.sign(signed, _ES256))
        return _base64url(b"".join(half.to_bytes(_COORDINATE, "big") for half in halves))

    def _header(self, media_type: str | None) -> bytes:
        # serialised once: jws.serialize_compact checks and serialises the same header again for each signature, a third of its time
        if media_type not in self._headers:
            header = {"alg": "ES256", "kid": self.key_id} | ({"typ": media_type} if media_type is not None else {})
            self._headers[media_type] = _base64url(json.dumps(header, separators=(",", ":")).encode())
        return self._headers[media_type]

    def public_jwks(self) -> dict[str, Any]:
        """The JWKS (RFC 7517 §5) with which `verify_detached` checks: public keys only."""
        return self._jwks


def verify_detached(signature: str, payload: bytes, jwks: Mapping[str, Any], *, media_type: str | None = None) -> str:
    """Check a detached JWS over these bytes against the published keys; gives the id of the key that signed.

    Only ES256, only this `media_type` (or none), and only keys of `jwks` count, whatever the header says of keys (`jku`, `jwk`, `x5u` are never
    followed). Raises SignatureInvalid.
    """
    if signature.count(".") != 2 or signature.split(".")[1] or not payload:
        raise SignatureInvalid("this is not a detached signature: header..signature")
    header = _checked(signature, payload, jwks).headers()
    if header.get("typ") != media_type:
        raise SignatureInvalid("the signature is one of something else")
    return str(header["kid"])


def verify(signature: str, jwks: Mapping[str, Any]) -> bytes:
    """The payload that a compact JWS carries, once its signature was checked as `verify_detached` does. Raises SignatureInvalid."""
    if signature.count(".") != 2 or not signature.split(".")[1]:
        raise SignatureInvalid("this is not a signature with its payload: header.payload.signature")
    return _checked(signature, None, jwks).payload


@lru_cache(maxsize=16)
def _key_set(keys: str) -> KeySet:
    """Reading a key costs more than checking a signature with it."""
    return KeySet.import_key_set({"keys": json.loads(keys)})


def _checked(signature: str, payload: bytes | None, jwks: Mapping[str, Any]) -> jws.CompactSignature:
    try:
        checked = jws.deserialize_compact(signature, _key_set(json.dumps(jwks["keys"])), registry=_REGISTRY, payload=payload)
        if "kid" not in checked.headers():
            raise SignatureInvalid("the signature does not name its key")
    except (JoseError, ValueError, TypeError, KeyError):
        raise SignatureInvalid("the signature does not belong to these bytes and keys") from None
    return checked

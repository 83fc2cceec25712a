"""Receipts: the proof, checked without the service, that exactly these bytes were received as that referral.

    jwks = await client.get("/v1/keys")                    # once; kept, it serves offline
    answer = await client.call("POST", "/v1/referrals", content=sent, headers=…)
    verify_receipt(answer.json(), sent, jwks)

`maillon receipt verify RECEIPT-FILE REQUEST-FILE --keys KEYS` does it with files.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from pydantic import ValidationError

from libs.chassis.signing import SignatureInvalid, verify_detached
from libs.contracts.receipts import RECEIPT, ReceiptStatement
from libs.contracts.types import Code


class Flaw(Code):
    """What is wrong with a receipt."""

    FORM = "form", "ce n'est pas un reçu de Maillon"
    SIGNATURE = "signature", "il n'est pas signé, comme reçu, par une des clés publiées"
    DIGEST = "digest", "il ne porte pas sur ces octets : la demande n'est pas celle qui a été reçue"
    REFERRAL = "referral", "c'est le reçu d'une autre saisine"


class ReceiptInvalid(ValueError):
    """The receipt proves nothing of this request."""

    def __init__(self, flaw: Flaw) -> None:
        self.flaw = flaw
        super().__init__(f"the receipt is no proof of this request ({flaw})")


@dataclass(frozen=True, slots=True)
class Verified:
    """What a receipt proves, and the key that signed it."""

    statement: ReceiptStatement
    key_id: str


def verify_receipt(said: Mapping[str, Any], sent: bytes | Sequence[bytes], jwks: Mapping[str, Any]) -> Verified:
    """`said`: the answer of `POST /v1/referrals`, a result line of a batch, or the receipt alone. `sent`: the body, or the line without its end, byte
    for byte; several when it is known only to be one of them. `jwks`: the service's `/v1/keys`.

    Accepted is an ES256 signature by one of these keys, with the media type of a receipt, over a statement that names the SHA-256 of these bytes and,
    when the answer tells it, the same referral. Raises ReceiptInvalid.
    """
    referral, receipt = _parts(said)
    statement, signature = receipt.get("statement"), receipt.get("signature")
    if not isinstance(statement, str) or not isinstance(signature, str):
        raise ReceiptInvalid(Flaw.FORM)
    try:
        key_id = verify_detached(signature, statement.encode(), jwks, media_type=RECEIPT)
    except (SignatureInvalid, UnicodeEncodeError):
        raise ReceiptInvalid(Flaw.SIGNATURE) from None
    try:
        proved = ReceiptStatement.model_validate_json(statement)
    except ValidationError:
        raise ReceiptInvalid(Flaw.FORM) from None
    if proved.sha256 not in {sha256(one).hexdigest() for one in ([sent] if isinstance(sent, bytes) else sent)}:
        raise ReceiptInvalid(Flaw.DIGEST)
    if referral is not None and referral != str(proved.referral_id):
        raise ReceiptInvalid(Flaw.REFERRAL)
    return Verified(proved, key_id)


def _parts(said: Mapping[str, Any]) -> tuple[object, Mapping[str, Any]]:
    """The id that the answer tells, if it does, and the receipt."""
    if isinstance(said.get("referral"), Mapping):
        said = said["referral"]
    receipt = said.get("receipt", said)
    if not isinstance(receipt, Mapping):
        raise ReceiptInvalid(Flaw.FORM)
    return said.get("id"), receipt


def keyed(line: bytes) -> bytes:
    """A line of a file as `maillon send` sends it: as it is when it has a key, else with the digest of its bytes for a key.

    What is no JSON object goes as it is: the service says what is wrong with it.
    """
    line = line.strip()
    try:
        read = json.loads(line)
    except (ValueError, RecursionError):
        return line
    if not isinstance(read, dict) or "referral" in read or "key" in read:
        return line
    return b'{"key":"%b","referral":%b}' % (sha256(line).hexdigest().encode(), line)


def pairs(said: bytes, sent: bytes) -> Iterator[tuple[int | None, Mapping[str, Any], Sequence[bytes]]]:
    """The receipts of a file with the bytes each should be of: one answer and its whole request, or the result lines of a batch, each with the line of
    the request that its number names (the number is given too). Refused lines have no receipt. Raises ReceiptInvalid."""
    try:
        results = [json.loads(said)]
    except (ValueError, RecursionError):
        results = [_result(line) for line in said.splitlines() if line.strip()]
    lines = sent.split(b"\n")
    for result in results:
        if not isinstance(result, dict) or ("line" not in result and len(results) > 1):
            raise ReceiptInvalid(Flaw.FORM)
        if "line" not in result:
            yield None, result, [sent]
        elif result.get("outcome") != "refused":
            number = result["line"]
            if not isinstance(number, int) or not 1 <= number <= len(lines):
                raise ReceiptInvalid(Flaw.DIGEST)
            line = lines[number - 1]
            yield number, result, [line, line.removesuffix(b"\r"), keyed(line)]


def _result(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        raise ReceiptInvalid(Flaw.FORM) from None

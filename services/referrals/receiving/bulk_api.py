"""Many referrals in one request: the same command as POST /v1/referrals, one line each."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Annotated, Any, NamedTuple

import structlog
from fastapi import APIRouter, Request, Response
from pydantic import Field, ValidationError
from starlette.requests import ClientDisconnect

from libs.chassis import problems as chassis_problems
from libs.chassis.docs import Example
from libs.chassis.gathering import Done
from libs.chassis.idempotency import KEY_PATTERN, Claim, claim_of, key_is_one
from libs.chassis.limits import TooSlow
from libs.chassis.ndjson import MEDIA_TYPE, Lines, LineTooLong, expect_lines, lines, read_ahead
from libs.chassis.problems import is_away, pointers_of, problems
from libs.chassis.rates import Rates
from libs.chassis.refusals import Invalid, Refusal
from libs.chassis.runtime import Run, Runtime
from libs.chassis.security import Caller, Principal
from libs.chassis.strict import Body, read_json
from libs.chassis.telemetry import Trace, current_trace
from services.referrals.api import REFERRAL_EXAMPLE, desk, intake_of
from services.referrals.receiving.schemas import ReferralIn
from services.referrals.receiving.sealing import Intake

router = APIRouter()
_log = structlog.get_logger(__name__)

_OPERATION, _PATH = "receive_referrals", "/v1/referrals/batch"
_AT_ONCE = 64
"""Lines of one request in work at the same moment: posts of single referrals never wait behind more of them, and the next ones know their persons.
As many are read and sealed meanwhile: while PostgreSQL is at work on these."""

Key = Annotated[str, Field(pattern=KEY_PATTERN, description="La clé d'idempotence de cette ligne")]


class ReferralLine(Body):
    """One line: a referral, and the key under which it may be sent again."""

    key: Key
    referral: ReferralIn


_RESULT = {
    "type": "object",
    "description": "referral : saisine créée ou rejouée ; problem (RFC 9457) : ligne refusée ; key est null quand elle n'a pas pu être lue",
    "required": ["line", "key", "outcome", "referral", "problem"],
    "properties": {
        "line": {"type": "integer", "minimum": 1},
        "key": {"type": ["string", "null"]},
        "outcome": {"type": "string", "enum": ["created", "replayed", "refused"]},
        "referral": {"anyOf": [{"$ref": "#/components/schemas/ReferralReceivedOut"}, {"type": "null"}]},
        "problem": {"anyOf": [{"$ref": "#/components/schemas/Problem"}, {"type": "null"}]},
    },
}
_EXAMPLE = Example(
    "police-95",
    200,
    json.dumps(
        {"key": "95-2026-0118", "referral": REFERRAL_EXAMPLE | {"external_reference": "95-2026-0118"}}, ensure_ascii=False, default=str
    )
    + "\n",
    "Une saisine sur sa ligne",
)


@router.post(
    _PATH,
    operation_id=_OPERATION,
    response_class=Response,
    tags=["Police"],
    responses={
        **problems(408, 415),
        200: {
            "description": "Une ligne par ligne reçue, dans l'ordre : created, replayed ou refused",
            "content": {MEDIA_TYPE: {"schema": _RESULT}},
        },
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "description": "NDJSON : sur chaque ligne une clé d'idempotence et une saisine (ReferralIn)",
            "content": {
                MEDIA_TYPE: {
                    "schema": {
                        "type": "object",
                        "additionalProperties": False,
                        "required": ["key", "referral"],
                        "properties": {
                            "key": {"type": "string", "pattern": KEY_PATTERN},
                            "referral": {"$ref": "#/components/schemas/ReferralIn"},
                        },
                    },
                    "examples": {"example-1": _EXAMPLE.document()},
                }
            },
        }
    },
)
async def receive_referrals(request: Request, caller: Caller, runtime: Run) -> Response:
    """Receive any number of referrals: one line in, one line out, in the same order, while the rest is still coming.

    Broken off, the request is sent again with the same keys: what was done is replayed. A line without a result (the answer ended before) is sent
    again too. Each line counts as a request: where the client's rate is spent, the answer ends, and the next request is told when to come back (429).
    Read the answer while you send, or send a thousand lines at a time: who does not read is not read from either.
    """
    expect_lines(request)
    rates: Rates = request.app.state.rates
    rates.check_lines(caller.owner)
    return Lines(_answers(request, caller, runtime, rates))


class _Line(NamedTuple):
    """One line, read: what it asks for under its key, or why it is refused."""

    key: str | None
    asked: tuple[Claim, Intake] | Exception


async def _answers(request: Request, caller: Principal, runtime: Runtime, rates: Rates) -> AsyncIterator[bytes]:
    number = 0
    paid = 1  # the request was counted, and with it its first line
    came = lines(request, runtime.settings.body_limit_bytes, runtime.settings.body_timeout_seconds)
    try:
        async with aclosing(read_ahead(came, partial(_read, runtime, caller, current_trace()), _AT_ONCE)) as parts:
            async for part in parts:
                within = paid + rates.spend_lines(caller.owner, len(part) - paid)
                paid = 0
                said, away = await _receive(runtime, number, part[:within])
                number += within
                yield said
                if away or within < len(part):
                    return  # the database, or the client's rate: what has no result is to be sent again
    except TooSlow as refusal:
        yield _said(number + 1, None, refusal)
    except ClientDisconnect:
        return


def _read(runtime: Runtime, caller: Principal, trace: Trace, line: bytes | LineTooLong) -> _Line | None:
    """None: a blank line, which is counted and not answered."""
    if isinstance(line, LineTooLong):
        return _Line(None, line)
    if not line.strip():
        return None
    line = line.removesuffix(b"\r")
    key: str | None = None
    try:
        raw = read_json(line)
        key = _key_of(raw)
        read = ReferralLine.model_validate(raw)
        return _Line(
            key, (claim_of(caller.owner, read.key, _OPERATION, _PATH, line), intake_of(runtime, caller, read.referral, line, trace))
        )
    except ValidationError as error:
        return _Line(key, Invalid("Cette ligne est à corriger.", pointers=pointers_of(error, ReferralLine)))
    except Exception as error:
        return _Line(key, error)  # told on its line: the neighbours go on


async def _receive(runtime: Runtime, number: int, part: Sequence[_Line | None]) -> tuple[bytes, bool]:
    """The results of lines, and whether the database is away. `number`: lines before them."""
    read = [(place, line) for place, line in enumerate(part, number + 1) if line is not None]
    received = iter(await desk(runtime).each([line.asked for _, line in read if not isinstance(line.asked, Exception)]))
    said, away = [], False
    for place, line in read:
        outcome = line.asked if isinstance(line.asked, Exception) else next(received)
        if isinstance(outcome, Refusal) and outcome is not line.asked:
            # the intake speaks of the referral, which is a part of the line
            outcome.pointers = tuple((f"/referral{pointer}", sentence) for pointer, sentence in outcome.pointers)
        elif isinstance(outcome, Exception) and not isinstance(outcome, Refusal):
            _log.warning("bulk.line_failed", exc_info=outcome)
            away = away or is_away(outcome)
        said.append(_said(place, line.key, outcome))
    return b"".join(said), away


def _key_of(raw: Any) -> str | None:
    """The key of a line whose referral may be wrong: by it the client finds what to correct."""
    key = raw.get("key") if isinstance(raw, dict) else None
    return key if isinstance(key, str) and key_is_one(key) else None


def _said(number: int, key: str | None, outcome: Done | Exception) -> bytes:
    """The stored bytes of an answer go out as they are: a replayed line is equal to the first."""
    head = b'{"line":%d,"key":%b,' % (number, json.dumps(key).encode())
    if isinstance(outcome, Done):
        name = b"replayed" if outcome.replayed else b"created"
        return head + b'"outcome":"%b","referral":%b,"problem":null}\n' % (name, outcome.stored.body)
    answer = chassis_problems.refused(outcome) if isinstance(outcome, Refusal) else chassis_problems.failed(outcome)
    return head + b'"outcome":"refused","referral":null,"problem":%b}\n' % bytes(answer.body)

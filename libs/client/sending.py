"""`maillon send FILE`: referrals out of an NDJSON file, by POST /v1/referrals/batch, however many and however often.

A line is `{"key": …, "referral": {…}}`, or a referral alone: its key is then made of its bytes. So the same file sent again, after a power cut or in
full, creates what is missing and replays the rest.
"""

import json
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from libs.client.client import Client
from libs.client.receipts import Flaw, ReceiptInvalid, keyed

PATH = "/v1/referrals/batch"


@dataclass
class Sent:
    """What became of the lines: how many by outcome; of each refused line its number and why, in words of the service's; and the receipts that prove nothing."""

    outcomes: dict[str, int] = field(default_factory=lambda: {"created": 0, "replayed": 0, "refused": 0})
    refused: list[tuple[int, str]] = field(default_factory=list)
    doubtful: list[tuple[int, Flaw]] = field(default_factory=list)


async def send(client: Client, file: Path, advanced: Callable[[int], None], *, receipts: BinaryIO | None = None) -> Sent:
    """Read line by line, in bounded memory; each receipt is checked as it comes, and kept in `receipts`. `advanced` is told how many bytes of the file
    have their results. Raises OSError and what Client raises."""
    sent, read_to = Sent(), 0
    open_lines: dict[int, bytes] = {}
    with file.open("rb") as opened:

        def lines() -> Iterator[bytes]:
            nonlocal read_to
            for number, line in enumerate(opened, 1):
                read_to += len(line)
                # what Windows programs begin a text file with is no part of the first line
                open_lines[number] = keyed(line.removeprefix(BOM_UTF8) if number == 1 else line)
                yield open_lines[number]

        async for result in client.send_lines(PATH, lines()):
            number = result["line"]
            sent.outcomes[result["outcome"]] += 1
            if result["outcome"] == "refused":
                sent.refused.append((number, _why(result["problem"])))
            else:
                await _check(client, result, open_lines[number], sent)
                if receipts is not None:
                    receipts.write(json.dumps(result, ensure_ascii=False).encode() + b"\n")
            for done in [one for one in open_lines if one <= number]:
                del open_lines[done]
            advanced(read_to)
    return sent


async def _check(client: Client, result: dict[str, Any], line: bytes, sent: Sent) -> None:
    try:
        await client.check_receipt(result, line)
    except ReceiptInvalid as invalid:
        sent.doubtful.append((result["line"], invalid.flaw))


def _why(problem: dict[str, Any]) -> str:
    first = [f"la première : {problem['referral_id']}"] if "referral_id" in problem else []
    errors = [f"{error.get('pointer') or '/'} : {error['detail']}" for error in problem.get("errors", [])]
    return " ; ".join([str(problem["detail"]), *first, *errors])

"""`maillon send FILE`: referrals out of an NDJSON file, by POST /v1/referrals/batch, however many and however often.

A line is `{"key": …, "referral": {…}}`, or a referral alone: its key is then made of its bytes. So the same file sent again, after a power cut or in
full, creates what is missing and replays the rest.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from libs.client.client import Client

PATH = "/v1/referrals/batch"


@dataclass
class Sent:
    """What became of the lines: how many by outcome, and of each refused line its number and why, in words of the service's."""

    outcomes: dict[str, int] = field(default_factory=lambda: {"created": 0, "replayed": 0, "refused": 0})
    refused: list[tuple[int, str]] = field(default_factory=list)


def keyed(line: bytes) -> bytes:
    """The line as it is sent. What is no JSON object goes as it is: the service says what is wrong with it."""
    line = line.strip()
    try:
        read = json.loads(line)
    except (ValueError, RecursionError):
        return line
    if not isinstance(read, dict) or "referral" in read or "key" in read:
        return line
    return b'{"key":"%b","referral":%b}' % (hashlib.sha256(line).hexdigest().encode(), line)


async def send(client: Client, file: Path, advanced: Callable[[int], None]) -> Sent:
    """Read line by line, in bounded memory. `advanced` is told how many bytes of the file have their results. Raises OSError and what Client raises."""
    sent, read_to = Sent(), 0
    with file.open("rb") as opened:

        def lines() -> Iterator[bytes]:
            nonlocal read_to
            for line in opened:
                read_to += len(line)
                yield keyed(line)

        async for result in client.send_lines(PATH, lines()):
            sent.outcomes[result["outcome"]] += 1
            if result["outcome"] == "refused":
                sent.refused.append((result["line"], _why(result["problem"])))
            advanced(read_to)
    return sent


def _why(problem: dict[str, Any]) -> str:
    errors = [f"{error.get('pointer') or '/'} : {error['detail']}" for error in problem.get("errors", [])]
    return " ; ".join([str(problem["detail"]), *errors])

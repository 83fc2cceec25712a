"""Two people, one object: an answer carries its version as ETag, a change names the version it was made from in If-Match."""

import re
from typing import Annotated

from fastapi import Depends, Request, Response

from libs.chassis.refusals import Malformed, StaleVersion, VersionMissing
from libs.chassis.strict import one_header

_VERSION = re.compile(r'"(0|[1-9][0-9]{0,17})"', re.ASCII)
_ETAG = re.compile(r'(?:W/)?"[!#-~]*"', re.ASCII)


def etag_of(version: int) -> str:
    return f'"{version}"'


def etag(response: Response, version: int) -> None:
    """Put the object's version into the answer's headers."""
    response.headers["ETag"] = etag_of(version)


def match(current: int, expected: int) -> None:
    """Raises StaleVersion when the object has moved on since the caller read it. `current` comes from the row that was locked."""
    if current != expected:
        raise StaleVersion


async def expected_version(request: Request) -> int:
    """The version that `If-Match` names. Raises VersionMissing, StaleVersion (a tag that no version can have), Malformed."""
    header = one_header(request.scope, "if-match")
    if header is None or header == "*":
        raise VersionMissing
    found = _VERSION.fullmatch(header)
    if found is not None:
        return int(found[1])
    if _ETAG.fullmatch(header):
        raise StaleVersion
    raise Malformed('L\'en-tête If-Match porte une seule version entre guillemets, comme "3".')


IfMatch = Annotated[int, Depends(expected_version)]
"""The version the caller read: 428 when `If-Match` is missing."""

"""Who reads which feed: of each stream a token that may, signed by the campaign's own issuer."""

from pathlib import Path
from typing import Any

from libs.contracts import demonstration as d
from libs.contracts.audiences import streams_of
from libs.embedded.tokens import Issuer

_FIRST = ("reporting", "coordinator-95", "coordinator-78", "partner-95", "partner-78", "employer-95", "police-95", "police-78")


def reader_of(stream: str) -> tuple[str, dict[str, Any]] | None:
    """A client of the demonstration, and what else its token says: of an organization that has no client there, another one's with its name."""
    for client in (*map(d.CLIENTS.__getitem__, _FIRST), *d.CLIENTS.values()):
        organization = str(client.organization) if client.organization else None
        if stream in streams_of(client.role, client.perimeter, organization, client.client_id):
            return client.client_id, {}
    kind, _, name = stream.partition(":")
    return ("partner-95", {"organization": name}) if kind == "organization" else None


class Tokens:
    """`url`: of the issuer of the house, whose keys lie in `folder`."""

    def __init__(self, url: str, folder: Path) -> None:
        self._issuer = Issuer(url, folder / "keys.json")

    def of(self, stream: str) -> str | None:
        """One that may read this stream; None: nobody may."""
        found = reader_of(stream)
        return None if found is None else self._issuer.issue(found[0], **found[1])

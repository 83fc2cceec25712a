"""The machine on which everything runs: where `make run` puts its services, from the same variables that tell it so."""

import os

_PORTS = {"referrals": 8001, "partners": 8002, "funding": 8003, "reporting": 8004, "issuer": 8000}


def address_here(room: str) -> str | None:
    """The base URL of a service, or of the token issuer, on this machine; None for what `make run` does not start."""
    if room not in _PORTS:
        return None
    return f"http://127.0.0.1:{os.environ.get(f'{room.upper()}_PORT') or _PORTS[room]}"


def partners_here() -> str:
    return f"{address_here('partners')}"


def tokens_here() -> str:
    return f"{address_here('issuer')}/token"

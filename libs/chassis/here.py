"""The machine on which everything runs: the settings that `make run` gives its services, for commands beside them. Development secrets only."""

import os
from pathlib import Path
from typing import Final

from libs.chassis.settings import development_secrets
from libs.contracts.registry import SPEAKERS

NOT_HERE: Final = (
    "Sur la machine de « make run » : il ne tourne pas dans ce dossier de données ; lancez-le, ou indiquez son dossier par MAILLON_DATA."
)


def postgres_here(folder: Path) -> str | None:
    """The socket folder of the embedded PostgreSQL of a data folder, when it runs (fifth line of postmaster.pid)."""
    try:
        lines = (folder / "postgres" / "postmaster.pid").read_text().splitlines()
    except OSError:
        return None
    return lines[4].strip() if len(lines) > 4 and lines[4].startswith("/") else None


def environment_here(folder: Path) -> dict[str, str]:
    """What `make run` gives the services of that data folder, as far as commands need it: database, development secrets."""
    socket = postgres_here(folder)
    if socket is None:
        return {}
    made = {"MAILLON_ENVIRONMENT": "development"}
    for service in SPEAKERS:
        made[f"{service.upper()}_DATABASE_URL"] = f"postgresql://postgres@/{service}?host={socket}"
        made |= {f"{service.upper()}_{name.upper()}": value for name, value in development_secrets(service).items()}
    return made


def find_here() -> None:
    """Where no database is configured: those of this machine, in the environment."""
    if not any(os.environ.get(f"{service.upper()}_DATABASE_URL") for service in SPEAKERS):
        for name, value in environment_here(Path(os.environ.get("MAILLON_DATA") or ".maillon")).items():
            os.environ.setdefault(name, value)

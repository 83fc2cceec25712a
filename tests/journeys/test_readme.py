"""The README says what is: its table of events is that of the code."""

from pathlib import Path

from libs.chassis.service import Service
from libs.contracts.registry import SPEAKERS
from services.funding.app import SERVICE as FUNDING
from services.partners.app import SERVICE as PARTNERS
from services.referrals.app import SERVICE as REFERRALS
from services.reporting.app import SERVICE as REPORTING

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
SERVICES: tuple[Service, ...] = (REFERRALS, PARTNERS, FUNDING, REPORTING)


def rows() -> list[str]:
    """A row for each event: its type without the common parts, who says it, who does something with it."""
    found = []
    for speaker, events in SPEAKERS.items():
        for event in events:
            hearers = [
                service.name
                for service in SERVICES
                if service.listener is not None
                and any(source.name == speaker and event in source.handles for source in service.listener.sources)
            ]
            short = event.type.removeprefix("fr.maillon.").removesuffix(".v1")
            found.append(f"| `{short}` | {speaker} | {', '.join(hearers) or '–'} |")
    return found


def test_the_table_of_events_is_that_of_the_code() -> None:
    written = [line for line in README.splitlines() if line.startswith("| `") and line.count("|") == 4]

    assert written == rows()


def test_every_room_is_on_the_map() -> None:
    root = Path(__file__).parents[2]
    rooms = [
        f"{folder.name}/{room.name}"
        for folder in (root / "libs", root / "services")
        for room in sorted(folder.iterdir())
        if (room / "__init__.py").exists()
    ]

    assert [room for room in rooms if f"`{room}/`" not in README] == []

"""The clients' account: what they were told is done."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

PERSONS = 2
"""In each referral (`libs.embedded.journey.referral`)."""


BREAKDOWNS = {"situations": "status", "orientations": "status", "contacted": "total", "persons": "total"}
"""By what reporting is asked to break each measure down that the clients can count themselves."""


@dataclass
class Told:
    """By referral: the facts in order, its state, those of its orientations by id; and whom of it was erased."""

    facts: dict[str, list[str]] = field(default_factory=dict)
    statuses: dict[str, str] = field(default_factory=dict)
    orientations: dict[str, dict[str, str]] = field(default_factory=dict)
    erased: set[str] = field(default_factory=set)
    answers: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """By service: accepted, rejected."""
    unfair: int = 0
    """How often two, who changed one version of a referral at the same time, were both told that it is done, or neither."""
    commits: int = 0
    again: Counter[str] = field(default_factory=Counter)
    """Why what was asked had to be asked again: by status, or what came in its place."""
    broken: list[str] = field(default_factory=list)
    """Each answer that no fault of the campaign explains, in a few words: asked again, and a finding all the same."""
    waiting: dict[object, str] = field(default_factory=dict)
    """By question: what is asked for again, and why."""

    def note(self, referral_id: str, *facts: str, status: str | None = None) -> None:
        """One acknowledged change, with the facts it is."""
        self.commits += 1
        self.facts.setdefault(referral_id, []).extend(facts)
        if status is not None:
            self.statuses[referral_id] = status

    @property
    def repeated(self) -> str:
        return f"{self.again.total()} times repeated ({', '.join(f'{number} × {why}' for why, number in sorted(self.again.items()))})"

    def note_orientation(self, referral_id: str, orientation_id: str, service_id: str, status: str) -> None:
        """One acknowledged change of an orientation. `status`: its FHIR Task state, after which the fact is called."""
        self.note(referral_id, f"orientation.{'started' if status == 'in-progress' else status}")
        self.orientations.setdefault(referral_id, {})[orientation_id] = status
        if status in {"accepted", "rejected"}:
            self.answers[service_id][status] += 1

    def figures(self) -> dict[str, dict[str, int]]:
        """What reporting must count, by measure and code (`total`: all of it)."""
        return {
            "situations": Counter(self.statuses.values()),
            "orientations": Counter(status for one in self.orientations.values() for status in one.values()),
            "contacted": {
                "total": sum(facts.count("contact.attempted") > facts.count("contact.withdrawn") for facts in self.facts.values())
            },
            "persons": {"total": PERSONS * len(self.facts)},
        }

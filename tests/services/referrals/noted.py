"""What a listener, who knows the facts alone, believes was noted for a referral and not taken back."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

WITHDRAWABLE = {"contact_attempts": "contact", "interviews": "interview", "assessments": "assessment", "alerts": "alert"}
"""By table, what each row is called in facts."""


@dataclass
class Noted:
    kept: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By id: the fact that noted it, with its noun."""
    known: list[tuple[str | None, str]] = field(default_factory=list)
    """Whether services know the first person: by which assessment (none: reception or a correction), and what; the last holds."""

    def hear(self, type: str, data: dict[str, Any]) -> None:
        noun, _, fact = type.partition(".")
        if type in {"referral.received", "referral.corrected"}:
            told = data["persons"][0]["known_to_services"]
            if not self.known or self.known[-1][1] != told:
                self.known.append((None, told))
        elif noun in WITHDRAWABLE.values() and fact == "withdrawn":
            self._withdrawn(noun, data)
        elif noun in WITHDRAWABLE.values():
            self.kept[data[f"{noun}_id"]] = data | {"noun": noun}
            if noun == "assessment":
                self.known.append((data["assessment_id"], data["known_to_services"]))

    def _withdrawn(self, noun: str, data: dict[str, Any]) -> None:
        gone = self.kept.pop(data[f"{noun}_id"])
        match noun:
            case "contact":
                first = data["first_attempted_at"]
                assert (datetime.fromisoformat(first) if first else None) == self.first_contact(), (
                    "the first contact is not that of those that are left"
                )
            case "assessment":
                self.known = [one for one in self.known if one[0] != data["assessment_id"]]
            case "alert":
                alike = [one for one in self.kept.values() if one["noun"] == "alert" and one["kind"] == gone["kind"]]
                assert data["last"] == (not alike), "whether an alert of its kind is left is told wrongly"

    def left(self) -> dict[str, int]:
        """By table, how many were not taken back."""
        number = Counter(one["noun"] for one in self.kept.values())
        return {table: number[noun] for table, noun in WITHDRAWABLE.items()}

    def first_contact(self) -> datetime | None:
        return min((datetime.fromisoformat(one["attempted_at"]) for one in self.kept.values() if one["noun"] == "contact"), default=None)

    def is_grounded(self) -> bool:
        """Who was interviewed or assessed was reached."""
        done = any(one["noun"] in {"interview", "assessment"} for one in self.kept.values())
        return not done or any(one["noun"] == "contact" and one["result"] == "reached" for one in self.kept.values())

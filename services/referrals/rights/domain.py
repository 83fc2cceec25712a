"""How long a person's content is kept."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Term:
    """How long what is sealed is kept after the last contact, and how long before its end that is announced, in days."""

    days: int
    notice_days: int

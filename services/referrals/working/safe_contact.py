"""Safe contact: in couple violence a call at the wrong hour endangers (DOMAIN §3). Which rules of a person a contact would break."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, time
from typing import ClassVar, Final

from libs.chassis.refusals import Conflict
from libs.contracts.types import PARIS, Code
from libs.contracts.vocabularies import ContactMode, ContactResult
from services.referrals.schemas import ContactWindow, SafeContact


class SafeRule(Code):
    """Labels end the sentence "Les consignes de contact de cette personne interdisent : …"."""

    MODE = "mode", "ce mode de contact"
    HOURS = "hours", "cette heure"
    VOICEMAIL = "voicemail", "un message sur le répondeur"
    TEXT = "text", "un SMS"


class UnsafeContact(Conflict):
    type: ClassVar[str] = "unsafe-contact"
    title: ClassVar[str] = "Contact dangereux"


_AT_AN_HOUR: Final = frozenset({ContactMode.PHONE, ContactMode.TEXT, ContactMode.EMAIL, ContactMode.VISIT})
"""What reaches the person at the hour it is done. A letter does not, and who comes to the station chose the hour, and to come: no rule says how they may come."""

_BROKEN: Final[Mapping[SafeRule, Callable[[SafeContact, ContactMode, ContactResult, datetime], bool]]] = {
    SafeRule.MODE: lambda rules, mode, result, at: mode not in rules.modes and mode is not ContactMode.IN_PERSON,
    SafeRule.HOURS: lambda rules, mode, result, at: bool(rules.windows) and mode in _AT_AN_HOUR and not within(rules.windows, at),
    SafeRule.VOICEMAIL: lambda rules, mode, result, at: (
        not rules.voicemail_allowed and mode is ContactMode.PHONE and result is ContactResult.MESSAGE_LEFT
    ),
    SafeRule.TEXT: lambda rules, mode, result, at: not rules.text_allowed and mode is ContactMode.TEXT,
}


WEEKDAYS: Final = ("lundi", "mardi", "mercredi", "jeudi", "vendredi", "samedi", "dimanche")


def days_in_words(days: Iterable[int]) -> str:
    """Of ISO numbers: 1 is Monday."""
    return ", ".join(WEEKDAYS[day - 1] for day in days)


def within(windows: list[ContactWindow], at: datetime) -> bool:
    """By the clock of Paris. `ends` is not in it; a window that ends at or before its beginning ends the next day."""
    local = at.astimezone(PARIS)
    day, now = local.isoweekday(), local.time()
    for window in windows:
        begins, ends = time.fromisoformat(window.begins), time.fromisoformat(window.ends)
        if begins < ends:
            if day in window.days and begins <= now < ends:
                return True
        elif (day in window.days and now >= begins) or ((day - 2) % 7 + 1 in window.days and now < ends):
            return True
    return False


def broken_rules(rules: SafeContact | None, mode: ContactMode, result: ContactResult, at: datetime) -> list[SafeRule]:
    return [] if rules is None else [rule for rule, breaks in _BROKEN.items() if breaks(rules, mode, result, at)]


def check(broken: list[SafeRule], *, overridden: bool) -> None:
    """Raises UnsafeContact."""
    if broken and not overridden:
        raise UnsafeContact(
            f"Les consignes de contact de cette personne interdisent : {', '.join(rule.label for rule in broken)}."
            " Choisissez un contact qu'elles permettent, ou donnez le motif qui vous oblige à passer outre.",
            more={"rules": ",".join(broken)},
        )

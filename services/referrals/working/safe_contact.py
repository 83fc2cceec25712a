"""Safe contact: in couple violence a call at the wrong hour endangers (DOMAIN §3). Which rules a contact would break, and what several allow together."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, time
from functools import reduce
from operator import and_, or_
from typing import ClassVar, Final

from libs.chassis.refusals import Conflict
from libs.contracts.types import PARIS, Code
from libs.contracts.vocabularies import ContactMode, ContactResult
from services.referrals.schemas import MAX_WINDOWS, ContactWindow, SafeContact


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


def strictest(rules: Sequence[SafeContact]) -> SafeContact | None:
    """What each of them allows, without the code word and the note of any: those are for who gave them. `None` without any."""
    if not rules:
        return None
    modes = [mode for mode in ContactMode if all(mode in one.modes for one in rules)]
    text_allowed = all(one.text_allowed for one in rules)
    if not text_allowed:
        modes = [mode for mode in modes if mode is not ContactMode.TEXT]
    windows = _common([one.windows for one in rules if one.windows])
    if not windows and any(one.windows for one in rules):
        modes = [mode for mode in modes if mode not in _AT_AN_HOUR]
    return SafeContact(
        modes=modes,
        windows=windows,
        voicemail_allowed=all(one.voicemail_allowed for one in rules),
        text_allowed=text_allowed,
        read_by_others=any(one.read_by_others for one in rules),
    )


_DAY: Final = 24 * 60
_WEEK: Final = 7 * _DAY


def _common(several: Sequence[list[ContactWindow]]) -> list[ContactWindow]:
    """The hours that are in each; of those that would be more windows than a person may have the first ones only, which allow less."""
    if len(several) < 2:
        return [window for windows in several for window in windows]
    week = reduce(and_, map(_minutes, several))
    days: dict[tuple[str, str], list[int]] = {}
    for day in range(7):
        minutes = f"{week >> day * _DAY & (1 << _DAY) - 1:0{_DAY}b}"[::-1]
        for run in re.finditer("1+", minutes):
            days.setdefault((_hour(run.start()), _hour(run.end())), []).append(day + 1)
    return [ContactWindow(days=on, begins=begins, ends=ends) for (begins, ends), on in days.items()][:MAX_WINDOWS]


def _minutes(windows: list[ContactWindow]) -> int:
    """A bit for each minute of the week in which it is safe, the first of Monday the lowest."""
    return reduce(or_, (_of_window(window, day) for window in windows for day in window.days))


def _of_window(window: ContactWindow, day: int) -> int:
    begins, ends = ((at := time.fromisoformat(one)).hour * 60 + at.minute for one in (window.begins, window.ends))
    bits = ((1 << ((ends - begins) % _DAY or _DAY)) - 1) << (day - 1) * _DAY + begins
    return (bits | bits >> _WEEK) & (1 << _WEEK) - 1


def _hour(minute: int) -> str:
    return f"{minute // 60 % 24:02}:{minute % 60:02}"


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

"""By what a person is found again: names and a birth date, or the names alone, normalised. Pure: what is made of them is hashed elsewhere (persons.py)."""

import re
import unicodedata
from datetime import date

_BETWEEN_NAMES = re.compile(r"[\s,\-\u2010-\u2015]+")


def normalised_name(family_name: str | None, given_names: str | None) -> str | None:
    """What a person is found by when only their names are known: `v1|FAMILYNAME|FIRSTGIVENNAME`, or None when one is missing, or has no letter.

    Names are decomposed (NFKD), case-folded and reduced to their letters, so that accents, case, hyphens, apostrophes and spaces do not matter;
    of the given names only the first counts (cut at a space or comma: Jean-Pierre is one, Jean Pierre two). It is hashed with a key before it is
    stored, and never written anywhere; who is looked for is looked for by all of `names_sought`.
    """
    if family_name is None or given_names is None:
        return None
    return _name(family_name, given_names.replace(",", " ").split(" ")[0])


def normalised_identity(name: str, birth_date: date) -> str:
    """What a repeated person is found by: the names, normalised so, and the birth date (`v1|FAMILYNAME|FIRSTGIVENNAME|1990-01-31`), hashed likewise.

    Two persons of one name born on one day are taken for one: it is a hint for a social worker, not a fact.
    """
    return f"{name}|{birth_date.isoformat()}"


def names_sought(family_name: str, given_names: str) -> list[str]:
    """All that `normalised_name` may have made of a person whose names are told so.

    Jean Pierre may be one first name (written Jean-Pierre elsewhere) or two, and so may Jean-Pierre: a search looks for the first word, the first two...
    """
    words = [word for word in _BETWEEN_NAMES.split(given_names) if word]
    names = (_name(family_name, "".join(words[:many])) for many in range(1, len(words) + 1))
    return list(dict.fromkeys(name for name in names if name is not None))


def identities_sought(family_name: str, given_names: str, birth_date: date) -> list[str]:
    """The same of `normalised_identity`."""
    return [normalised_identity(name, birth_date) for name in names_sought(family_name, given_names)]


def _name(family_name: str, first_name: str) -> str | None:
    family, given = _letters(family_name), _letters(first_name)
    return f"v1|{family}|{given}" if family and given else None


def _letters(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name.replace("œ", "oe").replace("Œ", "oe").replace("æ", "ae").replace("Æ", "ae").casefold())
    return plain if plain.isalpha() else "".join(letter for letter in plain if letter.isalpha())

"""The ids of police and gendarmerie units, made from the public jurisdiction file, and of their systems: the same at every import, on every machine."""

import re
import unicodedata
from functools import lru_cache
from uuid import NAMESPACE_URL, UUID, uuid5

_BETWEEN_WORDS = re.compile(r"[^0-9a-z]+")


def plain_label(label: str) -> str:
    """A label without what editions of the file write now one way, now another: case, accents, hyphens, apostrophes, doubled spaces."""
    letters = unicodedata.normalize("NFKD", label.replace("œ", "oe").replace("Œ", "OE").casefold())
    return _BETWEEN_WORDS.sub(" ", "".join(letter for letter in letters if not unicodedata.combining(letter))).strip()


def unit_id_of(institution: str, id_service: str, service: str, commune: str = "") -> UUID:
    """The id of a unit of the jurisdiction file, made from its natural key. `institution` is `PN` or `GN`.

    A gendarmerie unit is its `id_service`, whatever it is called. Police rows have an empty one: there the label is the key, within
    metropolitan France or within one overseas territory (the first three characters of `commune`), for the Seine-Saint-Denis and La
    Réunion both have a Saint-Denis. The département is not in the key: Avignon, Tarascon and Montbéliard work on both sides of a border.
    """
    territory = f"/{commune[:3]}" if commune.startswith(("97", "98")) else ""
    key = id_service.strip() or f"{plain_label(service)}{territory}"
    return uuid5(NAMESPACE_URL, f"https://maillon.example/units/{institution}/{key}")


@lru_cache(maxsize=1000)
def police_id_of(client_id: str) -> UUID:
    """The id of a police or gendarmerie system, made from the client id of its token: it names the stream `police:<id>` of its own referrals."""
    return uuid5(NAMESPACE_URL, f"https://maillon.example/police-systems/{client_id}")

"""French business numbers (DOMAIN §7): the checks that every service makes alike."""

LA_POSTE = "356000000"


def _luhn(digits: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def is_siren(text: str) -> bool:
    """Nine digits that satisfy Luhn's formula; never all zeros."""
    return len(text) == 9 and text.isascii() and text.isdigit() and text != "0" * 9 and _luhn(text)


def is_siret(text: str) -> bool:
    """Fourteen digits: a SIREN, then five digits, all of which satisfy Luhn's formula.

    The establishments of La Poste are too many for that: the sum of their digits is a multiple of five (its head office satisfies Luhn).
    """
    if len(text) != 14 or not text.isascii() or not text.isdigit() or not is_siren(text[:9]):
        return False
    return _luhn(text) or (text[:9] == LA_POSTE and sum(map(int, text)) % 5 == 0)

"""One sample of every event version, as `internal` is told it. Immutable: an old sample must always parse (SHA256SUMS holds each one's digest).

To add one, write the file and its line: `sha256sum fr.maillon.….v1.json >> SHA256SUMS`. Never edit one: a published shape is changed by a new version.
"""

import json
from functools import cache
from importlib.resources import files
from typing import Any

from libs.contracts.envelope import Event
from libs.contracts.registry import EVENTS


@cache
def sample_text(type: str) -> str:
    """The sample's JSON text. Raises FileNotFoundError when there is none."""
    return (files(__package__) / f"{type}.json").read_text(encoding="utf-8")


def sample_data(type: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(sample_text(type))
    return data


def sample(type: str) -> Event:
    """The sample as an event. Raises KeyError for a type that nobody says."""
    return EVENTS[type].model_validate_json(sample_text(type))

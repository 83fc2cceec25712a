"""One sample per event version, immutable: an old sample must always parse, and say the same when it is written again."""

import hashlib
import json
from pathlib import Path

import pytest

from libs.contracts import samples
from libs.contracts.envelope import Event
from libs.contracts.registry import EVENTS
from libs.contracts.samples import sample, sample_data

FOLDER = Path(samples.__file__).parent


def differences(folder: Path) -> list[str]:
    """What stands in the folder against its digests: edited, missing or unlisted samples."""
    listed = {name: digest for digest, name in (line.split("  ") for line in (folder / "SHA256SUMS").read_text().splitlines())}
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.json")}
    return [
        *(
            f"{name} was edited: a published shape is changed by a new version"
            for name in listed
            if found.get(name, listed[name]) != listed[name]
        ),
        *(f"{name} is missing: a sample stays as long as anybody may hold such an event" for name in listed.keys() - found.keys()),
        *(f"{name} is not in SHA256SUMS" for name in found.keys() - listed.keys()),
    ]


def test_no_sample_was_edited_removed_or_slipped_in() -> None:
    assert differences(FOLDER) == []


def test_an_edited_a_removed_and_an_unlisted_sample_are_seen(tmp_path: Path) -> None:
    for name, text in {"kept.json": "{}", "edited.json": "{}", "removed.json": "{}"}.items():
        (tmp_path / name).write_text(text)
    sums = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(tmp_path.glob("*.json")))
    (tmp_path / "SHA256SUMS").write_text(sums)
    assert differences(tmp_path) == []

    (tmp_path / "edited.json").write_text("{ }")
    (tmp_path / "removed.json").unlink()
    (tmp_path / "new.json").write_text("{}")

    assert [sentence.split(" ")[0] for sentence in differences(tmp_path)] == ["edited.json", "removed.json", "new.json"]


@pytest.mark.parametrize("type", EVENTS)
def test_an_event_type_has_a_sample(type: str) -> None:
    assert sample(type).type == type


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_a_sample_parses_and_is_written_again_the_same(path: Path) -> None:
    """Optional fields added since are left out: the sample does not know them."""
    event = sample(path.stem)

    assert json.loads(event.model_dump_json(exclude_unset=True)) == sample_data(path.stem)


@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS)
def test_a_sample_shows_every_field_of_its_first_day(event: type[Event]) -> None:
    required = {name for name, field in event.model_fields.items() if field.is_required()}

    assert required <= set(sample_data(event.type))


def test_a_reader_ignores_what_a_newer_speaker_adds() -> None:
    text = json.dumps(sample_data("fr.maillon.referral.accepted.v1") | {"added_later": 1})

    event = EVENTS["fr.maillon.referral.accepted.v1"].model_validate_json(text)

    assert event == sample("fr.maillon.referral.accepted.v1")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("post_id", "00000095-0004-4000-8000-00000000000A"),
        ("post_id", "{00000095-0004-4000-8000-000000000001}"),
        ("post_id", 5),
        ("departement", "20"),
        ("departement", "95 "),
        ("departement", 95),
        ("accepted_at", "2026-11-23T10:00:00"),
        ("accepted_at", 1_700_000_000),
        ("accepted_at", "2026-11-23"),
    ],
)
def test_a_value_in_another_form_is_refused(field: str, value: object) -> None:
    text = json.dumps(sample_data("fr.maillon.referral.accepted.v1") | {field: value})

    with pytest.raises(ValueError, match=field):
        EVENTS["fr.maillon.referral.accepted.v1"].model_validate_json(text)

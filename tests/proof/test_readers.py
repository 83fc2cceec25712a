"""Each stream that the campaign's house may have is read by its feed, with a token that may."""

from pathlib import Path
from typing import Any

import pytest

from libs.chassis import streams
from libs.contracts import demonstration as d
from libs.contracts.audiences import streams_of
from libs.contracts.units import police_id_of
from libs.embedded.tokens import ACCESS_TOKEN, Issuer
from tests.planted import red
from tests.proof import readers
from tests.proof.readers import Tokens, reader_of

STREAMS = {
    "internal": ("reporting", {}),
    "interior": ("interior", {}),
    "justice": ("justice", {}),
    "departement:95": ("coordinator-95", {}),
    "departement:78": ("coordinator-78", {}),
    f"organization:{d.ASSOCIATION}": ("partner-95", {}),
    f"organization:{d.ASSOCIATION_78}": ("partner-78", {}),
    f"organization:{d.EMPLOYER}": ("employer-95", {}),
    f"organization:{d.SHELTER}": ("partner-95", {"organization": str(d.SHELTER)}),
    f"police:{police_id_of('police-95')}": ("police-95", {}),
    f"police:{police_id_of('police-78')}": ("police-78", {}),
}


def is_read(stream: str, folder: Path) -> None:
    token = Tokens("http://issuer", folder).of(stream)

    assert token is not None, "nobody reads it"
    assert reader_of(stream) == STREAMS[stream]
    said: dict[str, Any] = Issuer("http://issuer", folder / "keys.json").read(token, ACCESS_TOKEN)
    assert stream in streams_of(said["role"], set(said["perimeter"]), said.get("organization"), said["client_id"])


@pytest.mark.parametrize("stream", STREAMS)
def test_each_stream_has_a_reader_whose_token_opens_it(stream: str, tmp_path: Path) -> None:
    is_read(stream, tmp_path)


@pytest.mark.parametrize(
    "stream", [name for name in STREAMS if name.partition(":")[0] in {"organization", "police"} or name == "departement:78"]
)
def test_planted_a_table_of_four_feeds_is_seen(stream: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was: the feeds of organizations, police systems and other départements were read by nobody, and the campaign was green."""
    four = {"internal": "reporting", "departement:95": "coordinator-95", "interior": "interior", "justice": "justice"}
    monkeypatch.setattr(readers, "reader_of", lambda name: (four[name], {}) if name in four else None)

    with red("nobody reads it"):
        is_read(stream, tmp_path)


@pytest.mark.parametrize("stream", [streams.AUDIT, "departement:974", "police:00000000-0000-4000-8000-000000000000", "elsewhere"])
def test_of_another_stream_nobody_reads_it(stream: str, tmp_path: Path) -> None:
    assert Tokens("http://issuer", tmp_path).of(stream) is None

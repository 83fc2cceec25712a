"""What a campaign does to the house: each kind at least once, whatever the dice; and what it passed over is told.

The house and its broker are only told what is done to them: no process is started here.
"""

import asyncio
import os
from dataclasses import dataclass, field
from typing import Any

import pytest

from libs.embedded import children
from libs.embedded.house import Part
from tests.planted import red
from tests.proof import faults
from tests.proof.__main__ import failures
from tests.proof.faults import KINDS, Faults, never_done
from tests.proof.standing import PARTS
from tests.proof.told import Told as Clients


@dataclass
class Told:
    """Stands for the house, for its broker and for PostgreSQL."""

    away: frozenset[str] = frozenset()
    """Parts that are never alive."""
    topics: int = 5
    not_yet: int = 0
    """So often there is nothing to delete yet."""
    killed: list[str] = field(default_factory=list)

    @property
    def postgres(self) -> "Told":
        return self

    def alive(self, word: str) -> list[Part]:
        names = [kind for kind in (*PARTS, "PostgreSQL") if word in kind and kind not in self.away]
        process: Any = children
        return [Part(name, lambda: process, "", process=process) for name in names]

    def psql(self, database: str, statement: str) -> str:
        return "3"

    async def kill(self) -> None:
        self.killed.append("broker")

    async def start(self) -> None:
        pass

    def forget(self) -> None:
        self.killed.append("data")

    async def delete_topics(self) -> int:
        self.not_yet -= 1
        return 0 if self.not_yet >= 0 else self.topics


@pytest.fixture(autouse=True)
def nothing_is_killed_and_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    pause = asyncio.sleep

    async def at_once(seconds: float) -> None:
        await pause(0)

    monkeypatch.setattr(asyncio, "sleep", at_once)
    monkeypatch.setattr(children, "pid", 0, raising=False)
    monkeypatch.setattr(os, "kill", lambda pid, number: None)


async def _done(house: Any, seed: int, kills: int = 30) -> Faults:
    made = Faults(house, house, seed, kills, lambda what: None)
    await made.run(lambda: True)
    return made


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("kills", [len(KINDS), 30])
async def test_each_kind_is_done_at_least_once_whatever_the_dice(seed: int, kills: int) -> None:
    made = await _done(Told(), seed, kills)

    assert never_done(made.done) == []
    assert made.kills >= kills
    assert made.wiped


@pytest.mark.parametrize("kills", range(9))
async def test_a_small_campaign_ends_and_wipes_the_broker_and_its_topics_all_the_same(kills: int) -> None:
    made = await _done(Told(), 7, kills)

    assert {"broker away", "topics deleted", "broker wiped"} <= (+made.done).keys()


async def topics_are_deleted_once_there_are_some(kills: int) -> None:
    made = await _done(Told(not_yet=20), 7, kills)

    assert made.done["topics deleted"] == 5, "no topics were deleted"


@pytest.mark.parametrize("kills", [0, 6, 30])
async def test_topics_that_are_not_there_yet_are_waited_for(kills: int) -> None:
    await topics_are_deleted_once_there_are_some(kills)


async def test_planted_topics_that_are_looked_for_once_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was: a campaign of six kills said « 0 topics deleted » twice and was green."""
    monkeypatch.setattr(faults, "_TRIES", 1)

    with red("no topics were deleted"):
        await topics_are_deleted_once_there_are_some(6)


async def test_what_a_small_campaign_passes_over_is_named_and_is_no_failure_and_of_a_large_one_it_is() -> None:
    made = await _done(Told(away=frozenset({"PostgreSQL"})), 7)

    assert never_done(made.done) == ["PostgreSQL"]
    assert failures(Clients(), made.done, len(KINDS) - 1) == []
    assert failures(Clients(), made.done, len(KINDS)) == ["never done: PostgreSQL"]


async def test_planted_a_part_that_is_never_killed_is_told() -> None:
    made = await _done(Told(away=frozenset({"referrals worker 2", "PostgreSQL"})), 7)

    assert never_done(made.done) == ["referrals worker 2", "PostgreSQL"]


async def test_planted_topics_that_are_never_deleted_are_told() -> None:
    made = await _done(Told(topics=0), 7)

    assert never_done(made.done) == ["topics deleted"]


async def test_planted_the_dice_alone_pass_kinds_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the deck that is dealt first: of twenty campaigns of the size of CI most would have shown less than they say."""
    begin = Faults.__init__

    def without_deck(self: Faults, *given: Any) -> None:
        begin(self, *given)
        self._first.clear()

    monkeypatch.setattr(Faults, "__init__", without_deck)

    passed_over = [never_done((await _done(Told(), seed)).done) for seed in range(20)]

    assert sum(map(bool, passed_over)) > 10

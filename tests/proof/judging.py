"""What the databases, the topics, the feeds and reporting hold at the end (gathered by reckoning.py), judged against what the clients were told. Pure."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from libs.chassis import streams
from libs.contracts.audiences import INTERNAL
from libs.contracts.projecting import project
from libs.contracts.pseudonyms import PseudonymKeys
from libs.contracts.registry import EVENTS
from tests.proof.accounts import Verdict
from tests.proof.told import Told

_TOLD = frozenset({"referral", "contact", "interview", "assessment", "alert", "orientation"})
"""The nouns of the facts that the clients are told of."""


@dataclass
class Stream:
    """One stream of a service by each of its doors: the database, its topic and its feed where there is one."""

    name: str
    head: streams.Place
    begin: streams.Place
    kept: list[streams.Record]
    topic: list[streams.Record] | None = None
    feed: list[streams.Record] | None = None
    uncommitted: dict[str, int] = field(default_factory=dict)
    """By listener: how many messages of the topic its consumer group has not committed. One that hears by the feed alone has committed none."""


@dataclass
class Held:
    said: dict[str, list[Stream]]
    """Its streams, by service."""
    keys: dict[str, PseudonymKeys]
    """By service."""
    waiting: dict[str, int]
    """What was parked, what is left in an outbox, and the like: nothing should."""
    referrals: dict[str, str]
    """By id, the state in its row; and likewise the states of its orientations."""
    orientations: dict[str, dict[str, str]]
    facts: dict[str, list[tuple[int, str, str]]]
    """Reporting's log by source, in the order heard: sequence, type, data."""
    rebuilt: Mapping[str, int]
    """Table → rows that differ between the live figures and those rebuilt from the log."""
    figures: dict[str, dict[str, int]]
    """What reporting counts, by measure and code (`total`: all of it)."""
    answers: dict[str, dict[str, int]]
    """What partners counts, by service: accepted, rejected."""

    def internal(self, service: str) -> list[streams.Record]:
        return next((stream.kept for stream in self.said[service] if stream.name == INTERNAL), [])


def judge(told: Told, held: Held, *, wiped: bool) -> Verdict:
    """`wiped`: the broker or its topics were, so that a topic begins anywhere."""
    verdict = Verdict()
    for where, number in held.waiting.items():
        verdict.add(where, missing=number)
    for service, found in held.said.items():
        for stream in found:
            _stream(verdict, service, stream, whole=not wiped)
        compare_with_grants(verdict, service, {stream.name: stream.kept for stream in found}, held.keys[service])
    _referrals(verdict, told, held)
    _reporting(verdict, told, held)
    return verdict


def _stream(verdict: Verdict, service: str, stream: Stream, *, whole: bool) -> None:
    where = f"{service}, {stream.name}"
    unread = max(1, len(stream.kept))
    verdict.add(f"{where}, a topic that nobody read", missing=unread * (stream.topic is None and streams.has_topic(stream.name)))
    verdict.add(f"{where}, a feed that nobody read", missing=unread * (stream.feed is None and stream.name != streams.AUDIT))
    verdict.stream(f"{where}, database", stream.kept, stream.head, stream.begin)
    if stream.topic is not None:
        by_number = {record.sequence: record for record in stream.kept}
        verdict.topic(f"{where}, topic", stream.topic, by_number, stream.head.sequence, whole=whole)
    if stream.feed is not None:
        wrong = sum(one != other for one, other in zip(stream.feed, stream.kept, strict=False))
        missing, more = max(0, len(stream.kept) - len(stream.feed)), max(0, len(stream.feed) - len(stream.kept))
        verdict.add(f"{where}, feed", chain_breaks=wrong, missing=missing, doubled=more)
    for listener, number in stream.uncommitted.items():
        verdict.add(f"{where}, heard by {listener} on Kafka", missing=number)


def compare_with_grants(verdict: Verdict, service: str, kept: Mapping[str, Sequence[streams.Record]], keys: PseudonymKeys) -> None:
    """Each audience was told of every fact what audiences.py grants it, once, in the order of each of its subjects: no more and no less."""
    granted: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for record in kept.get(INTERNAL, ()):
        attributes = json.loads(record.attributes)
        event = EVENTS[attributes["type"]].model_validate_json(record.data)
        for one in project(event, UUID(attributes["id"]), keys):
            if one.audience != INTERNAL:
                granted[one.audience][one.subject].append(_said(one.event_id, one.data))
    for stream in sorted((kept.keys() | granted.keys()) - {INTERNAL, streams.AUDIT}):
        said: dict[str, list[str]] = defaultdict(list)
        for record in kept.get(stream, ()):
            attributes = json.loads(record.attributes)
            said[attributes["subject"]].append(_said(attributes["id"], record.data))
        verdict.compare(f"{service}, granted / said to {stream}", granted.get(stream, {}), said)


def _said(event_id: str, data: bytes) -> str:
    return f"{event_id} {hashlib.sha256(data).hexdigest()}"


def _referrals(verdict: Verdict, told: Told, held: Held) -> None:
    """The clients' account against the events said, and against the rows."""
    said: dict[str, list[str]] = defaultdict(list)
    for record in held.internal("referrals"):
        fact = json.loads(record.attributes)["type"].removeprefix("fr.maillon.").removesuffix(".v1")
        if fact.partition(".")[0] in _TOLD:
            said[json.loads(record.data)["referral_id"]].append(fact)
    verdict.compare("told / said", told.facts, said)
    verdict.add("told, of two who changed one version not one was told that it changed", doubled=told.unfair)
    verdict.compare("told / referrals", _listed(told.statuses), _listed(held.referrals))
    for referral_id in sorted(told.orientations.keys() | held.orientations.keys()):
        ours, theirs = told.orientations.get(referral_id, {}), held.orientations.get(referral_id, {})
        verdict.compare(f"told / orientations of {referral_id}", _listed(ours), _listed(theirs))


def _listed(states: Mapping[str, str]) -> dict[str, list[str]]:
    return {one: [state] for one, state in states.items()}


def _reporting(verdict: Verdict, told: Told, held: Held) -> None:
    """Every fact that was said is in reporting's log once, in order; the figures rebuilt from it equal the live ones; they are what the clients did."""
    for source, heard in held.facts.items():
        said = [(record.sequence, json.loads(record.attributes)["type"], record.data.decode()) for record in held.internal(source)]
        gone = {number for number, _, data in said if any(person in data for person in told.erased)}
        verdict.compare("said / reporting's log", {source: _logged(said, gone)}, {source: _logged(heard, gone)})
        left = sum(person in data for _, _, data in heard for person in told.erased)
        verdict.add(f"reporting, persons of {source} that were erased", missing=left)
    verdict.add("reporting, rebuilt beside the live figures", missing=sum(held.rebuilt.values()))
    for measure, numbers in told.figures().items():
        counted = held.figures.get(measure, {})
        for code in sorted(numbers.keys() | counted.keys()):
            verdict.count(f"reporting, {measure}, {code}", numbers.get(code, 0), counted.get(code, 0))
    for service_id in sorted(told.answers.keys() | held.answers.keys()):
        ours, theirs = told.answers.get(service_id, Counter()), held.answers.get(service_id, {})
        for answer in ("accepted", "rejected"):
            verdict.count(f"partners, {service_id}, {answer}", ours[answer], theirs.get(answer, 0))


def _logged(facts: Sequence[tuple[int, str, str]], gone: set[int]) -> list[str]:
    """Each fact by number, type and content; of those about who was erased the log keeps another content than was said."""
    return [f"{number} {type}" if number in gone else f"{number} {type} {_plain(data)}" for number, type, data in facts]


def _plain(data: str) -> str:
    content: Any = json.loads(data)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

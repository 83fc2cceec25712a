"""The judgement of `make proof` is red for each thing that can be wrong at the end, and green for a house in which nothing is."""

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from uuid import UUID, uuid5

import pytest
import structlog

from libs.chassis import streams
from libs.contracts import demonstration as d
from libs.contracts.audiences import INTERNAL
from libs.contracts.projecting import project
from libs.contracts.pseudonyms import PseudonymKeys
from libs.contracts.registry import EVENTS
from tests.proof import __main__ as proof
from tests.proof.__main__ import failures, main, progress, quiet, telling
from tests.proof.faults import KINDS, never_done
from tests.proof.judging import Held, Stream, judge
from tests.proof.told import Told

SAMPLES = Path("libs/contracts/samples")
KEYS = PseudonymKeys(b"k" * 32)
ONE, OTHER, ORIENTATION, SERVICE = str(d.REFERRAL), str(uuid5(d.REFERRAL, "other")), str(d.ORIENTATION), str(d.VICTIM_SUPPORT_SERVICE)
CLEAN = {"missing": 0, "doubled": 0, "out_of_order": 0, "chain_breaks": 0}
LIFE = (
    *((ONE, fact) for fact in ("referral.received", "referral.assigned", "referral.accepted", "contact.attempted")),
    *((OTHER, fact) for fact in ("referral.received", "referral.assigned", "referral.closed")),
    *((ONE, fact) for fact in ("orientation.requested", "orientation.accepted", "referral.closed")),
)


def chained(name: str, said: Iterable[tuple[bytes, bytes]]) -> Stream:
    previous, records = streams.GENESIS, list[streams.Record]()
    for number, (attributes, data) in enumerate(said, 1):
        records.append(streams.Record(name, 1, number, previous, attributes, data))
        previous = records[-1].digest
    made = Stream(name, streams.Place(1, len(records), previous), streams.Place(1, 0, streams.GENESIS), records)
    made.topic = list(records) if streams.has_topic(name) else None
    made.feed = list(records)
    return made


def say_again(stream: Stream, records: Iterable[streams.Record]) -> None:
    """These events instead, rightly numbered and chained by every door: only a comparison can tell."""
    vars(stream).update(vars(chained(stream.name, [(one.attributes, one.data) for one in records])))


@pytest.fixture
def told() -> Told:
    made = Told()
    for referral_id, fact in LIFE:
        noun, _, verb = fact.partition(".")
        if noun == "orientation":
            made.note_orientation(referral_id, ORIENTATION, SERVICE, verb)
        else:
            made.note(referral_id, fact, status=verb if noun == "referral" else None)
    return made


@pytest.fixture
def held() -> Held:
    said: dict[str, list[tuple[bytes, bytes]]] = defaultdict(list)
    for number, (referral_id, fact) in enumerate(LIFE):
        type, event_id = f"fr.maillon.{fact}.v1", uuid5(UUID(ONE), str(number))
        data = json.loads((SAMPLES / f"{type}.json").read_text()) | {"referral_id": referral_id}
        for one in project(EVENTS[type].model_validate_json(json.dumps(data)), event_id, KEYS):
            attributes = {"id": one.event_id, "type": type, "subject": one.subject}
            said[one.audience].append((streams.canonical(attributes), one.data))
    referrals = [chained(name, events) for name, events in said.items()]
    [internal] = [one for one in referrals if one.name == INTERNAL]
    internal.uncommitted = {"reporting": 0}
    return Held(
        said={"referrals": referrals},
        keys={"referrals": KEYS},
        waiting={"referrals, outbox": 0},
        referrals={ONE: "closed", OTHER: "closed"},
        orientations={ONE: {ORIENTATION: "accepted"}},
        facts={"referrals": [(one.sequence, json.loads(one.attributes)["type"], one.data.decode()) for one in internal.kept]},
        rebuilt={},
        figures={"situations": {"closed": 2}, "orientations": {"accepted": 1}, "contacted": {"total": 1}, "persons": {"total": 4}},
        answers={SERVICE: {"accepted": 1, "rejected": 0}},
    )


def stream(held: Held, audience: str) -> Stream:
    return next(one for one in held.said["referrals"] if one.name.partition(":")[0] == audience)


def test_nothing_wrong_is_nothing_found(told: Told, held: Held) -> None:
    assert judge(told, held, wiped=False).findings == []


def lost_in_the_database(held: Held) -> None:
    del held.referrals[OTHER]


def a_row_with_another_state(held: Held) -> None:
    held.referrals[OTHER] = "accepted"


def a_referral_nobody_posted(held: Held) -> None:
    held.referrals[str(UUID(int=9))] = "assigned"


def an_orientation_with_another_state(held: Held) -> None:
    held.orientations[ONE][ORIENTATION] = "requested"


def an_orientation_of_another_id(held: Held) -> None:
    held.orientations[ONE] = {str(UUID(int=9)): "accepted"}


def left_in_the_outbox(held: Held) -> None:
    held.waiting["referrals, outbox"] = 1


def changed_in_the_database(held: Held) -> None:
    kept = stream(held, INTERNAL).kept
    changed = kept[3]
    kept[3] = streams.Record(changed.stream, 1, 4, changed.previous_digest, changed.attributes, changed.data.replace(b"phone", b"visit"))


def not_on_the_topic(held: Held) -> None:
    topic = stream(held, "interior").topic
    assert topic
    del topic[2]


def a_feed_that_nobody_read(held: Held) -> None:
    stream(held, "organization").feed = None


def a_topic_that_nobody_read(held: Held) -> None:
    stream(held, "departement").topic = None


def not_in_the_feed(held: Held) -> None:
    feed = stream(held, "justice").feed
    assert feed
    del feed[-1]


def an_audience_that_was_not_told(held: Held) -> None:
    justice = stream(held, "justice")
    say_again(justice, justice.kept[:-1])


def an_audience_that_was_told_twice(held: Held) -> None:
    local = stream(held, "departement")
    say_again(local, [*local.kept, local.kept[-1]])


def an_audience_told_in_another_order(held: Held) -> None:
    association = stream(held, "organization")
    say_again(association, reversed(association.kept))


def an_audience_told_what_is_not_granted(held: Held) -> None:
    justice = stream(held, "justice")
    said = [*justice.kept]
    said[0] = streams.Record("justice", 1, 1, streams.GENESIS, said[0].attributes, stream(held, INTERNAL).kept[0].data)
    say_again(justice, said)


def an_audience_that_has_no_stream(held: Held) -> None:
    held.said["referrals"].remove(stream(held, "organization"))


def heard_by_the_feed_alone(held: Held) -> None:
    stream(held, INTERNAL).uncommitted["reporting"] = 10


def not_heard_by_reporting(held: Held) -> None:
    del held.facts["referrals"][5]


def heard_twice_by_reporting(held: Held) -> None:
    held.facts["referrals"].append(held.facts["referrals"][-1])


def heard_in_another_order(held: Held) -> None:
    held.facts["referrals"].reverse()


def heard_otherwise(held: Held) -> None:
    number, type, data = held.facts["referrals"][3]
    held.facts["referrals"][3] = (number, type, data.replace("phone", "visit"))


def rebuilt_otherwise(held: Held) -> None:
    held.rebuilt = {"situations": 1}


def a_figure_too_low(held: Held) -> None:
    held.figures["persons"]["total"] = 3


def a_figure_too_high(held: Held) -> None:
    held.figures["contacted"]["total"] = 2


def a_figure_under_another_state(held: Held) -> None:
    held.figures["situations"] = {"closed": 1, "accepted": 1}


def an_answer_that_partners_did_not_count(held: Held) -> None:
    held.answers[SERVICE]["accepted"] = 0


ONE_OF_EACH = {"missing": 1, "doubled": 1}


@pytest.mark.parametrize(
    ("fault", "counts"),
    [
        (lost_in_the_database, {"missing": 1}),
        (a_row_with_another_state, ONE_OF_EACH),
        (a_referral_nobody_posted, {"doubled": 1}),
        (an_orientation_with_another_state, ONE_OF_EACH),
        (an_orientation_of_another_id, ONE_OF_EACH),
        (left_in_the_outbox, {"missing": 1}),
        # in the chain, against the topic and the feed; and reporting heard another one
        (changed_in_the_database, ONE_OF_EACH | {"chain_breaks": 3}),
        (not_on_the_topic, {"missing": 1}),
        (not_in_the_feed, {"missing": 1}),
        (a_feed_that_nobody_read, {"missing": 2}),
        (a_topic_that_nobody_read, {"missing": 10}),
        (an_audience_that_was_not_told, {"missing": 1}),
        (an_audience_that_was_told_twice, {"doubled": 1}),
        (an_audience_told_in_another_order, {"out_of_order": 1}),
        (an_audience_told_what_is_not_granted, ONE_OF_EACH),
        (an_audience_that_has_no_stream, {"missing": 2}),
        (heard_by_the_feed_alone, {"missing": 10}),
        (not_heard_by_reporting, {"missing": 1}),
        (heard_twice_by_reporting, {"doubled": 1}),
        (heard_in_another_order, {"out_of_order": 1}),
        (heard_otherwise, ONE_OF_EACH),
        (rebuilt_otherwise, {"missing": 1}),
        (a_figure_too_low, {"missing": 1}),
        (a_figure_too_high, {"doubled": 1}),
        (a_figure_under_another_state, ONE_OF_EACH),
        (an_answer_that_partners_did_not_count, {"missing": 1}),
    ],
)
def test_each_fault_is_counted_as_what_it_is(told: Told, held: Held, fault: Callable[[Held], None], counts: dict[str, int]) -> None:
    fault(held)

    verdict = judge(told, held, wiped=False)

    assert verdict.counts == CLEAN | counts, verdict.findings


@pytest.mark.parametrize(
    ("facts", "counts"),
    [
        (("referral.received", "referral.assigned"), {"doubled": 1}),
        (("referral.received", "referral.assigned", "referral.closed", "referral.reopened"), {"missing": 1}),
        (("referral.assigned", "referral.received", "referral.closed"), {"out_of_order": 1}),
    ],
)
def test_what_the_clients_were_told_is_what_was_said(told: Told, held: Held, facts: tuple[str, ...], counts: dict[str, int]) -> None:
    told.facts[OTHER] = list(facts)

    assert judge(told, held, wiped=False).counts == CLEAN | counts


def test_two_who_changed_one_version_and_were_both_told_that_it_is_done_are_counted(told: Told, held: Held) -> None:
    told.unfair = 1

    assert judge(told, held, wiped=False).counts == CLEAN | {"doubled": 1}


def test_who_was_erased_is_looked_for_in_reporting_and_what_stands_there_instead_is_no_difference(told: Told, held: Held) -> None:
    told.erased = {str(d.VICTIM)}
    left = judge(told, held, wiped=False)
    named = sum(str(d.VICTIM) in data for _, _, data in held.facts["referrals"])

    held.facts["referrals"] = [
        (number, type, data.replace(str(d.VICTIM), str(UUID(int=1)))) for number, type, data in held.facts["referrals"]
    ]

    assert (left.counts, named > 0) == (CLEAN | {"missing": named}, True)
    assert judge(told, held, wiped=False).findings == []


def test_a_wiped_topic_may_begin_anywhere_but_goes_to_the_end(told: Told, held: Held) -> None:
    topic = stream(held, INTERNAL).topic
    assert topic
    del topic[:4]
    begins_late = judge(told, held, wiped=True)
    del topic[-1]

    assert begins_late.findings == []
    assert judge(told, held, wiped=True).counts == CLEAN | {"missing": 1}


def test_the_last_line_is_json_and_the_exit_code_1_when_it_comes_to_no_comparison(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--commits", "many"]) == 1

    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last == {"commits": 0, "kills": 0, "events": 0, **dict.fromkeys(CLEAN), "failed": "arguments"}


def test_progress_says_how_long_it_may_still_take() -> None:
    assert progress(2500, 10_000, 30, 30, 60) == " 2500 of 10000 commits,    30 kills (30 are enough),  3.0 min left"
    assert progress(0, 300, 0, 30, 2) == "    0 of 300 commits,     0 of 30 kills"
    assert progress(270, 60, 3, 6, 60) == "  270 commits (60 are enough),     3 of 6 kills,  1.0 min left"


async def test_what_takes_long_says_that_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    said, twice = list[str](), asyncio.Event()

    def say(what: str) -> None:
        said.append(what)
        if len(said) == 3:
            twice.set()

    async with telling("starting the broker", say, every=0):
        await twice.wait()
    heard = len(said)
    await asyncio.sleep(0)

    assert said[:3] == ["starting the broker", "still starting the broker", "still starting the broker"]
    assert len(said) == heard


def test_the_account_is_not_mixed_with_what_a_part_of_the_house_logs(capsys: pytest.CaptureFixture[str]) -> None:
    before = structlog.get_config()
    try:
        quiet()
        structlog.get_logger().info("rebuild.done", events=1033)
        structlog.get_logger().warning("rebuild.differs")
    finally:
        structlog.configure(**before)

    written = capsys.readouterr()
    assert (written.out, "rebuild.done" in written.err, "rebuild.differs" in written.err) == ("", False, True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_fault_that_a_campaign_passed_over_is_told(kind: str) -> None:
    done = dict.fromkeys(KINDS, 1)

    assert never_done(done) == []
    assert never_done(done | {kind: 0}) == [kind]
    assert failures(Told(), done | {kind: 0}, 30) == [f"never done: {kind}"]
    assert failures(Told(), done | {kind: 0}, 10) == [], "too few kills for each kind"


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({}, 0),
        *(({count: 1}, 1) for count in CLEAN),
        *(({count: None}, 1) for count in CLEAN),
        ({"failed": "never done: PostgreSQL"}, 1),
    ],
    ids=str,
)
def test_the_exit_code_is_1_unless_all_four_numbers_are_0_and_every_fault_was_done(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: dict[str, int | str | None], code: int
) -> None:
    async def campaign(chosen: object, folder: Path, found: dict[str, int | str | None]) -> None:
        found.update(CLEAN | fault)

    monkeypatch.setattr(proof, "campaign", campaign)

    assert main(["--keep", str(tmp_path)]) == code
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"commits": 0, "kills": 0, "events": 0, **CLEAN, **fault}

"""The comparison: what was told against what is held, aggregate by aggregate, and the chain of a stream. Knows no service."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from libs.chassis import streams


@dataclass
class Verdict:
    """All four are 0, or something is wrong; `findings` says what, one sentence each."""

    missing: int = 0
    doubled: int = 0
    out_of_order: int = 0
    chain_breaks: int = 0
    findings: list[str] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        found = asdict(self)
        del found["findings"]
        return found

    @property
    def clean(self) -> bool:
        return not any(self.counts.values())

    def add(self, where: str, *, missing: int = 0, doubled: int = 0, out_of_order: int = 0, chain_breaks: int = 0) -> None:
        self.missing += missing
        self.doubled += doubled
        self.out_of_order += out_of_order
        self.chain_breaks += chain_breaks
        found = {"missing": missing, "doubled": doubled, "out of order": out_of_order, "chain breaks": chain_breaks}
        if wrong := ", ".join(f"{number} {name}" for name, number in found.items() if number):
            self.findings.append(f"{where}: {wrong}")

    def compare(self, where: str, told: Mapping[str, Sequence[str]], held: Mapping[str, Sequence[str]]) -> None:
        """Aggregate → its facts in order, as one side was told of them and as the other holds them."""
        for aggregate in sorted(told.keys() | held.keys()):
            ours, theirs = Counter(told.get(aggregate, ())), Counter(held.get(aggregate, ()))
            both = ours & theirs
            swapped = _only(told.get(aggregate, ()), both) != _only(held.get(aggregate, ()), both)
            self.add(
                f"{where}, {aggregate}",
                missing=(ours - theirs).total(),
                doubled=(theirs - ours).total(),
                out_of_order=int(swapped),
            )

    def count(self, where: str, told: int, counted: int) -> None:
        self.add(f"{where} ({counted} of {told})", missing=max(0, told - counted), doubled=max(0, counted - told))

    def stream(self, where: str, records: Sequence[streams.Record], head: streams.Place, before: streams.Place) -> None:
        """A stream read whole, after `before`: numbers without a hole, each chained to the one before, the last one the head."""
        number, previous, breaks = before.sequence, before.digest, 0
        for record in records:
            breaks += record.sequence != number + 1 or record.previous_digest != previous
            number, previous = record.sequence, record.digest
        breaks += (number, previous) != (head.sequence, head.digest)
        self.add(where, chain_breaks=breaks, missing=max(0, head.sequence - before.sequence - len({record.sequence for record in records})))

    def topic(self, where: str, found: Sequence[streams.Record], kept: Mapping[int, streams.Record], head: int, *, whole: bool) -> None:
        """What a listener finds on a topic. A batch may come again; nothing else may come than the stream's own events, and no number is skipped.

        `whole`: the topic was never wiped, so it holds everything; else it begins anywhere, and may be empty.
        """
        highest = 0 if whole or not found else found[0].sequence - 1
        skipped = foreign = 0
        for record in found:
            foreign += kept.get(record.sequence) != record
            skipped += max(0, record.sequence - highest - 1)
            highest = max(highest, record.sequence)
        if whole or found:
            skipped += max(0, head - highest)
        self.add(where, missing=skipped, chain_breaks=foreign)


def _only(facts: Iterable[str], these: Counter[str]) -> list[str]:
    left, kept = Counter(these), []
    for fact in facts:
        if left[fact]:
            left[fact] -= 1
            kept.append(fact)
    return kept

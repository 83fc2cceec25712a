"""What was noted by mistake and taken back is counted as if it had never been noted."""

import pytest

from libs.chassis.database import Database
from libs.contracts.envelope import Event
from libs.contracts.vocabularies import AlertKind
from services.reporting import rebuild
from tests.services.reporting import telling
from tests.services.reporting.test_counting import empty, figures, hear


async def test_what_was_noted_by_mistake_is_counted_no_longer_once_none_of_its_kind_is_left(database: Database) -> None:
    report = AlertKind.PROSECUTOR_REPORT
    told = [telling.received(1), telling.alerted(1), telling.alerted(1), telling.alerted(1, report)]
    await hear(database, telling.heard("referrals", [*told, telling.alert_withdrawn(1, last=False)]))

    async def counted() -> dict[str, int]:
        return {row[4]: row[5] for row in (await figures(database))["tallies"] if row[1] == "alerts" and row[5]}

    assert await counted() == {"concerning_information": 1, "prosecutor_report": 1}
    later = [telling.alert_withdrawn(1), telling.alert_withdrawn(1, report)]
    await hear(database, telling.heard("referrals", later, after=5))
    assert await counted() == {"": 1}
    assert (await rebuild.rebuild(database)).equal


@pytest.mark.parametrize("left", [None, 120])
async def test_the_figures_are_those_of_a_world_where_the_contact_that_was_withdrawn_was_never_noted(
    database: Database, left: int | None
) -> None:
    """Rather than the one of 90 minutes there is none, or one after two hours."""
    begun: list[Event] = [telling.received(1), telling.assigned(1), telling.accepted(1)]
    rather: list[Event] = [] if left is None else [telling.contacted(1, minutes=left, first=False)]
    ends: list[Event] = [telling.closed(1)]
    await hear(
        database, telling.heard("referrals", [*begun, telling.contacted(1), *rather, telling.contact_withdrawn(1, minutes=left), *ends])
    )
    withdrawn = await figures(database)
    assert (await rebuild.rebuild(database)).equal

    await empty(database)
    never: list[Event] = [] if left is None else [telling.contacted(1, minutes=left)]
    await hear(database, telling.heard("referrals", [*begun, *never, *ends]))

    assert withdrawn == await figures(database)
    [row] = withdrawn["situations"]
    assert (90 in row, left is None or left in row) == (False, True)


async def test_the_figures_are_those_of_a_world_where_the_assessment_that_was_withdrawn_was_never_noted(database: Database) -> None:
    received = telling.received(1)
    before = received.persons[0].known_to_services
    assert before is not telling.assessed(1).known_to_services
    begun: list[Event] = [received, telling.assigned(1), telling.accepted(1), telling.contacted(1)]
    await hear(
        database, telling.heard("referrals", [*begun, telling.assessed(1), telling.assessment_withdrawn(1, before), telling.closed(1)])
    )
    withdrawn = await figures(database)
    assert (await rebuild.rebuild(database)).equal

    await empty(database)
    await hear(database, telling.heard("referrals", [*begun, telling.closed(1)]))

    assert withdrawn == await figures(database)

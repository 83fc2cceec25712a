"""Figures over HTTP: the right numbers, to the right readers, with how far was heard."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from libs.contracts import demonstration as d
from libs.contracts.envelope import Event
from libs.contracts.vocabularies import CloseReason
from services.reporting import handlers
from services.reporting.app import SERVICE
from services.reporting.domain import months_of
from services.reporting.indicators import MEASURES
from services.reporting.models import Table
from services.reporting.reading import breakdowns
from tests.chassis.openapi_examples import try_examples
from tests.documents import differences
from tests.services.reporting import telling
from tests.serving import Served, served


@pytest.fixture
async def reporting(database_url: Callable[[str | None], str]) -> AsyncIterator[Served]:
    """Seven situations in the Val-d'Oise in March, one on 31 December (Paris), one in the Yvelines; two posts, two plans."""
    async with served(SERVICE, database_url("reporting")) as service:
        assert service.runtime.consumer is not None
        await service.runtime.consumer.projector.ensure_cursors()
        lives = [event for number in range(1, 8) for event in _life(number)]
        new_year = telling.received(8, at=datetime(2026, 12, 31, 23, 30, tzinfo=UTC))
        elsewhere = telling.received(9, "78", commune="78646")
        told: dict[str, list[Event]] = {
            "referrals": [*lives, new_year, elsewhere],
            "partners": [telling.post_opened(), telling.post_opened(telling.OTHER_POST, filled=False)],
            "funding": [telling.planned(1), telling.planned(2, departement="78", amounts=(6_000_000,))],
        }
        for source, events in told.items():
            async with service.runtime.database.transaction() as session:
                await handlers.on_batch(session, telling.heard(source, events))
                await session.execute(
                    text(
                        "UPDATE cursors SET sequence = :n, head_epoch = 1, head_sequence = :head, head_seen_at = now() WHERE source = :source"
                    ),
                    {"n": len(events), "head": len(events) + 1, "source": source},
                )
        yield service


def _life(number: int) -> list[Event]:
    start: list[Event] = [telling.received(number, at=telling.NOON + timedelta(days=number))]
    if number <= 5:
        start += [
            telling.assigned(number),
            telling.accepted(number),
            telling.contacted(number, minutes=number * 60),
            *telling.oriented(number),
        ]
    return start


async def figure(service: Served, who: str, measure: str, by: str = "total", **query: Any) -> dict[str, Any]:
    answer = await service.get(who, "/v1/figures", measure=measure, by=by, **query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def cells(found: dict[str, Any]) -> dict[str, int | None]:
    return {cell["code"]: cell["value"] for cell in found["cells"]}


async def test_situations_and_persons_are_counted_apart(reporting: Served) -> None:
    situations = await figure(reporting, "coordinator-95", "situations")
    persons = await figure(reporting, "coordinator-95", "persons", "sex")

    assert (situations["total"]["value"], situations["unit"]) == (8, "situations")
    assert (persons["total"]["value"], persons["unit"]) == (16, "personnes")
    assert cells(persons) == {"female": 8, "male": 8}


async def test_a_situation_of_half_past_midnight_in_paris_belongs_to_the_new_year(reporting: Served) -> None:
    months = await figure(reporting, "coordinator-95", "situations", "month")
    year = await figure(reporting, "coordinator-95", "situations", **{"from": "2026-01-01", "until": "2026-12-31"})

    assert cells(months) == {"2026-03": 7, "2027-01": 1}
    assert year["total"]["value"] == 7


async def test_persons_and_situations_seen_before_are_told_from_new_ones_with_their_definition(reporting: Served) -> None:
    persons = await figure(reporting, "coordinator-95", "persons", "seen_before")
    situations = await figure(reporting, "coordinator-95", "situations", "seen_before")

    assert cells(persons) == {"": 2, "false": 11, "true": 3}
    assert cells(situations) == {"false": 5, "true": 3}
    assert [cell["label"] for cell in persons["cells"]] == ["Non renseigné", "Nouvelle", "Déjà connue"]
    assert "homonymes" in persons["by"]["definition"]


async def test_few_persons_seen_before_are_hidden_from_a_ministry(reporting: Served) -> None:
    found = await figure(reporting, "interior", "situations", "seen_before", departement="95")

    assert [(cell["code"], cell["value"]) for cell in found["cells"]] == [("false", 5), ("true", None)]
    assert found["total"] == {"value": None, "suppressed": True}


async def test_a_correction_leaves_a_person_seen_before_as_reception_told(reporting: Served) -> None:
    async with reporting.runtime.database.transaction() as session:
        heard = telling.heard("referrals", [telling.corrected(2), telling.corrected(5, persons=(telling.person(5, 2),))], after=100)
        await handlers.on_batch(session, heard)

    assert cells(await figure(reporting, "coordinator-95", "persons", "seen_before")) == {"": 2, "false": 11, "true": 2}
    assert cells(await figure(reporting, "coordinator-95", "situations", "seen_before")) == {"false": 6, "true": 2}


async def tell(reporting: Served, *events: Event, after: int = 100) -> None:
    async with reporting.runtime.database.transaction() as session:
        await handlers.on_batch(session, telling.heard("referrals", events, after=after))


async def test_duplicates_are_neither_new_nor_known_and_are_subtracted_by_their_reason(reporting: Served) -> None:
    await tell(reporting, telling.closed(2, reason=CloseReason.DUPLICATE), telling.closed(4))

    persons = await figure(reporting, "coordinator-95", "persons", "seen_before")
    assert cells(persons) == {"": 2, "duplicate": 2, "false": 10, "true": 2}
    assert {cell["code"]: cell["label"] for cell in persons["cells"]}["duplicate"] == "Doublon"
    assert "retranchée" in persons["by"]["definition"]
    assert cells(await figure(reporting, "coordinator-95", "situations", "seen_before")) == {"duplicate": 1, "false": 5, "true": 2}
    assert cells(await figure(reporting, "coordinator-95", "persons", "close_reason")) == {"": 12, "duplicate": 2, "oriented": 2}
    edges = {"from": "2026-03-02", "until": "2026-03-30"}  # out of the rows
    assert cells(await figure(reporting, "coordinator-95", "persons", "seen_before", **edges))["duplicate"] == 2

    await tell(reporting, telling.reopened(2), after=200)
    assert cells(await figure(reporting, "coordinator-95", "persons", "seen_before")) == {"": 2, "false": 11, "true": 3}


async def test_who_is_never_called_lowers_the_share_within_target_which_is_the_agreements(reporting: Served) -> None:
    """Five were contacted after one to five hours; of the sixth and seventh nothing was heard."""
    assert (await figure(reporting, "coordinator-95", "contact_overdue"))["total"]["value"] == 0
    await tell(
        reporting,
        telling.overdue(3, minutes=120),  # an agreement's two hours, where the network has three days
        telling.overdue(1, minutes=120),  # noted late: it was called after one hour
        telling.overdue(6),
    )

    assert (await figure(reporting, "coordinator-95", "contacted_within_target"))["total"]["value"] == 4
    assert (await figure(reporting, "coordinator-95", "contact_overdue"))["total"]["value"] == 2
    await tell(reporting, telling.contacted(6, minutes=600), after=200)
    assert (await figure(reporting, "coordinator-95", "contact_overdue"))["total"]["value"] == 2
    assert (await figure(reporting, "coordinator-95", "contacted"))["total"]["value"] == 6


async def test_a_situation_twice_overdue_is_within_target_no_more_though_called_before_the_second_due_time(reporting: Served) -> None:
    await tell(reporting, telling.overdue(3, minutes=120), telling.overdue(3, minutes=600))  # called after three hours

    assert (await figure(reporting, "coordinator-95", "contacted_within_target"))["total"]["value"] == 4
    assert (await figure(reporting, "coordinator-95", "contact_overdue"))["total"]["value"] == 1


async def test_a_correction_tells_the_first_contact_of_who_is_to_be_helped_in_truth(reporting: Served) -> None:
    """The third was called after three hours, of the sixth nothing was heard; of the fourth a speaker of before tells nothing of it."""
    await tell(
        reporting,
        telling.overdue(3, minutes=240),
        telling.overdue(6, minutes=240),
        telling.overdue(4, minutes=300),
        telling.corrected(3, contact_attempted=False),  # somebody else was called
        telling.corrected(6, contact_attempted=True, first_attempted_at=telling.NOON + timedelta(minutes=60), delay_minutes=60),
        telling.corrected(4),
    )

    assert (await figure(reporting, "coordinator-95", "contacted"))["total"]["value"] == 5
    assert (await figure(reporting, "coordinator-95", "contact_overdue"))["total"]["value"] == 1
    assert (await figure(reporting, "coordinator-95", "contacted_within_target"))["total"]["value"] == 5


async def test_themes_that_overlap_are_no_partition_and_say_so(reporting: Served) -> None:
    principal = await figure(reporting, "coordinator-95", "situations", "theme")
    every = await figure(reporting, "coordinator-95", "situations", "themes")

    assert (cells(principal), principal["by"]["partition"]) == ({"couple_violence": 8}, True)
    assert (cells(every), every["by"]["partition"]) == ({"couple_violence": 8, "housing": 8}, False)
    assert every["total"]["value"] == 8
    assert every["cells"][0]["label"] == "Violences dans le couple"


async def test_any_interval_of_days_is_counted(reporting: Served) -> None:
    found = await figure(reporting, "coordinator-95", "situations", "status", **{"from": "2026-03-04", "until": "2027-01-01"})

    assert found["total"]["value"] == 7
    assert cells(found) == {"accepted": 4, "received": 3}


async def test_each_answer_says_how_far_each_source_was_heard(reporting: Served) -> None:
    found = await figure(reporting, "coordinator-95", "situations")

    seen = {one["source"]: (one["sequence"], one["head_sequence"]) for one in found["complete_up_to"]}
    assert seen == {"referrals": (38, 39), "partners": (2, 3), "funding": (2, 3)}
    assert all(one["head_seen_at"] for one in found["complete_up_to"])


async def test_delays_orientations_posts_and_money(reporting: Served) -> None:
    who = "coordinator-95"

    assert (await figure(reporting, who, "first_contact_median"))["total"]["value"] == 180
    assert (await figure(reporting, who, "first_contact_p90"))["total"]["value"] == 300
    assert (await figure(reporting, who, "contacted"))["total"]["value"] == 5
    assert (await figure(reporting, who, "contacted_within_target"))["total"]["value"] == 5
    assert cells(await figure(reporting, who, "orientations", "status")) == {"completed": 2, "rejected": 3}
    assert cells(await figure(reporting, who, "orientations", "rejection"))["no_capacity"] == 3
    assert cells(await figure(reporting, who, "posts", "state")) == {"filled": 1, "vacant": 1}
    assert cells(await figure(reporting, "interior", "gap", "departement")) == {"78": 0, "95": 3_000_000}
    assert (await figure(reporting, "interior", "funded", "funder_kind"))["total"]["value"] == 9_000_000
    assert (await figure(reporting, who, "budget", "year", **{"from": "2027-01-01"}))["total"]["value"] == 0


async def test_a_coordinator_sees_its_own_departement_in_full_and_no_other(reporting: Served) -> None:
    own = await figure(reporting, "coordinator-78", "situations", "departement")
    other = await reporting.get("coordinator-78", "/v1/figures", measure="situations", departement="95")

    assert (cells(own), own["threshold"], own["cells"][0]["label"]) == ({"78": 1}, None, "Yvelines")
    assert other.status_code == 404


async def test_small_cells_are_hidden_from_a_ministry_and_the_total_does_not_give_one_away(reporting: Served) -> None:
    departements = await figure(reporting, "interior", "situations", "departement")
    statuses = await figure(reporting, "interior", "situations", "status", departement="95")

    assert departements["threshold"] == 5
    assert [(cell["code"], cell["value"], cell["suppressed"]) for cell in departements["cells"]] == [("78", None, True), ("95", 8, False)]
    assert departements["total"] == {"value": None, "suppressed": True}
    assert [(cell["code"], cell["value"]) for cell in statuses["cells"]] == [("accepted", 5), ("received", None)]
    assert (await figure(reporting, "interior", "first_contact_median", departement="78"))["total"] == {"value": None, "suppressed": False}


@pytest.mark.parametrize(
    ("who", "query", "status"),
    [
        ("police-95", {"measure": "situations"}, 403),
        ("police-95", {"measure": "persons", "by": "seen_before"}, 403),
        ("iscg-95", {"measure": "situations"}, 403),
        ("interior", {"measure": "situations", "by": "unit"}, 403),
        ("funder-95", {"measure": "situations", "by": "commune", "departement": "95"}, 403),
        ("funder-95", {"measure": "gap", "by": "post"}, 200),
        ("funder-95", {"measure": "situations", "departement": "78"}, 404),
        ("interior", {"measure": "situations", "from": "2026-03-02"}, 422),
        ("interior", {"measure": "situations", "until": "2026-03-31"}, 200),
        ("coordinator-95", {"measure": "situations", "by": "commune"}, 422),
        ("coordinator-95", {"measure": "situations", "by": "commune", "departement": "95"}, 200),
        ("coordinator-95", {"measure": "posts", "from": "2026-01-01"}, 422),
        ("coordinator-95", {"measure": "situations", "from": "2026-02-01", "until": "2026-01-01"}, 422),
        ("coordinator-95", {"measure": "nothing"}, 422),
        ("coordinator-95", {"measure": "persons", "by": "theme"}, 422),
        ("coordinator-95", {"measure": "situations", "from": "yesterday"}, 422),
        ("coordinator-95", {"measure": "situations", "departement": "20"}, 422),
        ("employer-95", {"measure": "persons"}, 403),
        ("employer-95", {"measure": "situations", "by": "theme"}, 403),
        ("employer-95", {"measure": "budget"}, 200),
    ],
)
async def test_who_may_ask_what(reporting: Served, who: str, query: dict[str, str], status: int) -> None:
    answer = await reporting.get(who, "/v1/figures", **query)

    assert answer.status_code == status, answer.text


async def test_an_employer_reads_the_posts_it_employs(reporting: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    async with reporting.runtime.database.transaction() as session:
        await session.execute(text("UPDATE posts SET employer_id = :own WHERE post_id = :post"), {"own": d.EMPLOYER, "post": telling.POST})

    by_post = await figure(reporting, "employer-95", "situations", "post")
    days = await figure(reporting, "employer-95", "orientations", **{"from": "2026-03-01"})
    posts = await figure(reporting, "employer-95", "posts")
    gap = await figure(reporting, "employer-95", "gap")

    assert cells(by_post) == {str(telling.POST): 5}
    assert days["total"]["value"] == 5
    assert posts["total"]["value"] == 1
    assert gap["total"]["value"] == 3_000_000


async def test_every_measure_answers_every_breakdown(reporting: Served) -> None:
    for measure in MEASURES.values():
        for by in breakdowns(measure):
            interval = {"from": "2026-01-15", "until": "2026-06-10"} if measure.day else {}
            await figure(reporting, "coordinator-95", measure.code, by, departement="95", **interval)


async def test_indicators_have_their_definitions(reporting: Served) -> None:
    answer = await reporting.get("interior", "/v1/indicators")

    known = {one["code"]: one for one in answer.json()["items"]}
    assert known["persons"]["unit"] == "personnes"
    assert {one["code"]: one["partition"] for one in known["situations"]["breakdowns"]}["themes"] is False


async def test_every_example_of_the_document_works_as_it_stands(reporting: Served) -> None:
    assert await try_examples(reporting.client, reporting.openapi(), reporting.token) == []


async def test_the_migrated_database_is_what_the_models_say(reporting: Served) -> None:
    assert await differences(reporting.runtime.database, Table.metadata) == []


days = st.dates(date(2024, 1, 1), date(2027, 12, 31))


@given(first=days, last=days)
def test_whole_months_and_edges_make_up_the_interval_exactly(first: date, last: date) -> None:
    first, last = sorted((first, last))
    months = months_of(first, last)

    covered = {first_day + timedelta(days=n) for first_day, end in months.edges for n in range((end - first_day).days + 1)}
    assert len(covered) == sum((end - start).days + 1 for start, end in months.edges)
    month = months.first if months.some else None
    while month is not None and months.last is not None and month <= months.last:
        following = (month + timedelta(days=31)).replace(day=1)
        whole = {month + timedelta(days=n) for n in range((following - month).days)}
        assert not whole & covered
        covered |= whole
        month = following

    assert covered == {first + timedelta(days=n) for n in range((last - first).days + 1)}

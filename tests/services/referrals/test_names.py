"""The loop that learns how services, posts, units and communes are called, alone: partners is an answer of the test's own."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from libs.chassis import feed as feeds
from libs.chassis.feed import Feed
from libs.chassis.health import Heartbeat
from libs.chassis.security import ServiceToken
from libs.contracts import demonstration as d
from libs.contracts.partners import UnitChanged
from libs.contracts.vocabularies import Force, UnitKind
from services.referrals.directory import names
from services.referrals.directory.called import called
from services.referrals.handlers import bootstrap
from tests.hostile.anything import JSON, some
from tests.services.referrals.conftest import MORNING, Referrals
from tests.services.referrals.test_hearing import nothing
from tests.settings import NOWHERE

POSITION = {"Stream-Position": "1:0"}
DIGEST = httpx.Response(200, json={"digest": "00" * 32})
Answer = Callable[[httpx.Request], httpx.Response]


class Directory:
    """What partners answers: `items` by list; and what it was asked."""

    def __init__(self) -> None:
        self.items: dict[str, list[Any]] = {
            "services": [
                {
                    "id": str(d.VICTIM_SUPPORT_SERVICE),
                    "name": "Aide aux victimes de Cergy",
                    "organization_name": "Association Élan",
                    "themes": ["couple_violence"],
                    "description": "Le reste n'est pas gardé.",
                }
            ],
            "posts": [{"id": str(d.POST_CERGY), "label": "Poste d'ISCG de Cergy"}],
            "units": [{"id": str(d.UNIT_CERGY), "label": "CSP Cergy"}],
            "communes": [{"code": "95127", "name": "Cergy"}],
        }
        self.asked: list[str] = []
        self.instead: Answer | None = None

    def answer(self, request: httpx.Request) -> httpx.Response:
        if "/digests/" in request.url.path:
            return DIGEST
        if self.instead is not None:
            return self.instead(request)
        wanted = request.url.path.removeprefix("/v1/")
        departement = parse_qs(request.url.query.decode())["departement"][0]
        self.asked.append(f"{wanted} {departement}")
        return httpx.Response(200, headers=POSITION, json={"items": self.items[wanted] if departement == "95" else []})


@pytest.fixture
async def directory(referrals: Referrals) -> Directory:
    made = Directory()
    token = ServiceToken(
        referrals.runtime.settings,
        client=httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(200, json={"access_token": "t"}))),
    )
    await referrals.runtime.feed.close()
    referrals.runtime.feed = Feed({"partners": NOWHERE}, token, transport=lambda _: httpx.MockTransport(made.answer))
    return made


async def round_of(referrals: Referrals) -> None:
    await names.read_due(referrals.runtime, Heartbeat("names", 1))


async def call(referrals: Referrals) -> list[str]:
    async with referrals.runtime.database.transaction() as session:
        found = await called(
            session, services=[d.VICTIM_SUPPORT_SERVICE], posts=[d.POST_CERGY, None], units=[d.UNIT_CERGY], communes=["95127"]
        )
    service = d.VICTIM_SUPPORT_SERVICE
    return [
        found.service(service), found.organization(service), found.post(d.POST_CERGY), found.unit(d.UNIT_CERGY), found.commune("95127")
    ]  # fmt: skip


async def make_due(referrals: Referrals) -> None:
    async with referrals.runtime.database.transaction() as session:
        await session.execute(text("UPDATE directory_reads SET due_at = now()"))


NAMED = ["Aide aux victimes de Cergy", "Association Élan", "Poste d'ISCG de Cergy", "CSP Cergy", "Cergy (95127)"]


async def test_what_was_heard_of_is_called_by_its_name_and_by_the_end_of_its_id_until_then(
    referrals: Referrals, directory: Directory
) -> None:
    before = await call(referrals)

    await round_of(referrals)
    after = await call(referrals)

    assert before == [
        f"Service …{str(d.VICTIM_SUPPORT_SERVICE)[-8:]}", "", f"Poste …{str(d.POST_CERGY)[-8:]}", f"Unité …{str(d.UNIT_CERGY)[-8:]}", "95127"
    ]  # fmt: skip
    assert after == NAMED
    assert sorted(directory.asked) == sorted(
        f"{one} {place}" for one in ("services", "posts", "units", "communes") for place in ("78", "95")
    )


async def test_what_was_read_is_read_again_when_it_is_heard_of_and_after_some_hours_not_before(
    referrals: Referrals, directory: Directory
) -> None:
    await round_of(referrals)
    directory.asked.clear()
    await round_of(referrals)
    at_rest = list(directory.asked)

    directory.items["units"][0]["label"] = "Commissariat de Cergy"
    changed = UnitChanged(
        departement="95", unit_id=d.UNIT_CERGY, force=Force.POLICE, kind=UnitKind.OTHER, communes=("95127",), changed_at=MORNING
    )
    await referrals.hear("partners", changed)
    await round_of(referrals)
    heard = list(directory.asked)
    directory.items["posts"][0]["label"] = "Poste renommé"  # nothing says so
    [row] = await referrals.rows("SELECT due_at FROM directory_reads WHERE kind = 'posts' AND departement = '95'")
    await make_due(referrals)
    await round_of(referrals)

    assert at_rest == []
    assert heard == ["units 95"]
    assert timedelta(hours=5) < row.due_at - datetime.now(UTC) <= names.AGAIN
    assert (await call(referrals))[2:4] == ["Poste renommé", "Commissariat de Cergy"]


async def test_a_list_that_is_heard_of_while_it_is_read_is_read_once_more(referrals: Referrals, directory: Directory) -> None:
    await round_of(referrals)
    async with referrals.runtime.database.transaction() as session:
        await names.mark(session, names.POSTS, "95")

    async def read_and_mark() -> None:
        async with referrals.runtime.database.transaction() as session:
            taken = await names.claim(session, datetime.now(UTC))
        assert taken is not None
        async with referrals.runtime.database.transaction() as session:
            await names.mark(session, names.POSTS, "95")
            await session.execute(names._READ, taken._asdict() | {"now": datetime.now(UTC), "next": datetime.now(UTC) + names.AGAIN})

    await read_and_mark()
    directory.asked.clear()
    await round_of(referrals)

    assert directory.asked == ["posts 95"]


HOSTILE: dict[str, Answer] = {
    "away": lambda _: httpx.Response(503, json={"type": "unavailable"}),
    "no JSON": lambda _: httpx.Response(200, headers=POSITION, content=b"<html>"),
    "items that are none": lambda _: httpx.Response(200, headers=POSITION, json={"items": ["x"]}),
    "nested too deeply": lambda _: httpx.Response(200, headers=POSITION, content=b"[" * 100_000),
    "going in circles": lambda request: httpx.Response(
        200, headers=POSITION | {"Link": f'<{request.url.raw_path.decode()}>; rel="next"'}, json={"items": []}
    ),
    "without end": lambda request: httpx.Response(
        200,
        headers=POSITION | {"Link": f'<{request.url.path}?cursor={len(request.url.query)}{"x" * len(request.url.query)}>; rel="next"'},
        json={"items": [{}] * 200},
    ),
    "larger than anything": lambda _: httpx.Response(200, headers=POSITION, content=b'{"items": [' + b" " * 20_000 + b"]}"),
}


@pytest.mark.parametrize("how", HOSTILE)
async def test_what_cannot_be_read_is_tried_again_later_and_takes_nothing_away(
    how: str, referrals: Referrals, directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    await round_of(referrals)
    await make_due(referrals)
    monkeypatch.setattr(names, "MOST", 1000)
    monkeypatch.setattr(feeds, "LARGEST", 15_000)
    directory.instead = HOSTILE[how]

    await round_of(referrals)
    once = await referrals.rows("SELECT failures, due_at FROM directory_reads")
    await make_due(referrals)
    await round_of(referrals)
    twice = await referrals.rows("SELECT failures, due_at FROM directory_reads")

    assert {row.failures for row in once} == {1}
    assert {row.failures for row in twice} == {2}
    assert all(timedelta(0) < row.due_at - datetime.now(UTC) <= timedelta(seconds=10) for row in twice)
    assert await call(referrals) == NAMED
    directory.instead = None
    await make_due(referrals)
    await round_of(referrals)
    assert {row.failures for row in await referrals.rows("SELECT failures FROM directory_reads")} == {0}


async def test_an_item_that_is_none_of_ours_is_skipped_and_the_others_are_kept(referrals: Referrals, directory: Directory) -> None:
    bad: list[Any] = [
        {"id": "no id", "label": "x"}, {"label": "x"}, {"id": str(UUID(int=1)), "label": "a\x00b"}, {"id": str(UUID(int=2)), "label": "x" * 201}, {}
    ]  # fmt: skip
    directory.items["posts"] = [*bad, *directory.items["posts"]]

    await round_of(referrals)

    kept = await referrals.rows("SELECT key FROM directory_names WHERE kind = 'posts'")
    assert [row.key for row in kept] == [str(d.POST_CERGY)]


async def test_two_replicas_share_what_is_due(referrals: Referrals, directory: Directory) -> None:
    now = datetime.now(UTC)
    async with referrals.runtime.database.transaction() as one, referrals.runtime.database.transaction() as other:
        first, second = await names.claim(one, now), await names.claim(other, now)
    assert first is not None
    assert second is not None
    assert first[:2] != second[:2]

    await round_of(referrals)

    assert f"{first.kind} {first.departement}" not in directory.asked, "it is leased"


async def test_a_source_that_goes_back_in_time_takes_the_copies_and_leaves_the_names(referrals: Referrals, directory: Directory) -> None:
    await round_of(referrals)

    async with referrals.runtime.database.transaction() as session:
        await bootstrap(session, "partners", nothing)

    assert [name.removesuffix(" (fermé)") for name in await call(referrals)] == NAMED


def test_a_service_is_found_by_its_words_whatever_their_accents() -> None:
    row = names._row("k", "Œuvre d'Élan – Pontoise", "Île-de-France")
    assert row["folded"] == "oeuvre d elan pontoise ile de france"


@some
@given(
    kind=st.sampled_from([names.COMMUNES, names.POSTS, names.SERVICES, names.UNITS]),
    item=st.dictionaries(st.text(max_size=8), JSON, max_size=3)
    | st.fixed_dictionaries(
        {
            "id": st.uuids().map(str) | JSON,
            "code": st.just("95127") | JSON,
            "name": st.text(max_size=300) | JSON,
            "label": st.text(max_size=300) | JSON,
            "organization_name": st.text(max_size=9) | JSON,
            "themes": st.lists(st.just("couple_violence") | JSON, max_size=2) | JSON,
        }
    ),
)
def test_an_item_of_a_list_of_names(kind: str, item: dict[str, Any]) -> None:
    row = names.read_item(kind, item)

    if row is None:
        return
    assert 1 <= len(row["name"]) <= 200
    assert all(" " <= letter != "\x7f" for letter in row["name"])
    assert row["key"] == (item["code"] if kind == names.COMMUNES else str(UUID(item["id"])))

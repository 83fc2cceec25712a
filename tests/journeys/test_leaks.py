"""Personal markers in every personal field of every request are found nowhere but in the answers of authorised reads.

On Apache Kafka the broker's own files are searched too (KAFKA_DATA names their folder).
"""

import asyncio
import json
import os
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiokafka import TopicPartition
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from libs.chassis import streams, telemetry
from libs.chassis.outbox import append_raw
from libs.chassis.refusals import Conflict
from libs.chassis.settings import secret_bytes
from libs.chassis.vault import DataKey
from libs.contracts import demonstration as d
from libs.contracts.audiences import AUDIENCES, kind_of
from libs.contracts.pseudonyms import PseudonymKeys
from libs.contracts.registry import EVENTS
from libs.contracts.units import police_id_of
from libs.embedded.postgres import Postgres
from services.referrals import persons
from services.referrals.receiving import bulk_api
from services.referrals.receiving.intake import Intakes
from tests.documents import JSON, Shown
from tests.journeys.desk_forms import type_everywhere
from tests.journeys.house import House, house
from tests.journeys.markers import (
    BIRTH,
    NEEDLES,
    OPEN_PHONE,
    OPEN_WORD,
    PHONE,
    PUBLIC,
    WORD,
    Place,
    fields,
    found_in,
    marked_requests,
    open_in,
    rows_of,
)
from tests.journeys.posts import POSTS, copied_posts, equals
from tests.journeys.territory import register_territory
from tests.needles import held
from tests.proof.accounts import Verdict
from tests.proof.judging import compare_with_grants
from tests.services.referrals.conftest import CONTENT
from tests.serving import app_of
from tests.waiting import until

pytestmark = pytest.mark.kafka


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    telemetry.start_tracing("house", exporter=exporter)
    yield exporter
    telemetry.stop_tracing()


@pytest.fixture
async def lived(
    spans: InMemorySpanExporter, database_url: Callable[[str | None], str], bootstrap_servers: str, on_kafka: bool
) -> AsyncIterator[House]:
    async with house(database_url, bootstrap_servers, on_kafka) as made:
        await register_territory(made["partners"])
        await until(lambda: equals(copied_posts(made), POSTS), seconds=60)
        yield made


async def _live(up: House) -> tuple[str, list[Any], set[Place]]:
    """A marked referral is received, read, oriented and answered, and everything else is asked for with markers. Gives its id, all answers
    but those of authorised reads, and the fields that were marked."""
    referrals = up["referrals"]
    requests, planted = marked_requests(referrals.openapi())
    body = _referral_of(requests)
    received = await referrals.post("police-95", "/v1/referrals", body)
    assert received.status_code == 201, received.text
    referral_id = received.json()["id"]
    address = f"/v1/referrals/{referral_id}"
    told = [received, await referrals.post("iscg-95", f"{address}/accept", version=1)]
    read = await referrals.get("iscg-95", address, CONTENT)
    assert all(needle in read.text for needle in NEEDLES)
    person = read.json()["people"][0]["id"]
    asked = {"person_id": person, "service_id": d.VICTIM_SUPPORT_SERVICE, "need": "victim_support"}
    oriented = await referrals.post("iscg-95", f"{address}/orientations", asked)
    assert oriented.status_code == 201, oriented.text
    told.append(oriented)
    told.append(await referrals.post("partner-95", f"/v1/orientations/{oriented.json()['id']}/accept", version=1))
    shown = await referrals.get("partner-95", f"/v1/orientations/{oriented.json()['id']}", "orientation")
    assert WORD in shown.text
    other = await referrals.post("iscg-95", f"{address}/orientations", asked | {"service_id": d.LEGAL_ADVICE_SERVICE})
    refusal = {"reason": "other", "reason_text": f"refus {WORD}"}
    assert other.status_code == 201, other.text
    told += [other, await referrals.post("partner-95", f"/v1/orientations/{other.json()['id']}/reject", refusal, version=1)]
    assert told[-1].status_code == 200, told[-1].text
    assert f"refus {WORD}" in (await referrals.get("iscg-95", f"/v1/orientations/{other.json()['id']}", CONTENT)).text
    [row] = await referrals.rows(f"SELECT version FROM referrals WHERE id = '{referral_id}'")
    ids = {"referral_id": referral_id, "orientation_id": oriented.json()["id"], "person_id": person}
    for number, one in enumerate(requests):
        if one.operation == "receive_referral":
            continue
        example = one.example
        headers = referrals.token(example["x-token"]) | {"Idempotency-Key": f"marked-{number}", "If-Match": f'"{row.version}"'}
        headers |= {name: value for name, value in example.get("x-headers", {}).items() if name != "If-Match"}
        headers["Content-Type"] = one.media
        filled = one.path.format(**(example.get("x-path", {}) | {name: value for name, value in ids.items() if f"{{{name}}}" in one.path}))
        answer = await referrals.client.request(one.method, filled, content=one.content, headers=headers)
        if one.operation == "receive_referrals":
            assert '"outcome":"created"' in answer.text, answer.text
        if one.media != JSON or "address" not in example["value"]:  # a preference is shown to whom it belongs
            told.append(answer)
    return referral_id, told + await _refused(up, body), planted


async def _tell_the_others(up: House) -> dict[str, set[Place]]:
    """Everything that the other services may be told, with marks. Gives the fields that were marked by service, each in a request that was
    taken: names of objects are replaced by those of the house."""
    marked: dict[str, set[Place]] = {}
    for name in ("partners", "funding", "reporting"):
        requests, marked[name] = marked_requests(up[name].openapi())
        for number, (operation, method, path, example, _) in enumerate(requests):
            text = json.dumps(example["value"], default=str)
            value = json.loads(text)
            if "communes" in value:
                value["communes"] = [d.COMMUNE_CERGY]
            unit = next(one for one in d.UNITS if one.departement == "95" and value.get("force") in (None, "mixed", one.force))
            if "units" in value:
                value["units"] = [str(unit.id)]
            address = path.format(**(example.get("x-path", {}) | ({"unit_id": unit.id} if "{unit_id}" in path else {})))
            headers = up[name].token(example["x-token"]) | {"Idempotency-Key": f"told-{number}"} | example.get("x-headers", {})
            answer = await up[name].client.request(method, address, json=value, headers=headers)
            if open_in(text):
                assert answer.status_code in (200, 201), (operation, answer.text)
            elif answer.status_code >= 400:
                assert not open_in(answer.text)
    return marked


async def _refused(up: House, body: dict[str, Any]) -> list[Any]:
    """Markers where they do not belong: wrong types, unknown fields, broken JSON, headers, query, path."""
    answers = []
    bodies: list[Any] = [
        body | {WORD: WORD},
        body | {"commune": WORD, "urgency": WORD, "themes": [WORD], "natinf": [WORD], "danger": WORD, "occurred_at": BIRTH},
        body | {"narrative": {WORD: [WORD]}, "persons": [WORD]},
        body | {"persons": [body["persons"][0] | {"identity": {"family_name": [WORD], "given_name": {"x": WORD}, "birth_on": PHONE}}]},
        WORD,
        [WORD],
        {WORD: {WORD: WORD}},
    ]
    texts = [json.dumps(one) for one in bodies] + [f'{{"narrative": "{WORD}', f"{WORD}=1", f'{{"{WORD}": NaN, "{WORD}": 1}}', f"\xff{WORD}"]
    for name, up_ in ((name, up[name]) for name in ("referrals", "partners", "funding", "reporting")):
        routes = {"referrals": "/v1/referrals", "partners": "/v1/services", "funding": "/v1/plans", "reporting": "/v1/subscriptions"}
        who = {"referrals": "police-95"}.get(name, "coordinator-95")
        for number, text in enumerate(texts):
            headers = up_.token(who) | {"Idempotency-Key": f"bad-{number}", "Content-Type": "application/json"}
            answers.append(await up_.client.post(routes[name], content=text.encode("latin-1", "replace"), headers=headers))
        for header in ("Authorization", "If-Match", "X-Purpose", "traceparent", "X-Request-Id", "Accept-Language", "Cookie", WORD):
            headers = up_.token(who) | {header: f"Bearer {WORD}" if header == "Authorization" else WORD}
            answers.append(await up_.client.get(routes[name], headers=headers))
        answers.append(await up_.client.get(f"{routes[name]}/{WORD}", headers=up_.token(who)))
        answers.append(await up_.client.get(routes[name], params={WORD: WORD, "cursor": WORD, "limit": WORD}, headers=up_.token(who)))
        answers.append(await up_.client.request(WORD.upper(), f"/{WORD}", headers=up_.token(who)))
    return answers


async def _all_sent(up: House) -> bool:
    for name in up.urls:
        behind = f"SELECT 1 FROM streams WHERE sent_sequence < sequence AND stream !~ '{streams.WITHOUT_TOPIC}'"
        if await up[name].rows(f"{behind} UNION ALL SELECT 1 FROM outbox"):
            return False
    return bool(await up["referrals"].rows("SELECT 1 FROM streams WHERE stream = 'internal' AND sent_sequence > 0"))


async def _consumed(up: House) -> dict[str, list[tuple[dict[str, bytes], bytes, bytes]]]:
    """What a consumer of each topic receives: stream of a service → (headers, key, value)."""
    seen = {}
    for name in up.urls:
        bus = up[name].runtime.bus
        for row in await up[name].rows("SELECT stream, sent_sequence FROM streams WHERE sent_sequence > 0"):
            consumer = bus.consumer(group=None)
            await consumer.start()
            try:
                place = TopicPartition(bus.topic(name, row.stream), 0)
                consumer.assign([place])
                consumer.seek(place, 0)
                got: list[Any] = []
                async with asyncio.timeout(90):
                    while len(got) < row.sent_sequence:
                        got.append(await consumer.getone(place))
            finally:
                await consumer.stop()
            seen[f"{name}/{row.stream}"] = [(dict(one.headers), one.key, one.value) for one in got]
    return seen


async def _left(up: House, spans: InMemorySpanExporter, told: Sequence[Any], addresses: Sequence[str], logged: str) -> dict[str, list[str]]:
    """Place → the texts that were left there."""
    places = {f"table {table}": lines for table, lines in (await rows_of(up)).items()}
    places |= {f"topic {topic}": [repr(one) for one in records] for topic, records in (await _consumed(up)).items()}
    places |= {f"metrics {name}": [(await up[name].client.get("/metrics")).text] for name in up.urls}
    places |= {f"answer {number}": [f"{answer.status_code} {dict(answer.headers)} {answer.text}"] for number, answer in enumerate(told)}
    places |= {f"address {number}": [address] for number, address in enumerate(addresses)}
    return places | {"traces": [span.to_json() for span in spans.get_finished_spans()], "log": [logged]}


def _places(left: Mapping[str, Sequence[str]], values: Sequence[str]) -> list[str]:
    """The places where one of the values was left."""
    return [place for place, texts in left.items() if any(held(text, values) for text in texts)]


def _holding(folder: Path, needles: Iterable[str]) -> list[str]:
    """Files under a folder that hold one of the needles."""
    return [path.name for path in folder.rglob("*") if path.is_file() and held(_bytes(path), needles)]


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:  # a server at work renames and drops files
        return b""


async def test_a_marker_in_every_personal_field_is_found_nowhere_but_in_authorised_answers(
    lived: House, spans: InMemorySpanExporter, postgres: Postgres, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    referral_id, told, planted = await _live(lived)
    addresses, typed = await type_everywhere(lived["referrals"], _marked_referral(lived) | {"external_reference": "desk"})
    assert typed >= {
        "/desk/persons",
        "/desk/referrals/{referral_id}/alert",
        "/desk/referrals/{referral_id}/correct/{person_id}",
        "/desk/referrals/{referral_id}/persons/new",
        "/desk/referrals/{referral_id}/requisitions/new",
        "/desk/requisitions/{requisition_id}/correct",
    }
    marked = await _tell_the_others(lived) | {"referrals": planted}
    asked = {name: fields(lived[name].openapi()) for name in lived.urls}
    assert marked == asked, "a personal field without a marker"
    assert PUBLIC.keys() <= {field for _, field in set().union(*asked.values())}, "a field that no longer exists"
    told.append(await _crash(lived, monkeypatch))
    await until(lambda: _all_sent(lived), seconds=60)

    left = await _left(lived, spans, told, addresses, "".join(capfd.readouterr()))
    postgres.psql("postgres", "CHECKPOINT")

    # the search is not blind: what may be there is found in each place
    assert any(referral_id in row for row in left["table referrals.referrals"])
    assert any(referral_id in record for record in left["topic referrals/internal"])
    assert "receive_referral" in "".join(left["metrics referrals"])
    assert "/v1/referrals/{referral_id}" in "".join(left["traces"])
    assert "receive_referral" in left["log"][0]
    assert "request.failed" in left["log"][0]
    assert any(answer.status_code == 500 for answer in told)

    assert _places(left, NEEDLES) == []
    # what is public stays with who was told: it travels no further than the lists, and to where referrals keeps the names that it read in them
    public = [place for place in _places(left, (OPEN_WORD, OPEN_PHONE)) if not place.startswith(("answer ", "address "))]
    assert {place.partition(".")[0] for place in public if place != "table referrals.directory_names"} == {
        "table partners",
        "table funding",
    }
    # PostgreSQL's folder, its write-ahead log and its own log included
    assert _holding(postgres.folder.parent, (referral_id,)) != []
    assert _holding(postgres.folder.parent, NEEDLES) == []
    if folder := os.environ.get("KAFKA_DATA"):
        assert _holding(Path(folder), (referral_id,)) != []
        assert _holding(Path(folder), NEEDLES) == []


def _marked_referral(up: House) -> dict[str, Any]:
    return _referral_of(marked_requests(up["referrals"].openapi())[0])


def _referral_of(requests: Iterable[Shown]) -> dict[str, Any]:
    body: dict[str, Any] = next(one.example["value"] for one in requests if one.operation == "receive_referral")
    return body


async def _crash(up: House, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Something nobody expected breaks over a request, with the personal value in its message."""

    async def broken(*_: object) -> None:
        raise RuntimeError(f"could not digest {WORD} {PHONE}")

    body = _marked_referral(up)
    with monkeypatch.context() as planted:
        planted.setattr(Intakes, "receive", broken)
        return await up["referrals"].post("police-95", "/v1/referrals", body | {"external_reference": "crash"})


async def test_planted_a_vault_that_does_not_seal_is_found(lived: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DataKey, "seal", lambda self, text, *, context: text)
    body = _marked_referral(lived)
    planted = "zqxjvnonscelle"  # of its own: it stays in PostgreSQL's files, where the other test must find nothing

    await lived["referrals"].post(
        "police-95", "/v1/referrals", json.loads(json.dumps(body).replace(WORD, planted).replace(PHONE, "639989732"))
    )

    leaking = [table for table, lines in (await rows_of(lived)).items() if any(planted.encode().hex() in row for row in lines)]
    assert sorted(leaking) == ["referrals.persons", "referrals.referrals"]
    assert found_in(f"\\x{WORD.encode().hex()}")  # as the search reads it


async def test_planted_a_name_by_which_a_person_is_sought_that_is_not_hashed_is_found(
    lived: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(persons, "keyed_hash", lambda key, text: text.encode())
    planted = "zqxjvnonhache"  # of its own, as above

    body = json.loads(json.dumps(_marked_referral(lived)).replace(WORD, planted).replace(PHONE, "639989732"))
    assert (await lived["referrals"].post("police-95", "/v1/referrals", body)).status_code == 201

    [row, *_] = await lived["referrals"].rows("SELECT name_hash FROM persons WHERE name_hash IS NOT NULL")
    assert planted.encode() in bytes(row.name_hash)
    leaking = [table for table, lines in (await rows_of(lived)).items() if any(planted.encode().hex() in row for row in lines)]
    assert leaking == ["referrals.persons"]


async def test_planted_a_line_of_a_batch_that_is_logged_is_found(
    lived: House, spans: InMemorySpanExporter, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = bulk_api._read

    def telling(*given: Any) -> Any:
        structlog.get_logger("planted").info("planted", line=given[-1].decode())
        return read(*given)

    monkeypatch.setattr(bulk_api, "_read", telling)

    _, told, _ = await _live(lived)
    await until(lambda: _all_sent(lived), seconds=60)

    assert _places(await _left(lived, spans, told, (), "".join(capfd.readouterr())), NEEDLES) == ["log"]


LEAK = "zqxjvfuite"
"""Of its own, as above."""


async def test_planted_a_leak_into_each_place_is_found(
    lived: House, spans: InMemorySpanExporter, postgres: Postgres, capfd: pytest.CaptureFixture[str]
) -> None:
    referrals = lived["referrals"]
    hidden = urlsafe_b64encode(f"c{LEAK}".encode()).decode()

    async def leak() -> None:
        structlog.get_logger("planted").info("planted", name=LEAK)
        with telemetry.continued(None, None, None, LEAK):  # as a span's name: attributes are scrubbed
            telemetry.REQUESTS.labels("referrals", LEAK, "200").inc()
        async with referrals.runtime.database.transaction() as session:
            await append_raw(session, stream="internal", type="planted", subject="planted", data=json.dumps({"cursor": hidden}).encode())
        raise Conflict(f"{LEAK} figure déjà au dossier.", headers={"Location": f"/v1/planted?cursor={hidden}"})

    app_of(referrals.client).add_api_route("/v1/planted", leak, operation_id="planted", include_in_schema=False)
    told = await referrals.client.get("/v1/planted")
    await until(lambda: _all_sent(lived), seconds=60)

    found = _places(await _left(lived, spans, [told], [told.headers["location"]], "".join(capfd.readouterr())), (LEAK,))

    telemetry.REQUESTS.remove("referrals", LEAK, "200")
    assert {place.partition(" ")[0] for place in found} == {"table", "topic", "metrics", "answer", "address", "traces", "log"}
    assert {"table referrals.stream_events", "topic referrals/internal"} <= set(found)
    postgres.psql("postgres", "CHECKPOINT")
    assert _holding(postgres.folder.parent, (LEAK,)) != []


# What each audience received


async def test_each_audience_received_on_its_topic_and_its_feed_what_the_table_grants_and_nothing_else(lived: House) -> None:
    referral_id, _, _ = await _live(lived)
    await until(lambda: _all_sent(lived), seconds=60)
    people = [str(row.id) for row in await lived["referrals"].rows("SELECT id FROM persons")]
    orientations = [str(row.id) for row in await lived["referrals"].rows("SELECT id FROM orientations")]
    real = {"referral_id": [referral_id], "person_id": people, "orientation_id": orientations}

    consumed = await _consumed(lived)
    assert {topic.partition(":")[0] for topic in consumed} >= {
        f"referrals/{kind}" for kind in ("internal", "interior", "justice", "departement")
    }
    for topic, records in consumed.items():
        stream = topic.partition("/")[2]
        for headers, _, value in records:
            assert faults(stream, headers["ce_type"].decode(), json.loads(value), repr((headers, value)), real) == []
    fed = await _fed(lived)
    assert {stream for stream, events in fed.items() if events} >= {
        "referrals/internal",
        "referrals/interior",
        "referrals/justice",
        "referrals/departement:95",
        f"referrals/organization:{d.ASSOCIATION}",
        f"referrals/police:{police_id_of('police-95')}",
    }
    for place, events in fed.items():
        name, _, stream = place.partition("/")
        for event in events:
            assert faults(stream, event["type"], event["data"], json.dumps(event), real) == []
        told = await lived[name].rows(f"SELECT count(*) AS number FROM stream_events WHERE stream = '{stream}'")
        assert len(events) == told[0].number, place
    for name in lived.urls:
        verdict, database = Verdict(), lived[name].runtime.database
        async with database.transaction() as session:
            kept = {head.stream: await streams.read(session, head.stream, 0, 100_000) for head in await streams.heads(session)}
        compare_with_grants(verdict, name, kept, PseudonymKeys(secret_bytes(lived[name].runtime.settings.pseudonym_key)))
        assert verdict.findings == []


async def _fed(up: House) -> dict[str, list[dict[str, Any]]]:
    """What each reader is given by the feed of each stream that it may read: stream of a service → CloudEvents."""
    fed: dict[str, list[dict[str, Any]]] = {}
    for who in ("interior", "justice", "coordinator-95", "partner-95", "employer-95", "reporting", "police-95"):
        for name in up.urls:
            listed = await up[name].get(who, "/v1/streams")
            for head in listed.json()["items"] if listed.status_code == 200 else []:
                read = await up[name].get(who, f"/v1/streams/{head['stream']}/events", limit=1000)
                fed[f"{name}/{head['stream']}"] = read.json()["events"]
    return fed


def faults(stream: str, type: str, data: dict[str, Any], whole: str, real: dict[str, list[str]]) -> list[str]:
    """What an audience was told beyond its rows of the table, read here anew. `real`: ids as they are, by the field that names them."""
    audience, event = AUDIENCES[kind_of(stream)], EVENTS[type]
    if event not in audience.grants:
        return [f"{stream} is not to be told {type}"]
    fields_, parts = audience.grants[event]
    found = [f"{stream}: {type} holds {name}" for name in sorted(data.keys() - set(fields_))]
    found += [
        f"{stream}: {type}.{field} holds {name}"
        for field, inner in parts.items()
        for one in data[field]
        for name in one.keys() - set(inner)
    ]
    perimeter = audience.perimeters.get(event)
    if perimeter in data and stream.partition(":")[2] not in str(data[perimeter]):
        found.append(f"{stream}: {type} is of another perimeter")
    hidden = [one for field in audience.pseudonyms & real.keys() for one in real[field]]
    return found + [f"{stream}: {type} shows an id that it may not fetch" for one in hidden if one in whole]


@pytest.mark.parametrize(
    ("stream", "type", "data", "because"),
    [
        ("interior", "fr.maillon.interview.held.v1", {}, "not to be told"),
        ("interior", "fr.maillon.referral.accepted.v1", {"referral_id": "p", "post_id": "x"}, "holds post_id"),
        ("justice", "fr.maillon.referral.accepted.v1", {"referral_id": "real-one"}, "may not fetch"),
        ("departement:95", "fr.maillon.referral.accepted.v1", {"referral_id": "real-one", "departement": "78"}, "another perimeter"),
    ],
)
def test_planted_what_an_audience_may_not_be_told_is_found(stream: str, type: str, data: dict[str, Any], because: str) -> None:
    [found] = faults(stream, type, data, json.dumps(data), {"referral_id": ["real-one"]})

    assert because in found

"""Logs, metrics and traces: enough to find what happened, nothing of what was sent."""

import json
import logging
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Query
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from libs.chassis import telemetry
from libs.chassis.access import PUBLIC, AccessTable
from libs.chassis.telemetry import continued, current_trace
from tests.chassis.answering import MARKER, Issuer, app_of, calling, service
from tests.planted import red

ISSUER = Issuer()
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    telemetry.start_tracing("partners", exporter=exporter)
    yield exporter
    telemetry.stop_tracing()


def _tracing_route() -> APIRouter:
    tracing = APIRouter()

    @tracing.get("/v1/trace/{name}", operation_id="read_trace")
    async def read_trace(name: str, q: Annotated[str, Query()] = "") -> dict[str, Any]:
        trace = current_trace()
        return {"correlation": trace.correlation_id, "causation": trace.causation_id, "traceparent": trace.traceparent}

    return tracing


def _app() -> Any:
    return app_of(ISSUER, of=service([_tracing_route()], AccessTable({"read_trace": PUBLIC})))


def _text(span: ReadableSpan) -> str:
    return f"{span.name} {dict(span.attributes or {})} {[event.attributes for event in span.events]} {span.status.description}"


async def test_a_request_is_a_span_without_its_path_query_or_host(spans: InMemorySpanExporter) -> None:
    async with calling(_app()) as client:
        await client.get(f"/v1/trace/{MARKER}?q={MARKER}", headers={"Host": f"{MARKER.lower()[-7:]}.example", "traceparent": TRACEPARENT})

    [span] = spans.get_finished_spans()
    assert span.name == "GET /v1/trace/{name}"
    assert dict(span.attributes or {}) == {
        "http.request.method": "GET",
        "http.route": "/v1/trace/{name}",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "network.protocol.version": "1.1",
    }
    assert span.context is not None
    assert f"{span.context.trace_id:032x}" == TRACE


async def test_the_span_of_an_unknown_address_does_not_repeat_it(spans: InMemorySpanExporter) -> None:
    async with calling(_app()) as client:
        await client.get(f"/{MARKER}/x?{MARKER}={MARKER}")

    [span] = spans.get_finished_spans()
    assert span.name == "GET"
    assert "arqueur" not in _text(span)


async def test_the_span_of_a_failure_holds_no_message(spans: InMemorySpanExporter) -> None:
    async with calling(app_of(ISSUER)) as client:
        await client.get("/v1/broken", headers=ISSUER.headers())

    [span] = spans.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR
    assert "rue Fictive" not in _text(span)
    assert MARKER not in _text(span)


def test_the_span_of_a_handler_continues_the_events_trace(spans: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match=MARKER), continued("corr", "cause", TRACEPARENT, "on fr.maillon.thing.made.v1"):
        trace = current_trace()
        raise ValueError(MARKER)

    [span] = spans.get_finished_spans()
    assert (trace.correlation_id, trace.causation_id) == ("corr", "cause")
    assert span.context is not None
    assert trace.traceparent == f"00-{TRACE}-{span.context.span_id:016x}-01"
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == "00f067aa0ba902b7"
    assert (span.status.status_code, (span.attributes or {})["error.type"]) == (StatusCode.ERROR, "ValueError")
    assert MARKER not in _text(span)


@pytest.mark.parametrize("traced", [False, True])
async def test_what_a_request_says_belongs_to_its_trace(traced: bool, request: pytest.FixtureRequest) -> None:
    if traced:
        request.getfixturevalue("spans")

    async with calling(_app()) as client:
        answer = await client.get("/v1/trace/x", headers={"traceparent": TRACEPARENT})

    said = answer.json()
    assert said["correlation"] == answer.headers["x-request-id"]
    assert said["causation"] is None
    assert said["traceparent"].split("-")[1] == TRACE


@pytest.mark.parametrize(
    "given", [None, MARKER.encode(), b"00-" + b"0" * 32 + b"-00f067aa0ba902b7-01", b"00-xyz-1-1", b"01-" + TRACEPARENT[3:].encode()]
)
async def test_a_trace_context_that_is_none_begins_a_new_trace(given: bytes | None) -> None:
    async with calling(_app()) as client:
        answer = await client.get("/v1/trace/x", headers=[] if given is None else [(b"traceparent", given)])

    version, trace, span, flags = answer.json()["traceparent"].split("-")
    assert (version, len(trace), len(span), flags) == ("00", 32, 16, "00")
    assert trace.strip("0")
    assert MARKER not in answer.text


def test_stories_do_not_run_into_each_other() -> None:
    with continued("one", None, TRACEPARENT, "a"):
        with continued("two", "event", None, "b"):
            inner = current_trace()
        outer = current_trace()

    assert (inner.correlation_id, inner.causation_id) == ("two", "event")
    assert inner.traceparent.split("-")[1] != TRACE
    assert (outer.correlation_id, outer.traceparent.split("-")[1]) == ("one", TRACE)
    assert current_trace().correlation_id not in {"one", "two"}


async def test_requests_are_counted_by_operation_never_by_path() -> None:
    async with calling(app_of(ISSUER)) as client:
        await client.get(f"/v1/{MARKER}")
        await client.get("/v1/broken", headers=ISSUER.headers())
        metrics = (await client.get("/metrics")).text

    assert 'maillon_requests_total{operation="unmatched",service="partners",status="404"}' in metrics
    assert 'maillon_requests_total{operation="break_down",service="partners",status="500"}' in metrics
    assert 'maillon_request_seconds_bucket{le="0.005",operation="break_down",service="partners"}' in metrics
    assert "process_resident_memory_bytes" in metrics
    assert 'maillon_troubles{service="partners",trouble="database' in metrics  # there is none in this test
    assert MARKER not in metrics


def _log_of(program: str) -> list[dict[str, Any]]:
    """What a process writes, line by line; every line is JSON."""
    setup = "from libs.chassis.telemetry import start_logging\nstart_logging('partners')\n"
    done = subprocess.run(
        [sys.executable, "-c", setup + textwrap.dedent(program)], capture_output=True, text=True, timeout=300, check=False
    )
    assert MARKER not in done.stdout + done.stderr
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_crash_writes_its_type_and_place_never_its_message() -> None:
    [line] = _log_of(f"""
        def inner(person): raise ValueError(person)
        try: inner({{"family_name": "{MARKER}"}})
        except ValueError as error: raise KeyError("{MARKER}") from error
    """)

    assert (line["event"], line["error_type"], line["error_causes"]) == ("process.crashed", "KeyError", ["ValueError"])
    assert line["service"] == "partners"


def test_an_exception_that_is_logged_loses_its_message() -> None:
    lines = _log_of(f"""
        import logging, structlog
        try: raise ValueError("{MARKER}")
        except ValueError:
            structlog.get_logger().exception("job.failed", job="x")
            logging.getLogger("some.library").exception("Failed on %s", "{MARKER}")
    """)

    assert [(line["event"], line["error_type"]) for line in lines] == [("job.failed", "ValueError"), ("Failed on %s", "ValueError")]
    assert lines[0]["error_places"] == ["<string>:5 <module>"]


def a_broker_that_is_away_is_told_once_a_minute(first: str = "") -> None:
    """Of each kind: logger, level, template; whatever stands in it. `first`: done before."""
    lines = _log_of(f"""
        import logging
        [rarely] = logging.getLogger().handlers[0].filters
        rarely._clock = lambda: second
        {first}
        kafka, other = logging.getLogger("aiokafka.consumer.group_coordinator"), logging.getLogger("some.library")
        for second in range(90):
            for node in range(10):
                kafka.error("Heartbeat send request failed: %s. Will retry.", node)
        kafka.warning("Marking the coordinator dead")
        for _ in range(3):
            other.error("each time")
    """)

    assert len(lines) == 6, f"{len(lines)} lines"
    assert [(line["event"], line.get("left_out")) for line in lines] == [
        ("Heartbeat send request failed: 0. Will retry.", None),
        ("Heartbeat send request failed: 0. Will retry.", 599),
        ("Marking the coordinator dead", None),
        *[("each time", None)] * 3,
    ]


def test_a_broker_that_is_away_is_told_once_a_minute_with_how_often_it_was_left_out() -> None:
    a_broker_that_is_away_is_told_once_a_minute()


def test_planted_a_library_that_is_let_say_everything_is_seen() -> None:
    """As it was: 947 lines of one broker that was away."""
    with red("904 lines"):
        a_broker_that_is_away_is_told_once_a_minute("logging.getLogger().handlers[0].filters.clear()")


def test_kinds_of_messages_without_end_are_not_kept() -> None:
    rarely = telemetry.Rarely(lambda: 0.0)
    for number in range(5_000):
        assert rarely.filter(logging.LogRecord("aiokafka", logging.ERROR, "", 0, f"written whole: {number}", None, None))

    assert len(rarely._said) <= 1_000


def test_a_task_nobody_waited_for_does_not_show_its_exception() -> None:
    [line] = _log_of(f"""
        import asyncio, gc
        async def main():
            async def fail(): raise ValueError("{MARKER}")
            task = asyncio.create_task(fail())
            await asyncio.sleep(0.01)
            del task
            gc.collect()
        asyncio.run(main())
    """)

    assert (line["event"], line["logger"]) == ("Task exception was never retrieved", "asyncio")


def test_a_thread_that_crashes_does_not_show_its_exception() -> None:
    [line] = _log_of(f"""
        import threading
        def fail(): raise ValueError("{MARKER}")
        thread = threading.Thread(target=fail); thread.start(); thread.join()
    """)

    assert (line["event"], line["error_type"]) == ("thread.crashed", "ValueError")

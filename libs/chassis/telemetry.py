"""Logs, metrics and traces, without a word of what was submitted.

Logs: one JSON object a line on stdout. Of an unexpected error only its type and where it happened are written, never its message (it may quote
a value). Metrics: one prometheus registry per process. Traces: W3C trace context in and out, across HTTP → outbox → Kafka → handler; exported
over OTLP when an endpoint is configured.

FastAPI 0.165 traces by itself (verified in its source): its server span carries `url.path` with the full path, `url.query` and `server.address`,
and its log signal exports exception messages. So: its logs and metrics are off, and `Scrubbed` takes those attributes out before any
exporter sees a span.
"""

import io
import logging
import os
import re
import sys
import threading
import time
import traceback
import uuid
from collections import Counter as Counts
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from fastapi.telemetry import TelemetryConfig
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})", re.ASCII)


# How facts hang together


@dataclass(frozen=True, slots=True)
class Trace:
    """What an event says of its origin (for `internal` only). `correlation_id`: one request and all it led to; `causation_id`: the event that
    led to it; `traceparent`: W3C trace context."""

    correlation_id: str
    causation_id: str | None
    traceparent: str


@dataclass(frozen=True, slots=True)
class _Current:
    request_id: str
    correlation_id: str
    causation_id: str | None
    trace_id: str
    span_id: str
    sampled: bool


_current: ContextVar[_Current | None] = ContextVar("maillon_trace", default=None)


def _context(traceparent: str | None, correlation_id: str | None, causation_id: str | None) -> _Current:
    found = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
    if found is not None and not (found[1].strip("0") and found[2].strip("0")):
        found = None
    drawn = os.urandom(40).hex()  # a UUID of version 4, a trace id and a span id at once: made one by one they cost 10 µs a request
    request = f"{drawn[:8]}-{drawn[8:12]}-4{drawn[13:16]}-a{drawn[17:20]}-{drawn[20:32]}"
    return _Current(
        request_id=request,
        correlation_id=correlation_id or request,
        causation_id=causation_id,
        trace_id=found[1] if found is not None else drawn[32:64],
        span_id=drawn[64:],
        sampled=found is not None and bool(int(found[3], 16) & 1),
    )


@contextmanager
def request_context(traceparent: str | None) -> Iterator[None]:
    """A request begins: it gets an id of its own, and continues the caller's trace when it names one."""
    token = _current.set(_context(traceparent, None, None))
    try:
        yield
    finally:
        _current.reset(token)


def request_id() -> str:
    """The id of the request in work: in its answer (`X-Request-Id`, a problem's `instance`) and in every log line about it."""
    current = _current.get()
    return current.request_id if current is not None else str(uuid.uuid4())


def current_trace() -> Trace:
    """What an event appended now is part of. Outside a request and a handler (jobs, commands), a story of its own begins."""
    current = _current.get() or _context(None, None, None)
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        traceparent = f"00-{span.trace_id:032x}-{span.span_id:016x}-{int(span.trace_flags):02x}"
    else:
        traceparent = f"00-{current.trace_id}-{current.span_id}-{int(current.sampled):02x}"
    return Trace(current.correlation_id, current.causation_id, traceparent)


@contextmanager
def continued(correlation_id: object | None, causation_id: object | None, traceparent: str | None, name: str) -> Iterator[None]:
    """Around the handling of an event: what it appends and logs belongs to the event's story, and a span says how long it took."""
    current = _context(
        traceparent, None if correlation_id is None else str(correlation_id), None if causation_id is None else str(causation_id)
    )
    token = _current.set(current)
    try:
        tracing = _tracing
        if tracing is None:
            yield
        else:
            with tracing.span(name, _TRACEPARENT.fullmatch(traceparent or "")):
                yield
    finally:
        _current.reset(token)


# Traces

_KEPT_ATTRIBUTES = frozenset(
    {
        "http.request.method",
        "http.response.status_code",
        "http.route",
        "url.scheme",
        "network.protocol.version",
        "error.type",
        "code.function.name",
        "messaging.system",
        "messaging.operation.type",
    }
)


class Scrubbed(SpanExporter):
    """Hands spans on with the attributes of the list above only, without events (they hold exception messages) and status texts."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return self._inner.export([_scrubbed(span) for span in spans])

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._inner.force_flush(timeout_millis)


def _scrubbed(span: ReadableSpan) -> ReadableSpan:
    attributes = {name: value for name, value in (span.attributes or {}).items() if name in _KEPT_ATTRIBUTES}
    name = span.name
    if span.kind is SpanKind.SERVER and "http.route" not in attributes:
        name = str(attributes.get("http.request.method", "HTTP"))  # no route matched: the path is the caller's text
    return ReadableSpan(
        name=name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=attributes,
        events=(),
        links=(),
        kind=span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


class _Tracing:
    def __init__(self, service: str, exporter: SpanExporter, ratio: float, *, at_once: bool) -> None:
        self.provider = TracerProvider(
            resource=Resource.create({"service.name": f"maillon-{service}", "service.namespace": "maillon"}),
            sampler=ParentBased(TraceIdRatioBased(ratio)),
            shutdown_on_exit=False,
        )
        processor = SimpleSpanProcessor(Scrubbed(exporter)) if at_once else BatchSpanProcessor(Scrubbed(exporter))
        self.provider.add_span_processor(processor)
        self._tracer = self.provider.get_tracer("maillon")

    @contextmanager
    def span(self, name: str, parent: re.Match[str] | None) -> Iterator[None]:
        context = None
        if parent is not None:
            remote = SpanContext(int(parent[1], 16), int(parent[2], 16), is_remote=True, trace_flags=TraceFlags(int(parent[3], 16)))
            context = trace.set_span_in_context(NonRecordingSpan(remote))
        # written by hand: the aiokafka instrumentation ends its span before the handler runs
        with self._tracer.start_as_current_span(
            name, context, SpanKind.CONSUMER, {"messaging.system": "kafka"}, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield
            except Exception as error:
                span.set_status(StatusCode.ERROR)
                span.set_attribute("error.type", type(error).__name__)
                raise


_tracing: _Tracing | None = None


def start_tracing(service: str, *, endpoint: str | None = None, ratio: float = 1.0, exporter: SpanExporter | None = None) -> None:
    """Once per process. Without an endpoint nothing is exported and no span is made; trace ids still travel. `exporter`: for tests."""
    global _tracing  # one process, one provider
    if exporter is None and endpoint is not None:
        # imported here: a tenth of a service's start, and most run without
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        exporter = OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces", timeout=3)
        _tracing = _Tracing(service, exporter, ratio, at_once=False)
    elif exporter is not None:
        _tracing = _Tracing(service, exporter, ratio, at_once=True)


def stop_tracing() -> None:
    """Sends what is left, for at most three seconds."""
    global _tracing  # one process, one provider
    if _tracing is not None:
        tracing, _tracing = _tracing, None
        flush = threading.Thread(target=tracing.provider.shutdown, daemon=True)
        flush.start()
        flush.join(3)


def fastapi_telemetry() -> TelemetryConfig:
    """FastAPI's own tracing, tamed."""
    config: TelemetryConfig = {
        "logs": False,
        "metrics": False,
        "operation_spans": False,
        "auto_configure": False,
        "tracing": _tracing is not None,
    }
    if _tracing is not None:
        config["tracer_provider"] = _tracing.provider
    return config


# Metrics

disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus_client leaves this one without types
REGISTRY = CollectorRegistry()
"""The process' own: other parts put their gauges here."""
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)

REQUESTS = Counter("maillon_requests_total", "Answered requests", ["service", "operation", "status"], registry=REGISTRY)
LATENCY = Histogram(
    "maillon_request_seconds",
    "Time to answer",
    ["service", "operation"],
    registry=REGISTRY,
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
IN_WORK = Gauge("maillon_requests_in_work", "Requests in work", ["service"], registry=REGISTRY)
SEEN_SEQUENCE = Gauge("maillon_source_seen_sequence", "Last number heard of a source", ["service", "source"], registry=REGISTRY)
HEAD_SEQUENCE = Gauge("maillon_source_head_sequence", "Head of a source when it was last asked", ["service", "source"], registry=REGISTRY)
HEAD_SEEN_AT = Gauge("maillon_source_head_seen_timestamp_seconds", "When that was", ["service", "source"], registry=REGISTRY)
TROUBLES = Gauge("maillon_troubles", "What an operator should look at", ["service", "trouble"], registry=REGISTRY)
DIVERGED = Gauge("maillon_stream_diverged", "Streams that say nothing more, and why", ["service", "stream", "reason"], registry=REGISTRY)
CLAIMS_REFUSED = Counter(
    "maillon_stream_claims_refused_total",
    "Readers other than our services that hold another history of a stream than this service",
    ["service", "kind"],
    registry=REGISTRY,
)
CHECKPOINTS_CONTRADICTED = Counter(
    "maillon_audit_checkpoints_contradicted_total",
    "Signed heads of the audit log in whose place the database holds something else",
    ["service"],
    registry=REGISTRY,
)
SILENCE = Gauge("maillon_loop_silence_seconds", "Time since a loop last made progress", ["service", "loop"], registry=REGISTRY)


# Logs

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_SPOKEN_IN_FULL = ("uvicorn", "aiokafka")
"""Libraries whose messages hold hosts, topics and numbers only. Of all others the message template is written, without its arguments."""


def places(error: BaseException) -> list[str]:
    """Where an error happened, innermost last: `path/module.py:123 function`. Never its message, nor the source line."""
    frames = traceback.extract_tb(error.__traceback__)[-12:]
    return [f"{'/'.join(frame.filename.split('/')[-3:])}:{frame.lineno} {frame.name}" for frame in frames]


def _name(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _causes(error: BaseException) -> list[str]:
    found: list[str] = []
    cause = error.__cause__ or error.__context__
    while cause is not None and len(found) < 5:
        found.append(_name(cause))
        cause = cause.__cause__ or cause.__context__
    return found


def _without_messages(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """`exc_info` becomes the error's type, causes and places."""
    given = event.pop("exc_info", None)
    error = given[1] if isinstance(given, tuple) else given if isinstance(given, BaseException) else sys.exc_info()[1] if given else None
    event.pop("stack_info", None)
    if error is not None:
        event["error_type"] = _name(error)
        event["error_places"] = places(error)
        if isinstance(error, BaseExceptionGroup):
            event["error_parts"] = sorted({_name(one) for one in error.exceptions})
        if causes := _causes(error):
            event["error_causes"] = causes
    return event


def _with_request(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    current = _current.get()
    if current is not None:
        event.setdefault("request_id", current.request_id)
        event.setdefault("trace_id", current.trace_id)
        if current.correlation_id != current.request_id:
            event.setdefault("correlation_id", current.correlation_id)
    return event


_OFTEN = ("aiokafka",)
"""Libraries that say the same for each attempt: 947 lines while a broker was away for a minute and a half."""
_PAUSE_SECONDS = 60.0
_MOST_KINDS = 1000


class Rarely(logging.Filter):
    """Of each kind of message of these libraries (logger, level, template) one line a minute, with how many were left out since the last."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._said: dict[tuple[str, int, str], float] = {}
        self._left_out: Counts[tuple[str, int, str]] = Counts()

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith(_OFTEN):
            return True
        kind, now = (record.name, record.levelno, str(record.msg)), self._clock()
        if (said := self._said.get(kind)) is not None and now - said < _PAUSE_SECONDS:
            self._left_out[kind] += 1
            return False
        if len(self._said) >= _MOST_KINDS:  # templates with values in them: nothing is kept for ever
            self._said.clear()
            self._left_out.clear()
        self._said[kind] = now
        record.left_out = self._left_out.pop(kind, 0)
        return True


class _Foreign(logging.Formatter):
    """What libraries log, in the same form."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service
        self._render = structlog.processors.JSONRenderer(ensure_ascii=False)

    def format(self, record: logging.LogRecord) -> str:
        spoken = record.getMessage() if record.name.startswith(_SPOKEN_IN_FULL) else str(record.msg)
        event: MutableMapping[str, Any] = {
            "event": spoken.split("\n", 1)[0][:500],  # asyncio puts the repr of an exception on the second line
            "logger": record.name,
            "level": record.levelname.lower(),
            "service": self._service,
            "exc_info": record.exc_info,
        }
        if left_out := getattr(record, "left_out", 0):
            event["left_out"] = left_out
        event = structlog.processors.TimeStamper(fmt="iso", utc=True)(None, "", event)
        return str(self._render(None, "", _with_request(None, "", _without_messages(None, "", event))))


_write_request: Callable[[str], object] | None = None


def log_request(service: str, operation: str, method: str, status: int, milliseconds: float) -> None:
    """The one line about a request. Written by hand: structlog takes 50 µs, as long as half of a bare FastAPI endpoint; every value is ours."""
    current = _current.get()
    if _write_request is not None and current is not None:
        _write_request(
            f'{{"event": "request", "operation": "{operation}", "method": "{method}", "status": {status}, "ms": {milliseconds:.2f},'
            f' "level": "info", "service": "{service}", "request_id": "{current.request_id}", "trace_id": "{current.trace_id}",'
            f' "timestamp": "{datetime.now(UTC).isoformat(timespec="microseconds")[:-6]}Z"}}\n'
        )


def start_logging(service: str, level: str = "info") -> None:
    """Once per process: JSON lines on stdout, for us and for every library; crashes too."""

    def with_service(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["service"] = service
        return event

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            with_service,
            _with_request,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _without_messages,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )
    global _write_request  # one process, one log
    _write_request = sys.stdout.write if _LEVELS[level] <= logging.INFO else None
    if _write_request is not None and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_Foreign(service))
    handler.addFilter(Rarely())
    logging.basicConfig(handlers=[handler], level=max(_LEVELS[level], logging.INFO), force=True)
    for quiet in ("sqlalchemy", "httpx", "httpcore", "asyncpg", "alembic"):  # httpx logs whole URLs, sqlalchemy parameters
        logging.getLogger(quiet).setLevel(logging.WARNING)
    logging.getLogger("uvicorn.access").disabled = True  # whole paths and query strings; libs.chassis.app writes a line about each request
    log = structlog.get_logger("process")

    def crashed(kind: type[BaseException], error: BaseException, trace: object) -> None:
        if issubclass(kind, KeyboardInterrupt):
            return
        log.critical("process.crashed", exc_info=error)

    sys.excepthook = crashed
    threading.excepthook = lambda given: log.error("thread.crashed", exc_info=given.exc_value)
    sys.unraisablehook = lambda given: log.error("unraisable", exc_info=given.exc_value)

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from jobledger.telemetry.catalogue import UndeclaredError
from jobledger.telemetry.otel import make_provider
from jobledger.telemetry.traceparent import (
    RandomIds,
    TraceIds,
    child_traceparent,
    current_traceparent,
    format_traceparent,
    is_sampled,
    parse_traceparent,
)
from jobledger.telemetry.traces import Tracing

TRACE, SPAN = "ab" * 16, "cd" * 8
SAMPLED, UNSAMPLED = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    yield exporter
    exporter.shutdown()


@pytest.fixture
def tracing(exporter: InMemorySpanExporter) -> Tracing:
    ids = RandomIds(random.Random(1))
    provider: TracerProvider = make_provider("worker", "worker-1", "9", ids)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Tracing(ids, provider)


def test_a_traceparent_is_parsed_and_formatted() -> None:
    assert parse_traceparent(SAMPLED) == TraceIds(TRACE, SPAN, True)
    assert parse_traceparent(UNSAMPLED) == TraceIds(TRACE, SPAN, False)
    assert parse_traceparent(f"cc-{TRACE}-{SPAN}-01-later") == TraceIds(TRACE, SPAN, True)
    assert format_traceparent(int(TRACE, 16), int(SPAN, 16), True) == SAMPLED
    assert format_traceparent(1, 2, False) == f"00-{1:032x}-{2:016x}-00"
    assert (is_sampled(SAMPLED), is_sampled(UNSAMPLED), is_sampled(""), is_sampled("x")) == (True, False, False, False)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        SAMPLED.upper(),
        SAMPLED + "-more",
        SAMPLED + "\n",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"cc-{TRACE}-{SPAN}-01-" + "x" * 1000,
    ],
)
def test_a_malformed_traceparent_is_none(text: str) -> None:
    assert parse_traceparent(text) is None


def test_a_child_keeps_trace_and_flags_and_gets_a_new_span_id() -> None:
    for parent in (SAMPLED, UNSAMPLED):
        child = parse_traceparent(child_traceparent(parent, RandomIds()))
        assert child is not None
        assert (child.trace_id, child.sampled) == (TRACE, is_sampled(parent))
        assert child.span_id != SPAN


def test_without_an_endpoint_nothing_is_recorded_but_ids_go_on() -> None:
    tracing = Tracing.from_environment("api", "api-1", "9", environment={})
    assert tracing.provider is None
    with tracing.start_span("api_request") as root:
        ids = parse_traceparent(root.traceparent)
        assert ids is not None and not ids.sampled and not root.recorded
        assert current_traceparent.get() == root.traceparent
        root.set("method", "POST")
        root.fail("ValueError")
    assert current_traceparent.get() == ""
    with tracing.start_span("api_request", UNSAMPLED) as child:
        assert child.traceparent[:36] == UNSAMPLED[:36] and child.traceparent != UNSAMPLED
    with tracing.start_span("api_request", SAMPLED) as passed:
        assert passed.traceparent == SAMPLED, "a span id that nobody exports would break the tree"


@pytest.mark.parametrize("extra", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}])
def test_the_standard_switches_turn_tracing_off(extra: dict[str, str]) -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", **extra}
    assert Tracing.from_environment("api", "api-1", "9", environment=env).provider is None


async def test_with_an_endpoint_a_provider_is_made_and_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    tracing = Tracing.from_environment("api", "api-1", "9")
    assert tracing.provider is not None
    await asyncio.wait_for(tracing.stop(1), 10)
    await tracing.stop(1)
    with tracing.start_span("api_request") as span:
        assert not span.recorded


def test_a_sampled_parent_gives_a_recorded_child(tracing: Tracing, exporter: InMemorySpanExporter) -> None:
    with tracing.start_span("task_execution", SAMPLED, attributes={"attempt": 1}) as span:
        span.set("worker_id", "worker-1")
    (done,) = exporter.get_finished_spans()
    assert done.parent is not None and done.context is not None
    assert (f"{done.context.trace_id:032x}", f"{done.parent.span_id:016x}") == (TRACE, SPAN)
    assert span.traceparent == format_traceparent(done.context.trace_id, done.context.span_id, True)
    assert done.attributes == {"attempt": 1, "worker_id": "worker-1"}
    assert done.resource.attributes["service.name"] == "worker"
    assert done.resource.attributes["service.instance.id"] == "worker-1"


def test_the_operators_resource_attributes_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "my-worker")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.version=7,team=x")
    attributes = make_provider("worker", "worker-1", "9", RandomIds()).resource.attributes
    assert [attributes[f"service.{key}"] for key in ("name", "version", "instance.id")] == [
        "my-worker",
        "7",
        "worker-1",
    ]
    assert attributes["team"] == "x"


def test_an_unsampled_parent_is_not_recorded(tracing: Tracing, exporter: InMemorySpanExporter) -> None:
    with tracing.start_span("task_execution", UNSAMPLED) as span:
        assert not span.recorded
    assert exporter.get_finished_spans() == ()


def test_a_root_links_to_what_it_came_from(tracing: Tracing, exporter: InMemorySpanExporter) -> None:
    with tracing.start_span("task_execution", links=[SAMPLED, "nonsense"]):
        pass
    (done,) = exporter.get_finished_spans()
    assert done.parent is None
    assert [f"{link.context.trace_id:032x}" for link in done.links] == [TRACE]


def test_an_exception_marks_the_span_by_its_class_only(tracing: Tracing, exporter: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="user text"), tracing.start_span("task_execution", SAMPLED):
        raise ValueError("user text")
    (done,) = exporter.get_finished_spans()
    assert done.attributes is not None and done.attributes["error.type"] == "ValueError"
    assert not done.status.is_ok
    assert "user text" not in done.to_json()


def test_an_undeclared_span_name_raises(tracing: Tracing) -> None:
    with pytest.raises(UndeclaredError, match="not declared"), tracing.start_span("made_up"):
        pass


def test_the_sdk_is_loaded_only_where_something_is_exported() -> None:
    code = (
        "import sys, jobledger.telemetry.traces as t, jobledger.telemetry.metrics, jobledger.telemetry.health_server;"
        "t.Tracing.from_environment('api', 'a', '1', environment={});"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False, timeout=60).returncode == 0

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace as otel
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from jobledger.telemetry.catalogue import UndeclaredError
from jobledger.telemetry.finished_span import FinishedSpan
from jobledger.telemetry.otel import SpanExport, resource_of
from jobledger.telemetry.otel_context import running_in
from jobledger.telemetry.sampling import SamplingReason
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
    return Tracing(ids, SpanExport(resource_of("worker", "worker-1", "9"), ids, SimpleSpanProcessor(exporter)))


def span(**fields: Any) -> FinishedSpan:
    plain = FinishedSpan("task_execution", TRACE, SPAN, "ef" * 8, 1_000, 3_000, {"attempt": 1})
    return plain._replace(**fields)


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


def test_without_an_endpoint_nothing_is_recorded() -> None:
    tracing = Tracing.from_environment("api", "api-1", "9", environment={})
    assert not tracing.recording and tracing.sdk is None
    tracing.export(span(), SamplingReason.NEW)
    ids = parse_traceparent(tracing.new_traceparent())
    assert ids is not None and not ids.sampled


@pytest.mark.parametrize("extra", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}])
def test_the_standard_switches_turn_tracing_off(extra: dict[str, str]) -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", **extra}
    assert not Tracing.from_environment("api", "api-1", "9", environment=env).recording


async def test_with_an_endpoint_spans_are_exported_until_it_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    tracing = Tracing.from_environment("api", "api-1", "9")
    assert tracing.recording
    await asyncio.wait_for(tracing.stop(1), 10)
    await tracing.stop(1)
    assert not tracing.recording


def test_a_span_is_exported_as_it_is_with_the_reason(tracing: Tracing, exporter: InMemorySpanExporter) -> None:
    tracing.export(span(), SamplingReason.SLOW)
    (done,) = exporter.get_finished_spans()
    assert done.parent is not None and done.context is not None
    ids = (f"{done.context.trace_id:032x}", f"{done.context.span_id:016x}", f"{done.parent.span_id:016x}")
    assert ids == (TRACE, SPAN, "ef" * 8)
    assert (done.start_time, done.end_time, done.kind.name) == (1_000, 3_000, "CONSUMER")
    assert done.attributes == {"attempt": 1, "sampling.reason": "slow"}
    assert done.resource.attributes["service.name"] == "worker"
    assert done.resource.attributes["service.instance.id"] == "worker-1"


def test_the_operators_resource_attributes_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "my-worker")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.version=7,team=x")
    attributes = resource_of("worker", "worker-1", "9").attributes
    assert [attributes[f"service.{key}"] for key in ("name", "version", "instance.id")] == [
        "my-worker",
        "7",
        "worker-1",
    ]
    assert attributes["team"] == "x"


def test_a_root_links_to_what_it_came_from(tracing: Tracing, exporter: InMemorySpanExporter) -> None:
    tracing.export(span(parent_id="", links=(f"00-{'12' * 16}-{SPAN}-01", "nonsense")), SamplingReason.NEW)
    (done,) = exporter.get_finished_spans()
    assert done.parent is None
    assert [f"{link.context.trace_id:032x}" for link in done.links] == ["12" * 16]


def test_what_went_wrong_is_marked_by_its_class_only(tracing: Tracing, exporter: InMemorySpanExporter) -> None:
    tracing.export(span(error="ValueError"), SamplingReason.ERROR)
    (done,) = exporter.get_finished_spans()
    assert done.attributes is not None and done.attributes["error.type"] == "ValueError"
    assert not done.status.is_ok and done.status.description is None


def test_an_undeclared_span_name_raises(tracing: Tracing) -> None:
    with pytest.raises(UndeclaredError, match="not declared"):
        tracing.export(span(name="made_up"), SamplingReason.NEW)


def test_spans_of_handlers_are_held_and_exported_or_dropped_with_their_execution(
    tracing: Tracing, exporter: InMemorySpanExporter
) -> None:
    sdk = tracing.sdk
    assert sdk is not None
    sdk.offer_to_handlers()
    tracer = sdk._provider.get_tracer("of a handler")  # type: ignore[union-attr]
    for keep, name in ((False, "dropped"), (True, "kept")):
        sdk.buffer.open(int(SPAN, 16))
        with running_in(UNSAMPLED), tracer.start_as_current_span(name):
            assert current_traceparent.get() == UNSAMPLED
            with tracer.start_as_current_span(f"{name} below"):
                pass
        assert exporter.get_finished_spans() == ()
        for held in sdk.buffer.close(int(SPAN, 16), keep=keep).spans:
            if keep:
                sdk.held(held, "sampling.reason", SamplingReason.NORMAL)
    done = {one.name: one for one in exporter.get_finished_spans()}
    assert sorted(done) == ["kept", "kept below"]
    kept = done["kept"]
    assert kept.parent is not None and kept.context is not None and kept.attributes is not None
    assert (f"{kept.parent.span_id:016x}", f"{kept.context.trace_id:032x}") == (SPAN, TRACE)
    assert kept.attributes["sampling.reason"] == "normal"
    assert not otel.get_current_span().get_span_context().is_valid
    with tracer.start_as_current_span("of nobody"):
        pass
    assert [one.name for one in exporter.get_finished_spans()][-1] == "of nobody"


def test_the_sdk_is_loaded_only_where_something_is_exported() -> None:
    code = (
        "import sys, jobledger.telemetry.traces as t, jobledger.telemetry.metrics, jobledger.telemetry.health_server;"
        "import jobledger.workers.spans, jobledger.processors.spans, jobledger.graphql.request_spans;"
        "t.Tracing.from_environment('api', 'a', '1', environment={});"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False, timeout=60).returncode == 0

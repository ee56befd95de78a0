"""The part of tracing that needs the OpenTelemetry SDK; imported only by processes that export."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.environment_variables import OTEL_TRACES_SAMPLER
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    ProxyTracerProvider,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    get_tracer_provider,
    set_tracer_provider,
)

from jobledger.telemetry.finished_span import FinishedSpan
from jobledger.telemetry.span_buffer import SpanBuffer
from jobledger.telemetry.traceparent import parse_traceparent

if TYPE_CHECKING:
    from jobledger.telemetry.sampling import SamplingReason
    from jobledger.telemetry.traceparent import IdSource

_SCOPE = InstrumentationScope("jobledger")
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


def resource_of(service: str, instance_id: str, version: str) -> Resource:
    """Who makes the spans; what the operator says in OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES goes first."""
    attributes = {
        SERVICE_NAME: service,
        "service.namespace": "jobledger",
        "service.instance.id": instance_id,
        "service.version": version,
    }
    return Resource.create(attributes).merge(OTELResourceDetector().detect())


class SpanExport:
    """Hands spans to a processor, as a rule one that sends them in the background.

    A span that was decided upon never passes through a tracer: it is known whole, with ids that others have named
    already, so it is written down as the SDK would leave it.
    """

    def __init__(self, resource: Resource, ids: IdSource, processor: SpanProcessor) -> None:
        self._resource = resource
        self._ids = ids
        self._processor = processor
        self._provider: TracerProvider | None = None
        self.buffer: SpanBuffer[ReadableSpan] = SpanBuffer(processor.on_end)
        """The spans that handlers make."""

    def finished(self, span: FinishedSpan, kind: str) -> None:
        """Export a span."""
        self._processor.on_end(
            ReadableSpan(
                name=span.name,
                context=_context(span.trace_id, span.span_id),
                parent=_context(span.trace_id, span.parent_id) if span.parent_id else None,
                resource=self._resource,
                attributes=dict(span.attributes),
                links=[Link(_context(*ids[:2])) for ids in map(parse_traceparent, span.links) if ids is not None],
                kind=SpanKind[kind],
                status=Status(StatusCode.ERROR) if span.error else Status(StatusCode.UNSET),
                start_time=span.start_ns,
                end_time=span.end_ns,
                instrumentation_scope=_SCOPE,
            )
        )

    def held(self, span: ReadableSpan, key: str, reason: SamplingReason) -> None:
        """Export a span that a handler has made, with the reason as one more attribute."""
        self._processor.on_end(
            ReadableSpan(
                name=span.name,
                context=span.context,
                parent=span.parent,
                resource=span.resource,
                attributes={**(span.attributes or {}), key: reason.value},
                events=span.events,
                links=span.links,
                kind=span.kind,
                status=span.status,
                start_time=span.start_time,
                end_time=span.end_time,
                instrumentation_scope=span.instrumentation_scope,
            )
        )

    def offer_to_handlers(self) -> None:
        """Let spans of handlers go the same way, unless their module has set up a provider of its own.

        Each of them is recorded, since it may turn out to belong to a failure; an operator's OTEL_TRACES_SAMPLER
        goes before that.
        """
        sampler = None if os.environ.get(OTEL_TRACES_SAMPLER) else ALWAYS_ON
        self._provider = TracerProvider(
            sampler=sampler, resource=self._resource, id_generator=_Ids(self._ids), shutdown_on_exit=False
        )
        self._provider.add_span_processor(_OfExecutions(self.buffer))
        if isinstance(get_tracer_provider(), ProxyTracerProvider):
            set_tracer_provider(self._provider)

    def stop(self, timeout: float) -> None:
        """Send what is there, for at most so many seconds; the SDK itself knows no bound."""
        ending = threading.Thread(target=self._processor.shutdown, name="span-export-end", daemon=True)
        ending.start()
        ending.join(timeout)


class _OfExecutions(SpanProcessor):
    """Holds what descends from an execution; the buffer lets the rest go on at once."""

    def __init__(self, buffer: SpanBuffer[ReadableSpan]) -> None:
        self._buffer = buffer

    def on_start(self, span: SdkSpan, parent_context: Context | None = None) -> None:
        if span.parent is not None and span.context is not None:
            self._buffer.started(span.context.span_id, span.parent.span_id)

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is not None:
            self._buffer.ended(span.context.span_id, span)


class _Ids(IdGenerator):
    """Our source of ids in the form that the SDK asks for."""

    def __init__(self, ids: IdSource) -> None:
        self._ids = ids

    def generate_span_id(self) -> int:
        return self._ids.span_id()

    def generate_trace_id(self) -> int:
        return self._ids.trace_id()


def otlp_export(service: str, instance_id: str, version: str, ids: IdSource) -> SpanExport:
    """Exports over OTLP/HTTP in the background, as the OTEL_* variables have it."""
    processor = BatchSpanProcessor(OTLPSpanExporter())
    return SpanExport(resource_of(service, instance_id, version), ids, processor)


def _context(trace_id: str, span_id: str) -> SpanContext:
    return SpanContext(
        int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=_SAMPLED, trace_state=TraceState()
    )

"""The part of tracing that needs the OpenTelemetry SDK; imported only by processes that export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    TraceFlags,
    Tracer,
    set_span_in_context,
)

if TYPE_CHECKING:
    from jobledger.telemetry.traceparent import IdSource, TraceIds


class _Ids(IdGenerator):
    """Our source of ids in the form that the SDK asks for."""

    def __init__(self, ids: IdSource) -> None:
        self._ids = ids

    def generate_span_id(self) -> int:
        return self._ids.span_id()

    def generate_trace_id(self) -> int:
        return self._ids.trace_id()


def make_provider(service: str, instance_id: str, version: str, ids: IdSource) -> TracerProvider:
    """A provider without exporter; the SDK itself reads sampler, limits and resource from the OTEL_* variables."""
    attributes = {
        SERVICE_NAME: service,
        "service.namespace": "jobledger",
        "service.instance.id": instance_id,
        "service.version": version,
    }
    # What the operator says in OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES goes before what we know.
    resource = Resource.create(attributes).merge(OTELResourceDetector().detect())
    return TracerProvider(resource=resource, id_generator=_Ids(ids), shutdown_on_exit=False)


def otlp_provider(service: str, instance_id: str, version: str, ids: IdSource) -> TracerProvider:
    """A provider that exports over OTLP/HTTP in the background."""
    provider = make_provider(service, instance_id, version, ids)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def _context(ids: TraceIds) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED if ids.sampled else TraceFlags.DEFAULT)
    return SpanContext(int(ids.trace_id, 16), int(ids.span_id, 16), is_remote=True, trace_flags=flags)


def start_otel_span(
    tracer: Tracer,
    name: str,
    parent: TraceIds | None,
    links: Sequence[TraceIds],
    attributes: Mapping[str, str | int | float | bool] | None,
) -> Span:
    """Start a span below a remote parent, or at the root where the SDK's sampler decides."""
    context = Context() if parent is None else set_span_in_context(NonRecordingSpan(_context(parent)), Context())
    return tracer.start_span(name, context, attributes=attributes, links=[Link(_context(ids)) for ids in links])

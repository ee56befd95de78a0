"""OpenTelemetry spans for the traces that are sampled.

Most work belongs to traces that nobody samples, so the cheap path never builds an OpenTelemetry object: it gives the
work a child traceparent and no span.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from jobledger.telemetry.catalogue import SPANS, UndeclaredError
from jobledger.telemetry.traceparent import (
    IdSource,
    RandomIds,
    child_traceparent,
    current_traceparent,
    format_traceparent,
    parse_traceparent,
)

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span as OtelSpan


class Span:
    """A started span, or what stands for one in a trace that isn't recorded here."""

    __slots__ = ("_span", "traceparent")

    def __init__(self, traceparent: str, span: OtelSpan | None = None) -> None:
        self.traceparent = traceparent
        """What work caused by this span carries on."""
        self._span = span

    @property
    def recorded(self) -> bool:
        """Whether attributes of this span go anywhere."""
        return self._span is not None

    def set(self, key: str, value: str | int | float | bool) -> None:
        """Set an attribute."""
        if self._span is not None:
            self._span.set_attribute(key, value)

    def fail(self, error_type: str, description: str = "") -> None:
        """Mark the span as failed; `error_type` is a class or code, the description holds no payload."""
        if self._span is not None:
            from opentelemetry.trace import StatusCode  # noqa: PLC0415 (loaded already where a span is recorded)

            self._span.set_attribute("error.type", error_type)
            self._span.set_status(StatusCode.ERROR, description)


class Tracing:
    """Starts spans; made by `Tracing.from_environment`, or without a provider when nothing is exported."""

    def __init__(self, ids: IdSource | None = None, provider: TracerProvider | None = None) -> None:
        self.ids: IdSource = ids or RandomIds()
        self.provider = provider
        self._tracer = provider.get_tracer("jobledger") if provider is not None else None

    @classmethod
    def from_environment(
        cls,
        service: str,
        instance_id: str,
        version: str,
        ids: IdSource | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Tracing:
        """Tracing as the standard OTEL_* variables have it; without an OTLP endpoint nothing is recorded or loaded."""
        env = os.environ if environment is None else environment
        endpoint = env.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or env.get("OTEL_EXPORTER_OTLP_ENDPOINT")
        off = env.get("OTEL_SDK_DISABLED", "").lower() == "true" or env.get("OTEL_TRACES_EXPORTER", "") == "none"
        if not endpoint or off:
            return cls(ids)
        # Imported here because the SDK costs every command a fifth of a second that only exporting processes need.
        from jobledger.telemetry.otel import otlp_provider  # noqa: PLC0415

        ids = ids or RandomIds()
        return cls(ids, otlp_provider(service, instance_id, version, ids))

    @contextmanager
    def start_span(
        self,
        name: str,
        traceparent: str = "",
        links: Iterable[str] = (),
        attributes: Mapping[str, str | int | float | bool] | None = None,
    ) -> Iterator[Span]:
        """Run the block in a span: a child of `traceparent`, or a new trace (linked to `links`) if that is empty.

        A malformed traceparent counts as none. An exception marks the span as failed by its class name (its text might
        hold user data) and goes on. Raises `UndeclaredError` for a name that isn't in the catalogue.
        """
        if name not in SPANS:
            raise UndeclaredError(f"Span {name} is not declared; add it to SPANS in telemetry/catalogue.py.")
        span = self._start(name, traceparent, links, attributes)
        token = current_traceparent.set(span.traceparent)
        try:
            yield span
        except Exception as error:
            span.fail(type(error).__name__)
            raise
        finally:
            current_traceparent.reset(token)
            if span._span is not None:
                span._span.end()

    def new_traceparent(self, sampled: bool = False) -> str:
        """The traceparent of a new trace that no span has been recorded for."""
        return format_traceparent(self.ids.trace_id(), self.ids.span_id(), sampled)

    async def stop(self, timeout: float = 5.0) -> None:
        """Send what is buffered, for at most `timeout` seconds, and end; may be called again."""
        provider, self.provider, self._tracer = self.provider, None, None
        if provider is not None:
            await asyncio.to_thread(provider.force_flush, int(timeout * 1000))
            await asyncio.to_thread(provider.shutdown)

    def _start(
        self,
        name: str,
        traceparent: str,
        links: Iterable[str],
        attributes: Mapping[str, str | int | float | bool] | None,
    ) -> Span:
        parent = parse_traceparent(traceparent) if traceparent else None
        if self._tracer is None or (parent is not None and not parent.sampled):
            if parent is None:
                return Span(self.new_traceparent())
            # In a sampled trace that isn't recorded here, a made-up span id would be a parent that nobody ever exports.
            return Span(traceparent if parent.sampled else child_traceparent(traceparent, self.ids))
        from jobledger.telemetry.otel import start_otel_span  # noqa: PLC0415 (loaded already with the provider)

        linked = [ids for ids in map(parse_traceparent, links) if ids is not None]
        span = start_otel_span(self._tracer, name, parent, linked, attributes)
        context = span.get_span_context()
        sampled = bool(context.trace_flags.sampled)
        return Span(format_traceparent(context.trace_id, context.span_id, sampled), span if sampled else None)

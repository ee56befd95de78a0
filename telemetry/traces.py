"""W3C trace context on plain strings, and OpenTelemetry spans for the traces that are sampled.

A `traceparent` is the string `00-<32 hex>-<16 hex>-<2 hex>`. Most work belongs to traces that nobody samples, so the
cheap path never builds an OpenTelemetry object: it gives the work a child traceparent and no span.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple, Protocol

from jobledger.telemetry.catalogue import SPANS, UndeclaredError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span as OtelSpan

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_MAX_LENGTH = 512

current_traceparent: ContextVar[str] = ContextVar("jobledger_traceparent", default="")
"""The traceparent of the work that runs now; log lines take their ids from it. Empty outside any trace."""


class TraceIds(NamedTuple):
    """The parts of a traceparent: lower-case hex ids and whether the trace is sampled."""

    trace_id: str
    span_id: str
    sampled: bool


class IdSource(Protocol):
    """Where new trace and span ids come from."""

    def trace_id(self) -> int:
        """A new trace id, 128 bits, never 0."""
        ...

    def span_id(self) -> int:
        """A new span id, 64 bits, never 0."""
        ...


class RandomIds:
    """Ids from a random generator; give a seeded one for repeatable ids."""

    def __init__(self, generator: random.Random | None = None) -> None:
        self._generator = generator or random.SystemRandom()
        if generator is None:
            # Trace ids are no secrets: a generator seeded once by the system is enough, and ten times as fast.
            self._generator = random.Random(random.SystemRandom().getrandbits(128))

    def trace_id(self) -> int:
        """A new trace id."""
        return self._generator.getrandbits(128) or 1

    def span_id(self) -> int:
        """A new span id."""
        return self._generator.getrandbits(64) or 1


def parse_traceparent(text: str) -> TraceIds | None:
    """The parts of a traceparent, or None where the text isn't one (the trace then starts anew, as W3C demands)."""
    match = _TRACEPARENT.fullmatch(text) if len(text) <= _MAX_LENGTH else None
    if match is None or (text.startswith("00") and match[4]):
        return None
    return TraceIds(match[1], match[2], bool(int(match[3], 16) & 1))


def format_traceparent(trace_id: int, span_id: int, sampled: bool) -> str:
    """The traceparent of these ids."""
    return f"00-{trace_id:032x}-{span_id:016x}-{'01' if sampled else '00'}"


def is_sampled(traceparent: str) -> bool:
    """Whether a well-formed traceparent has the sampled flag."""
    return traceparent[54:55] in "13579bdf" if len(traceparent) >= 55 else False


def child_traceparent(traceparent: str, ids: IdSource) -> str:
    """The same trace and flags with a new span id; the input must be well-formed."""
    return f"{traceparent[:36]}{ids.span_id():016x}{traceparent[52:55]}"


@contextmanager
def use_traceparent(traceparent: str) -> Iterator[None]:
    """Make log lines inside the block carry the ids of this traceparent."""
    token = current_traceparent.set(traceparent)
    try:
        yield
    finally:
        current_traceparent.reset(token)


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

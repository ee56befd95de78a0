"""Spans of a process: ids that cost next to nothing, and an exporter for those that are kept.

Nobody knows whether a span will be kept before its work has ended (`sampling`). So a span is a handful of values until
then, and becomes something of OpenTelemetry only when it is exported.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from jobledger.telemetry.catalogue import SPANS, UndeclaredError
from jobledger.telemetry.finished_span import FinishedSpan
from jobledger.telemetry.sampling import SamplingReason
from jobledger.telemetry.traceparent import IdSource, RandomIds, format_traceparent

if TYPE_CHECKING:
    from jobledger.telemetry.otel import SpanExport

REASON_ATTRIBUTE = "sampling.reason"
ERROR_ATTRIBUTE = "error.type"


class Tracing:
    """Exports spans; made by `Tracing.from_environment`, or without an export when nothing is to be recorded."""

    def __init__(self, ids: IdSource | None = None, export: SpanExport | None = None) -> None:
        self.ids: IdSource = ids or RandomIds()
        self._export = export

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
        from jobledger.telemetry.otel import otlp_export  # noqa: PLC0415

        ids = ids or RandomIds()
        return cls(ids, otlp_export(service, instance_id, version, ids))

    @property
    def recording(self) -> bool:
        """Whether spans go anywhere; where not, none need to be made."""
        return self._export is not None

    @property
    def sdk(self) -> SpanExport | None:
        """What exports, for the worker, which lets handlers make spans of their own."""
        return self._export

    def export(self, span: FinishedSpan, reason: SamplingReason) -> None:
        """Hand a span over that is kept; does nothing where nothing is recorded.

        Raises `UndeclaredError` for a name that isn't in the catalogue.
        """
        if span.name not in SPANS:
            raise UndeclaredError(f"Span {span.name} is not declared; add it to SPANS in telemetry/catalogue.py.")
        if self._export is not None:
            attributes = {**span.attributes, REASON_ATTRIBUTE: reason.value}
            if span.error:
                attributes[ERROR_ATTRIBUTE] = span.error
            self._export.finished(span._replace(attributes=attributes), SPANS[span.name].kind)

    def new_traceparent(self, sampled: bool = False) -> str:
        """The traceparent of a new trace that no span has been recorded for."""
        return format_traceparent(self.ids.trace_id(), self.ids.span_id(), sampled)

    async def stop(self, timeout: float = 5.0) -> None:
        """Send what is buffered, for at most `timeout` seconds, and end; may be called again."""
        export, self._export = self._export, None
        if export is not None:
            await asyncio.to_thread(export.stop, timeout)

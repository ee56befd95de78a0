"""Calls that a handler makes to somebody else: what goes along in their headers, and their spans."""

from __future__ import annotations

import random
import time
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

import msgspec

from jobledger.telemetry.traceparent import parse_traceparent

#: Spans of calls that are kept of one attempt.
MAX_CALLS = 200
_MAX_URL = 2_000
_SERVER_ERROR = 400

_ids = random.Random(random.SystemRandom().getrandbits(128))


class CallSpan(msgspec.Struct, frozen=True):
    """A call that has ended. Times are ns since the epoch; `status` 0: there was no answer."""

    span_id: str
    url: str
    method: str
    start_ns: int
    end_ns: int
    status: int = 0
    error: str = ""


class CallSpans:
    """The calls of one attempt, made in whatever thread; `recorded` False: nobody wants them."""

    def __init__(self, *, recorded: bool) -> None:
        self.recorded = recorded
        self.ended: list[CallSpan] = []
        self.dropped = 0

    def add(self, call: CallSpan) -> None:
        """A call has ended."""
        if not self.recorded:
            return
        if len(self.ended) < MAX_CALLS:
            self.ended.append(call)
        else:
            self.dropped += 1


#: Of every attempt whose calls nobody wants.
UNWANTED = CallSpans(recorded=False)


class ExternalCall:
    """One call, as `with ctx.external_call(url) as call:`; send `call.headers`, then set `call.status`."""

    def __init__(self, url: str, method: str, headers: dict[str, str], spans: CallSpans) -> None:
        self.status = 0
        """The HTTP status of the answer; 400 and more marks the span as failed."""
        self.headers = headers
        """W3C `traceparent` and `tracestate`, and `X-Correlation-ID`: the id of the execution."""
        self._url = url
        self._method = method
        self._spans = spans
        self._span_id = ""
        self._start_ns = 0

    def __enter__(self) -> Self:
        trace = parse_traceparent(self.headers.get("traceparent", "")) if self._spans.recorded else None
        if trace is not None:
            self._span_id = f"{_ids.getrandbits(64) or 1:016x}"
            self.headers["traceparent"] = f"00-{trace.trace_id}-{self._span_id}-{'01' if trace.sampled else '00'}"
        self._start_ns = time.time_ns()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._span_id:
            return
        failed = kind.__name__ if kind is not None else ""
        if not failed and self.status >= _SERVER_ERROR:
            failed = str(self.status)
        call = CallSpan(
            self._span_id, bare_url(self._url), self._method, self._start_ns, time.time_ns(), self.status, failed
        )
        self._spans.add(call)


def bare_url(url: str) -> str:
    """A URL without what may be secret in it: user, password, query and fragment."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        host = f"[{host}]" if ":" in host else host
        port = f":{parts.port}" if parts.port is not None else ""
        return urlunsplit((parts.scheme, host + port, parts.path, "", ""))[:_MAX_URL]
    except ValueError:
        return ""

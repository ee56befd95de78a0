"""Trace context in the headers of records, for who looks at Kafka from outside; ours stands in the values.

A record that holds one command or one message has the W3C headers of it, and `X-Correlation-ID`: for a task its
execution id, else what the caller has named. One that holds several has none of these.
"""

from __future__ import annotations

from typing import Any

#: Of what others have written, more is not read.
MAX_TRACESTATE = 512
#: What `producer.produce` takes.
Headers = list[tuple[str, str | bytes | None]]

_TRACEPARENT = b'"traceparent":"'
_TRACESTATE = b'"tracestate":"'
_EXECUTION = b'"execution_id":"'
_CORRELATION = b'"correlation_id":"'


def command_headers(value: bytes) -> Headers:
    """The headers of a record of commands."""
    return _headers(value, _CORRELATION, _text(value, _TRACESTATE))


def task_headers(value: bytes, scheduler: bytes) -> Headers:
    """The headers of a record of tasks; `scheduler` is the member of `tracestate` that names who hands them out."""
    headers = _headers(value, _EXECUTION, b"")
    if scheduler:
        headers.append(("tracestate", scheduler))
    return headers


def tracestate_of(headers: Any) -> str:
    """The tracestate in the headers of a message of Kafka; '' without one."""
    for name, value in headers or ():
        if name == "tracestate" and isinstance(value, bytes) and len(value) <= MAX_TRACESTATE:
            return value.decode(errors="replace")
    return ""


def _headers(value: bytes, correlation: bytes, tracestate: bytes) -> Headers:
    """User text stands in strings, where every quote is escaped: a name with plain quotes around it is a field."""
    if value.count(_TRACEPARENT) > 1 or value.count(correlation) > 1:
        return []
    found = {
        "traceparent": _text(value, _TRACEPARENT),
        "tracestate": tracestate,
        "X-Correlation-ID": _text(value, correlation),
    }
    return [(name, text) for name, text in found.items() if text]


def _text(value: bytes, field: bytes) -> bytes:
    """The value of a field as it is written; '' where it is missing, or not plain text."""
    at = value.find(field)
    if at < 0:
        return b""
    start = at + len(field)
    text = value[start : value.find(b'"', start)]
    return b"" if b"\\" in text else text

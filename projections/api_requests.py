"""What apis have answered, by spans of time: telemetry that has to outlive their processes, which write it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from jobledger.projections.time_spans import KEPT_SECONDS

_encode = msgspec.json.Encoder().encode

SAVE: Final = (
    "INSERT INTO api_requests (api, span_seconds, start_ms, total, failed)"
    " SELECT api, span_seconds, start_ms, total, failed FROM json_to_recordset(%s::json)"
    " AS s(api text, span_seconds integer, start_ms bigint, total bigint, failed bigint)"
    " ON CONFLICT (api, span_seconds, start_ms) DO UPDATE SET total = excluded.total, failed = excluded.failed"
)
FORGET: Final = (
    "DELETE FROM api_requests t USING json_to_recordset(%s::json) AS s(span_seconds integer, oldest_ms bigint)"
    " WHERE t.span_seconds = s.span_seconds AND t.start_ms < s.oldest_ms"
)


class RequestSpan(msgspec.Struct, kw_only=True):
    """Requests that one api process has answered in a span of time; `failed` with a 5xx status.

    `api` names the process for its life, so that what is written twice counts once.
    """

    api: str
    span_seconds: int
    start_ms: int
    total: int = 0
    failed: int = 0


def rows_of(spans: Iterable[RequestSpan]) -> str:
    """The parameter of SAVE."""
    return _encode(list(spans)).decode()


def kept(now_ms: int) -> str:
    """The parameter of FORGET."""
    oldest = [{"span_seconds": span, "oldest_ms": now_ms - 1000 * seconds} for span, seconds in KEPT_SECONDS.items()]
    return _encode(oldest).decode()

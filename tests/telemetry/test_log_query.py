"""Queries over log lines."""

from __future__ import annotations

from typing import Any

import pytest

from jobledger.telemetry.log_query import QueryError, read_query

NOW = 1_705_314_600.0  # 2024-01-15T10:30:00Z


def _line(number: int, at: str, level: str, event: str, message: str = "", **context: Any) -> dict[str, Any]:
    head = {"timestamp": f"2024-01-15T{at}.000Z", "level": level, "service": "worker", "instance_id": "worker-1"}
    trace = {"trace_id": "ab" * 16 if number < 4 else "", "span_id": ""}
    return {**head, **trace, "event": event, "message": message, "context": {"n": number, **context}}


LINES = [
    _line(1, "09:00:00", "INFO", "job_dispatched", dispatch_latency_ms=45, job_id="job-1", execution_id="exec-1"),
    _line(2, "09:29:59", "ERROR", "task_failed", "Task failed", execution_id="exec-1", error="Boom Bang", attempt=2),
    _line(3, "09:30:00", "ERROR", "task_failed", "Task failed", execution_id="exec-2", error="KeyError", attempt=1),
    _line(4, "10:29:00", "INFO", "job_dispatched", dispatch_latency_ms=100, tenant_id="tenant-abc", deep={"x": [1, 2]}),
    _line(5, "10:30:00", "INFO", "job_dispatched", dispatch_latency_ms=100.5, tenant_id="tenant-abd", late=True),
    _line(6, "10:30:01", "WARN", "task_timeout", "Task ran into its limit", tenant_id="tenant-abc"),
]
QUERIES = {
    'execution_id:"exec-1"': [1, 2],
    "level:ERROR AND event:task_failed AND @timestamp:[now-1h TO now]": [3],
    "event:job_dispatched AND dispatch_latency_ms:>100": [5],
    'event:task_timeout AND tenant_id:"tenant-abc"': [6],
    f'trace_id:"{"ab" * 16}" | sort @timestamp': [1, 2, 3],
    "": [1, 2, 3, 4, 5, 6],
    "*": [1, 2, 3, 4, 5, 6],
    "dispatch_latency_ms:>=100": [4, 5],
    "dispatch_latency_ms:<100": [1],
    "dispatch_latency_ms:[45 TO 100]": [1, 4],
    "dispatch_latency_ms:{45 TO 100]": [4],
    "dispatch_latency_ms:[* TO 45]": [1],
    "attempt:2": [2],
    "n:(1 OR 3)": [1, 3],
    "NOT event:job_dispatched": [2, 3, 6],
    "-event:job_dispatched +level:ERROR": [2, 3],
    "event:task_* AND NOT level:WARN": [2, 3],
    "tenant_id:tenant-ab?": [4, 5, 6],
    "error:*": [2, 3],
    "error:bang": [2],
    '"task failed"': [2, 3],
    "limit": [6],
    "level:error": [],
    "late:true": [5],
    "context.deep.x:2": [4],
    "nobody:has": [],
    "level:ERROR OR level:WARN AND service:worker": [2, 3, 6],
    "@timestamp:>now": [6],
    "@timestamp:[2024-01-15T09:30:00Z TO 2024-01-15T10:29:00Z]": [3, 4],
    'timestamp:<"2024-01-15T10:30:00+01:00"': [1, 2],
    "@timestamp:>2024-01-15": [1, 2, 3, 4, 5, 6],
}


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_finds_the_lines_that_it_describes(query: str) -> None:
    matches = read_query(query, NOW).matches
    assert [line["context"]["n"] for line in LINES if matches(line)] == QUERIES[query]


@pytest.mark.parametrize(
    ("order", "newest_first"),
    [("", None), ("| sort @timestamp", False), ("|sort timestamp desc", True), ("| sort -@timestamp", True)],
)
def test_the_order_stands_behind_a_bar(order: str, newest_first: bool | None) -> None:
    assert read_query(f'event:"a|b" {order}', NOW).newest_first is newest_first


WRONG = {
    "level:ERROR AND": (16, "ends too early"),
    "(level:ERROR": (13, "ends too early"),
    "level:ERROR) AND x:y": (12, "') AND x:y' is not expected"),
    'event:"x': (7, "is not expected"),
    "dispatch_latency_ms:>slow": (22, "'slow' is no number and no time"),
    "@timestamp:[now-1y TO now]": (13, "'now-1y' is no number and no time"),
    "error:/x+/": (7, "a regular expression is not understood"),
    "error:x~2": (7, "~ is not understood"),
    "error:(a OR event:b)": (13, "field event stands inside field error"),
    "level:ERROR | head 5": (14, "only `sort @timestamp`"),
}


@pytest.mark.parametrize("query", WRONG)
def test_a_wrong_query_is_told_with_the_place(query: str) -> None:
    position, words = WRONG[query]
    with pytest.raises(QueryError) as told:
        read_query(query, NOW)
    assert str(told.value).startswith(f"The query is wrong at character {position}:"), told.value
    assert words in str(told.value)

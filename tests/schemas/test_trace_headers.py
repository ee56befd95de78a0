from __future__ import annotations

from typing import Any

from jobledger.domain.identity import job_stream
from jobledger.domain.job.commands import ReportSucceeded
from jobledger.domain.values import SYSTEM, Opaque
from jobledger.domain.worker_messages import CancelTask, RunTask
from jobledger.schemas.commands import Command, encode_command, join_record
from jobledger.schemas.trace_headers import command_headers, task_headers, tracestate_of
from jobledger.schemas.worker import encode_message, join_tasks

TRACE = f"00-{'ab' * 16}-{'cd' * 8}-01"
HOSTILE = 'x","traceparent":"00-1","execution_id":"2","correlation_id":"3'


def report(**fields: Any) -> bytes:
    body = ReportSucceeded(
        task="main",
        assignment=1,
        worker="w",
        incarnation="i",
        assigned_at_ms=1,
        started_at_ms=2,
        ended_at_ms=3,
        result=Opaque(HOSTILE),
    )
    return encode_command(Command(id="c", stream=job_stream("t", "j"), actor=SYSTEM, body=body, **fields))


def run(**fields: Any) -> bytes:
    message = RunTask(
        worker="w",
        incarnation="i",
        job="job:t:j",
        task="main",
        assignment=1,
        execution_id="e-1",
        attempt=1,
        due_at_ms=1,
        handler="h",
        payload=Opaque(HOSTILE),
        queue="q",
        assigned_at_ms=1,
        **fields,
    )
    return encode_message(message)


def test_a_record_of_one_command_has_its_trace_context() -> None:
    value = join_record([report(traceparent=TRACE, tracestate="jobledger=slow", correlation_id="order-7")])
    assert dict(command_headers(value)) == {
        "traceparent": TRACE.encode(),
        "tracestate": b"jobledger=slow",
        "X-Correlation-ID": b"order-7",
    }
    assert command_headers(join_record([report()])) == []
    assert command_headers(join_record([report(correlation_id='with "quotes"')])) == []


def test_a_record_of_one_task_has_its_execution_id() -> None:
    value = join_tasks([run(traceparent=TRACE, correlation_id="order-7")], 0, 1)
    headers = task_headers(value, b"scheduler=s-1")
    assert dict(headers) == {
        "traceparent": TRACE.encode(),
        "X-Correlation-ID": b"e-1",
        "tracestate": b"scheduler=s-1",
    }
    assert tracestate_of(headers) == "scheduler=s-1"
    assert tracestate_of(None) == tracestate_of([("tracestate", b"x" * 600)]) == ""


def test_a_record_of_several_names_none_of_them() -> None:
    commands = join_record([report(traceparent=TRACE), report(traceparent=TRACE)])
    assert command_headers(commands) == []
    tasks = join_tasks([run(traceparent=TRACE), run(traceparent=TRACE)], 0, 1)
    assert task_headers(tasks, b"scheduler=s-1") == [("tracestate", b"scheduler=s-1")]
    cancel = CancelTask(worker="w", incarnation="i", job="job:t:j", task="main", assignment=1)
    assert task_headers(join_tasks([encode_message(cancel)], 0, 1), b"") == []

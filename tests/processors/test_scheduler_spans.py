"""The spans of a job from its submission to the end of its attempt: made by three processes, they are one tree."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from memory_owner import NOW, WORKER, Decider, command, credits, expire, job, submit
from opentelemetry.sdk.trace import SpanProcessor
from span_notes import SpanNotes, noting

from jobledger.domain.identity import queue_stream
from jobledger.domain.job import commands as jc
from jobledger.domain.values import Opaque, RetryPolicy
from jobledger.domain.worker_messages import RunTask
from jobledger.processors.spans import SchedulerSpans
from jobledger.projections.spans import TracedEvent, export_applied, is_traced
from jobledger.schemas.commands import Command
from jobledger.schemas.events import cloudevents_headers
from jobledger.schemas.worker import decode_tasks
from jobledger.telemetry import otel
from jobledger.telemetry.sampling import Sampler
from jobledger.telemetry.traceparent import RandomIds
from jobledger.telemetry.traces import Tracing
from jobledger.telemetry.tracestate import scheduler_member
from jobledger.workers.external_call import ExternalCall
from jobledger.workers.spans import WorkerTracing

TRACE, API_SPAN = "ab" * 16, "cd" * 8
SUBMITTER = f"00-{TRACE}-{API_SPAN}-00"
QUEUE = queue_stream("default", "default")
#: Keeps nothing but what must be kept.
NONE = {"first": 0, "share": 0.0}


class Way:
    """A partition, a worker beside it, and the spans of both; times are ms after NOW."""

    def __init__(self, **sampler: Any) -> None:
        self.decider = Decider()
        self.tracing, self.notes = noting()
        self.spans = SchedulerSpans(self.tracing, "s-1", 1)
        self.worker = WorkerTracing(self.tracing, "w1", Sampler(**sampler))
        self.seen = 0

    def at(self, ms: int, *commands: Command) -> None:
        self.decider.feed(*commands)
        self.decider.settle(NOW + ms)
        for plan in self.decider.batches[self.seen :]:
            self.spans.committed(plan.traced)
        self.seen = len(self.decider.batches)

    def handed_out(self) -> RunTask:
        (*_, entry) = (one for one in self.decider.outbox if one.topic_letter == "t")
        message = decode_tasks(entry.value).messages[-1]
        assert isinstance(message, RunTask)
        return message

    def run(self, start_ms: int, end_ms: int, error: str = "", **given: Any) -> Command:
        """The worker runs what was handed out last; the report of its end."""
        run = self.handed_out()
        trace = self.worker.trace(run, scheduler_member("s-1"))
        with trace.running():
            pass
        status = "FAILED" if error else "SUCCESS"
        recorded = trace.ended(status, error, (NOW + start_ms) * 1_000_000, (NOW + end_ms) * 1_000_000)
        who: dict[str, Any] = {
            "task": run.task,
            "assignment": run.assignment,
            "worker": run.worker,
            "incarnation": run.incarnation,
            "assigned_at_ms": run.assigned_at_ms,
            "started_at_ms": NOW + start_ms,
            "ended_at_ms": NOW + end_ms,
        }
        body: Any = jc.ReportSucceeded(**who)
        if error:
            body = jc.ReportFailed(**who, kind=jc.FailureKind.FAILED, error_type=error, error=Opaque("{}"), **given)
        report = command(run.job, body, f"end/{run.assignment}", WORKER)
        if recorded is None:
            return msgspec.structs.replace(report, traceparent=run.traceparent)
        return msgspec.structs.replace(report, traceparent=recorded.traceparent, tracestate=recorded.tracestate)

    def begin(self, name: str = "j", traceparent: str | None = SUBMITTER, **given: Any) -> str:
        """A job is submitted and handed out."""
        self.at(0, credits(QUEUE, 1))
        stream = job(name)
        self.at(5, msgspec.structs.replace(submit(stream, **given), traceparent=traceparent))
        return stream


def _times(span: Any) -> tuple[int, int]:
    return span.start_ns // 1_000_000 - NOW, span.end_ns // 1_000_000 - NOW


@pytest.mark.scenario(
    "a job is traced",
    emits=(
        "schedule_job",
        "queue_enqueue",
        "task_execution",
        "projection_apply",
    ),
)
def test_scheduler_worker_and_projector_make_one_tree() -> None:
    way = Way()
    way.begin()
    report = way.run(12, 40)
    way.at(45, report)
    applied = [record for record in way.decider.records if is_traced(record)]
    (ended,) = applied
    headers = cloudevents_headers(ended, b"s", report.tracestate)
    export_applied(way.tracing, [TracedEvent(ended, 0, lambda: headers)])
    spans = way.notes.take()
    assert sorted(spans) == ["projection_apply", "queue_enqueue", "schedule_job", "task_execution"]
    assert {span.trace_id for span in spans.values()} == {TRACE}
    assert {span.attributes["sampling.reason"] for span in spans.values()} == {"new"}
    parents = {name: span.parent_id for name, span in spans.items()}
    assert parents == {
        "schedule_job": API_SPAN,
        "queue_enqueue": spans["schedule_job"].span_id,
        "task_execution": spans["queue_enqueue"].span_id,
        "projection_apply": spans["task_execution"].span_id,
    }
    assert _times(spans["schedule_job"]) == (5, 5) and _times(spans["queue_enqueue"]) == (5, 5)
    assert _times(spans["task_execution"]) == (12, 40) and _times(spans["projection_apply"])[0] == 45
    run = way.handed_out()
    assert spans["queue_enqueue"].attributes["queue"] == "default"
    assert spans["queue_enqueue"].attributes["partition"] == 0
    for name in ("schedule_job", "queue_enqueue", "task_execution"):
        attributes = spans[name].attributes
        assert (attributes["execution_id"], attributes["attempt"]) == (run.execution_id, 1)
    assert report.tracestate == "jobledger=new,scheduler=s-1"


def test_a_job_that_nobody_keeps_leaves_no_span() -> None:
    way = Way(**NONE)
    stream = way.begin()
    way.at(45, way.run(12, 40))
    assert way.notes.take() == {}
    assert {record.traceparent for record in way.decider.records if record.originator_id == stream} == {SUBMITTER}
    assert not any(is_traced(record) for record in way.decider.records)


def test_what_nobody_keeps_costs_no_object_of_the_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a real exporter beside it: nothing of OpenTelemetry is made that could be thrown away."""

    def refused(**_: Any) -> None:
        raise AssertionError("a span was made")

    monkeypatch.setattr(otel, "ReadableSpan", refused)
    way = Way(**NONE)
    export = otel.SpanExport(otel.resource_of("worker", "w1", "0"), RandomIds(), SpanProcessor())
    way.tracing = Tracing(export=export)
    way.spans = SchedulerSpans(way.tracing, "s-1", 1)
    way.worker = WorkerTracing(way.tracing, "w1", Sampler(**NONE))
    way.begin()
    way.at(45, way.run(12, 40))
    assert export.buffer.size == 0
    with pytest.raises(AssertionError, match="a span was made"):
        way.run(12, 40, "ValueError")


def test_what_the_caller_records_is_recorded() -> None:
    way = Way(**NONE)
    way.begin(traceparent=SUBMITTER[:-1] + "1")
    way.at(45, way.run(12, 40))
    spans = way.notes.take()
    assert sorted(spans) == ["queue_enqueue", "schedule_job", "task_execution"]
    assert {span.attributes["sampling.reason"] for span in spans.values()} == {"normal"}


def test_a_second_attempt_is_a_trace_of_its_own_with_a_link() -> None:
    way = Way(**NONE)
    way.begin(retry=RetryPolicy(max_attempts=2, initial_seconds=1, max_seconds=1, jitter_ratio=0))
    way.at(45, way.run(12, 40, "ValueError"))
    first = way.notes.take()
    assert {span.trace_id for span in first.values()} == {TRACE}
    assert {span.attributes["sampling.reason"] for span in first.values()} == {"error"}
    assert first["task_execution"].error == "ValueError" and first["schedule_job"].error == "FAILED"
    way.at(1_100)
    way.at(1_200, way.run(1_110, 1_150, "KeyError"))
    later = way.notes.take()
    (trace_id,) = {span.trace_id for span in later.values()}
    assert trace_id != TRACE
    assert later["schedule_job"].parent_id == "" and later["schedule_job"].links == (SUBMITTER,)
    assert later["task_execution"].parent_id == later["queue_enqueue"].span_id
    assert _times(later["schedule_job"])[0] >= 1_045


def test_a_redriven_job_is_a_trace_of_its_own_and_a_second_hand_out_is_not() -> None:
    """Both are a first attempt with another number than 1 of its assignment."""
    way = Way()
    stream = way.begin(retry=RetryPolicy(max_attempts=1))
    way.at(20, expire(QUEUE))
    assert {span.trace_id for span in way.notes.take().values()} == {TRACE}
    way.at(25, credits(QUEUE, 1, incarnation="i2"))
    assert (way.handed_out().attempt, way.handed_out().assignment) == (1, 2)
    way.at(45, way.run(30, 40, "ValueError"))
    assert {span.trace_id for span in way.notes.take().values()} == {TRACE}
    way.at(50, command(stream, jc.RedriveJob(), "again"))
    assert (way.handed_out().attempt, way.handed_out().assignment) == (1, 3)
    way.at(75, way.run(60, 70))
    spans = way.notes.take()
    assert TRACE not in {span.trace_id for span in spans.values()}
    assert _times(spans["schedule_job"]) == (50, 50)


def test_work_that_is_due_later_is_a_trace_of_its_own() -> None:
    way = Way()
    way.begin(due_at_ms=NOW + 61_000)
    way.at(61_000)
    way.at(61_050, way.run(61_010, 61_040))
    spans = way.notes.take()
    assert TRACE not in {span.trace_id for span in spans.values()}
    assert _times(spans["schedule_job"]) == (61_000, 61_000)
    soon = Way()
    soon.begin(due_at_ms=NOW + 59_000)
    soon.at(59_000)
    soon.at(59_050, soon.run(59_010, 59_040))
    spans = soon.notes.take()
    assert {span.trace_id for span in spans.values()} == {TRACE}
    assert _times(spans["schedule_job"]) == (5, 59_000) and _times(spans["queue_enqueue"]) == (59_000, 59_000)


def test_an_attempt_that_is_lost_is_an_error_though_no_worker_tells_of_it() -> None:
    way = Way(**NONE)
    way.begin()
    run = way.handed_out()
    started = jc.ReportStarted(
        task=run.task,
        assignment=1,
        worker="w1",
        incarnation="i1",
        assigned_at_ms=run.assigned_at_ms,
        started_at_ms=NOW + 12,
    )
    way.at(20, command(run.job, started, "started", WORKER))
    assert way.notes.take() == {}
    way.at(100, expire(QUEUE))
    spans = way.notes.take()
    assert sorted(spans) == ["queue_enqueue", "schedule_job"]
    assert spans["schedule_job"].error == "LOST"
    assert {span.attributes["sampling.reason"] for span in spans.values()} == {"error"}
    assert _times(spans["queue_enqueue"]) == (5, 12), "nobody here knows more of it than when it was started"


def test_an_assignment_that_is_lost_before_its_start_has_the_time_until_then() -> None:
    way = Way(**NONE)
    way.begin()
    way.at(100, expire(QUEUE))
    spans = way.notes.take()
    assert sorted(spans) == ["schedule_job"] and _times(spans["schedule_job"]) == (5, 100)


def test_a_job_without_a_trace_gets_one_when_it_fails() -> None:
    way = Way(**NONE)
    way.begin(traceparent=None)
    way.at(45, way.run(12, 40, "ValueError", retryable=False))
    spans = way.notes.take()
    assert len({span.trace_id for span in spans.values()}) == 1
    assert spans["schedule_job"].parent_id == "" and spans["schedule_job"].links == ()
    assert spans["task_execution"].parent_id == spans["queue_enqueue"].span_id


def test_without_an_exporter_nothing_is_made() -> None:
    way = Way()
    way.begin()
    report = way.run(12, 40)
    silent = SchedulerSpans(Tracing(), "s-1", 1)
    way.notes.take()
    way.decider.feed(report)
    silent.committed(way.decider.turn(NOW + 45).traced)
    assert way.notes.take() == {}


@pytest.mark.parametrize(
    "keep",
    [pytest.param(True, marks=pytest.mark.scenario("a job is traced", emits=("external_api_call",))), False],
)
def test_calls_of_a_handler_are_below_its_attempt(keep: bool) -> None:
    way = Way(**({} if keep else NONE))
    way.begin()
    trace = way.worker.trace(way.handed_out(), scheduler_member("s-1"))
    headers = {"traceparent": trace.traceparent}
    with ExternalCall("https://user:secret@api.example.com:8443/x?key=secret#y", "POST", headers, trace.calls) as call:
        call.status = 503
    with pytest.raises(OSError), ExternalCall("http://[::1]/", "GET", dict(headers), trace.calls):
        raise ConnectionRefusedError
    trace.ended("SUCCESS", "", NOW * 1_000_000, NOW * 1_000_000)
    spans = _by_url(way.notes)
    if not keep:
        assert spans == {}
        return
    first, second = spans["https://api.example.com:8443/x"], spans["http://[::1]/"]
    assert first.attributes["status"] == 503 and first.error == "503" and first.attributes["method"] == "POST"
    assert second.error == "ConnectionRefusedError" and "status" not in second.attributes
    assert headers["traceparent"] == f"00-{TRACE}-{first.span_id}-01"
    assert first.parent_id == second.parent_id == trace.traceparent[36:52]


def _by_url(notes: SpanNotes) -> dict[str, Any]:
    return {str(span.attributes["url"]): span for span in notes.spans if span.name == "external_api_call"}

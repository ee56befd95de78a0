"""Spans of requests, and where a dev stack keeps traces."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from span_notes import noting
from starlette.applications import Starlette

from jobledger.graphql.request_spans import Request, RequestSpans
from jobledger.graphql.trace_intake import MAX_BODY_BYTES, intake_route
from jobledger.graphql.trace_reads import trace_of
from jobledger.graphql.trace_store import StoredSpan, TraceStore
from jobledger.graphql.types.errors import NotFound, Unavailable, ValidationFailed
from jobledger.graphql.types.traces import Trace
from jobledger.telemetry.held_spans import MAX_HELD
from jobledger.telemetry.metrics import Metrics
from jobledger.telemetry.traces import Tracing

#: By its low 56 bits not among the 1 %, and among it.
TRACE, LUCKY = "ab" * 8 + "00" * 8, "ab" * 8 + "ff" * 8
SPAN = "cd" * 8
HEADERS = [("ce_tracestate", b"jobledger=slow,scheduler=s-1")]


class Requests:
    """Operations on a clock that the test moves."""

    def __init__(self) -> None:
        self.tracing, self.notes = noting()
        self.ms = 1_000
        self.metrics = Metrics("api", instance_id="a", strict=True)
        self.spans = RequestSpans(self.tracing, self.metrics, lambda: self.ms / 1_000, lambda: self.ms * 1_000_000)

    def begin(self, trace: str = TRACE, flags: str = "00") -> Request:
        return self.spans.begin(f"00-{trace}-{SPAN}-{flags}")

    def end(self, request: Request, status: int = 200, *, waits: bool = False, stream: bool = False) -> None:
        self.spans.end(request, "POST", "/graphql:submitJob", status, waits=waits, stream=stream)

    def event(self, trace: str = TRACE, kind: str = "task.succeeded.v1", headers: Any = ()) -> None:
        value = f'{{"id":"0-1","data":{{"type":"{kind}"}},"traceparent":"00-{trace}-{SPAN}-01"}}'
        self.spans.saw(value.encode(), lambda: headers)

    def reasons(self) -> list[Any]:
        return [span.attributes["sampling.reason"] for span in self.notes.spans]


async def test_a_submission_waits_for_the_end_of_its_work() -> None:
    one = Requests()
    request = one.begin()
    one.ms += 20
    one.end(request, waits=True)
    one.event(headers=[])
    one.event(trace="12" * 16, headers=HEADERS)
    assert one.reasons() == []
    one.event(headers=HEADERS)
    (span,) = one.notes.spans
    assert (span.trace_id, span.parent_id, span.end_ns - span.start_ns) == (TRACE, "", 20_000_000)
    assert span.span_id == request.traceparent[36:52] and request.traceparent.endswith("-00")
    assert span.attributes == {
        "method": "POST",
        "endpoint": "/graphql:submitJob",
        "status_code": 200,
        "sampling.reason": "slow",
    }


@pytest.mark.scenario("too many traces wait")
async def test_of_more_than_fit_the_oldest_goes_and_is_counted() -> None:
    one = Requests()
    for number in range(MAX_HELD + 1):
        one.end(one.begin(f"{number + 1:016x}" + "00" * 8), waits=True)
    assert one.metrics.registry.get_sample_value("jobledger_trace_spans_dropped_total", {"reason": "held"}) == 1
    one.event(f"{1:016x}" + "00" * 8, headers=HEADERS)
    assert one.reasons() == []
    one.event(f"{2:016x}" + "00" * 8, headers=HEADERS)
    assert one.reasons() == ["slow"]


async def test_work_may_end_before_its_submission_is_answered() -> None:
    one = Requests()
    request = one.begin()
    one.event(headers=HEADERS)
    one.end(request, waits=True)
    assert one.reasons() == ["slow"]


async def test_a_failure_is_kept_also_where_no_worker_says_so() -> None:
    one = Requests()
    one.end(one.begin(), waits=True)
    one.event(kind="task.lost.v1")
    assert one.reasons() == ["error"]


async def test_what_has_begun_no_work_is_decided_at_once() -> None:
    one = Requests()
    one.end(one.begin())
    assert one.reasons() == []
    one.end(one.begin(LUCKY))
    one.end(one.begin(flags="01"))
    one.end(one.begin(), status=503, waits=True)
    assert one.reasons() == ["normal", "normal", "error"]
    assert [span.parent_id for span in one.notes.spans] == ["", SPAN, ""]
    assert one.notes.spans[-1].error == "503"
    one.notes.spans.clear()
    for _ in range(200):
        request = one.begin()
        one.ms += 1
        one.end(request)
    request = one.begin()
    one.ms += 1_000
    one.end(request)
    request = one.begin()
    one.ms += 1_000
    one.end(request, stream=True)
    assert one.reasons() == ["slow"], "how long somebody listens is not slow"


async def test_what_nobody_hears_of_goes_unless_it_is_kept_anyway() -> None:
    one = Requests()
    for trace, flags in ((TRACE, "00"), (LUCKY, "00"), ("12" * 8 + "00" * 8, "01")):
        one.end(one.begin(trace, flags), waits=True)
    assert one.reasons() == []
    one.ms += 61_000
    one.spans._expire()
    assert one.reasons() == ["normal", "normal"]


def test_without_an_exporter_ids_go_on_and_nothing_else() -> None:
    spans = RequestSpans(Tracing(), Metrics("api", instance_id="a", strict=True), lambda: 0.0)
    sampled, unsampled = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"
    assert spans.begin(sampled).traceparent == sampled, "a span id that nobody exports would break the tree"
    child = spans.begin(unsampled).traceparent
    assert child[:36] == unsampled[:36] and child != unsampled
    assert len(spans.begin("").traceparent) == len(spans.begin("nonsense").traceparent) == 55
    spans.end(spans.begin(""), "POST", "/graphql", 500, waits=True, stream=False)


# -- the store of a dev stack -------------------------------------------------------------------------------------


def stored(trace: str = TRACE, span: str = SPAN, start: int = 5_000_000) -> StoredSpan:
    return StoredSpan(trace, span, None, "api_request", "api", start, start + 2_500_000, {"method": "POST"})


def test_the_store_keeps_the_traces_heard_of_last() -> None:
    store = TraceStore(traces=3, per_trace=2, spans=5)
    for name in "abc":
        store.add(stored(name))
    store.add(stored("a", "other"))
    store.add(stored("a", "other"))
    store.add(stored("a", "too many"))
    store.add(stored("d"))
    assert [len(store.trace(name)) for name in "abcd"] == [2, 0, 1, 1]
    store.add(stored("c", "second"))
    store.add(stored("d", "second"))
    assert [len(store.trace(name)) for name in "acd"] == [0, 2, 2] and len(store) == 2


def test_a_trace_is_answered_or_why_there_is_none() -> None:
    store = TraceStore()
    store.add(stored(span="11" * 8, start=7_000_000))
    store.add(stored())
    found = trace_of(store, TRACE)
    assert isinstance(found, Trace) and [span.id for span in found.spans] == [SPAN, "11" * 8]
    assert (found.spans[0].start, found.spans[0].duration_ms) == (5, 2.5)
    assert isinstance(trace_of(store, "12" * 16), NotFound)
    assert isinstance(trace_of(store, "nonsense"), ValidationFailed)
    assert isinstance(trace_of(None, TRACE), Unavailable)


def sent(**fields: Any) -> bytes:
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "worker"
    span = resource.scope_spans.add().spans.add(
        trace_id=bytes.fromhex(TRACE), span_id=bytes.fromhex(SPAN), name="task_execution", **fields
    )
    span.attributes.add(key="attempt").value.int_value = 2
    span.attributes.add(key="long").value.string_value = "x" * 10_000
    span.status.code = span.status.STATUS_CODE_ERROR
    return request.SerializeToString()


async def test_the_intake_takes_otlp_from_this_machine_within_its_bounds() -> None:
    store = TraceStore()
    app = Starlette(routes=[intake_route(store)])
    kind = {"content-type": "application/x-protobuf"}

    async def post(content: bytes, headers: dict[str, str] = kind, host: str = "127.0.0.1") -> int:
        transport = httpx.ASGITransport(app, client=(host, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as http:
            return (await http.post("/v1/traces", content=content, headers=headers)).status_code

    assert await post(sent(), host="10.0.0.1") == 403
    assert await post(b"{}", {"content-type": "application/json"}) == 415
    assert await post(sent(), {**kind, "content-encoding": "gzip"}) == 415
    assert await post(b"\xff\xff") == 400
    assert await post(b"x" * (MAX_BODY_BYTES + 1)) == 413
    assert len(store) == 0
    assert await post(sent(start_time_unix_nano=5)) == 200
    (span,) = store.trace(TRACE)
    assert (span.name, span.service, span.start_ns, span.parent_id, span.failed) == (
        "task_execution",
        "worker",
        5,
        None,
        True,
    )
    assert span.attributes["attempt"] == 2 and len(str(span.attributes["long"])) == 1_000

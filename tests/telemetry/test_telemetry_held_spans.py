from __future__ import annotations

import random

from jobledger.telemetry.finished_span import FinishedSpan
from jobledger.telemetry.held_spans import HeldSpans
from jobledger.telemetry.sampling import SamplingReason
from jobledger.telemetry.span_buffer import SpanBuffer

EXECUTION = 1


class Request:
    """Held spans on a clock that the test moves."""

    def __init__(self, most: int = 10) -> None:
        self.now = 0.0
        self.kept: list[tuple[str, str, SamplingReason]] = []
        self.dropped = 0
        self.held = HeldSpans(self._export, lambda: self.now, self._drop, seconds=60, most=most)

    def _export(self, span: FinishedSpan, reason: SamplingReason) -> None:
        self.kept.append((span.trace_id, span.span_id, reason))

    def _drop(self) -> None:
        self.dropped += 1

    def hold(self, trace: str, span: str = "s", otherwise: SamplingReason | None = None) -> None:
        self.held.hold(FinishedSpan("api_request", trace, span, "", 0, 1, {}), otherwise)


def test_a_held_span_is_exported_with_its_trace() -> None:
    one = Request()
    one.hold("a", "1")
    one.hold("a", "2")
    one.hold("b", "3")
    assert not one.held.idle
    assert "a" in one.held and "c" not in one.held
    one.held.kept("a", SamplingReason.ERROR)
    one.held.kept("a", SamplingReason.SLOW)
    assert one.kept == [("a", "1", SamplingReason.ERROR), ("a", "2", SamplingReason.ERROR)]


def test_what_nobody_keeps_goes_after_a_minute() -> None:
    one = Request()
    one.hold("a")
    one.hold("b", otherwise=SamplingReason.NORMAL)
    one.now = 59
    one.held.expire()
    assert len(one.held) == 2
    one.now = 61
    one.held.expire()
    assert len(one.held) == 0 and one.kept == [("b", "s", SamplingReason.NORMAL)] and one.dropped == 0
    one.held.kept("a", SamplingReason.ERROR)
    assert len(one.kept) == 1


def test_the_oldest_goes_when_there_are_too_many() -> None:
    one = Request(most=3)
    for name in "abcde":
        one.hold(name)
    assert len(one.held) == 3 and one.dropped == 2
    assert [name in one.held for name in "abcde"] == [False, False, True, True, True]


def test_the_end_of_work_may_come_before_that_of_the_request() -> None:
    one = Request()
    one.held.begin("a")
    one.held.begin("a")
    assert "a" in one.held
    one.held.kept("a", SamplingReason.NEW)
    assert one.held.end("a") is SamplingReason.NEW
    assert one.held.end("a") is SamplingReason.NEW
    assert "a" not in one.held
    one.held.begin("a")
    assert not one.held.idle
    assert one.held.end("a") is None
    assert one.held.idle


def made(**bounds: int) -> tuple[SpanBuffer[str], list[str]]:
    gone_on: list[str] = []
    return SpanBuffer(gone_on.append, **bounds), gone_on


def test_spans_below_an_execution_wait_for_its_end() -> None:
    buffer, gone_on = made()
    buffer.open(EXECUTION)
    buffer.started(2, EXECUTION)
    buffer.started(3, 2)
    buffer.ended(3, "below")
    buffer.ended(2, "above")
    buffer.started(9, 8)
    buffer.ended(9, "of nobody")
    assert gone_on == ["of nobody"]
    assert buffer.close(EXECUTION, keep=True) == (["below", "above"], 0)
    assert buffer.size == 0


def test_a_span_that_outlives_its_execution_goes_where_that_has_gone() -> None:
    buffer, gone_on = made()
    for keep in (True, False):
        buffer.open(EXECUTION)
        buffer.started(2, EXECUTION)
        assert buffer.close(EXECUTION, keep=keep).spans == []
        buffer.started(3, 2)
        buffer.ended(3, f"later {keep}")
        buffer.ended(2, f"late {keep}")
    assert gone_on == ["later True", "late True"] and buffer.size == 0


def test_no_execution_and_no_process_holds_more_than_its_bound() -> None:
    buffer, gone_on = made(per_execution=5, altogether=20)
    buffer.open(EXECUTION)
    for span in range(10, 18):
        buffer.started(span, EXECUTION)
        buffer.ended(span, str(span))
    held = buffer.close(EXECUTION, keep=True)
    assert (len(held.spans), held.dropped, gone_on, buffer.size) == (5, 3, [], 0)
    for execution in range(100, 110):
        buffer.open(execution)
        for span in range(5):
            buffer.started(execution * 1_000 + span, execution)
    assert buffer.size == 20


def test_whatever_the_order_nothing_stays_behind() -> None:
    chance = random.Random(5)
    buffer, _ = made(per_execution=20, altogether=100)
    running: dict[int, list[int]] = {}
    orphans: list[int] = []
    for step in range(1, 5_000):
        choice = chance.random()
        if choice < 0.2 or not running:
            buffer.open(-step)
            running[-step] = []
        elif choice < 0.6:
            execution = chance.choice(list(running))
            buffer.started(step, chance.choice([execution, *running[execution]]))
            running[execution].append(step)
        elif choice < 0.8:
            spans = chance.choice(list(running.values())) or orphans
            if spans:
                buffer.ended(spans.pop(chance.randrange(len(spans))), "x")
        else:
            execution = chance.choice(list(running))
            orphans += running.pop(execution)
            buffer.close(execution, keep=chance.random() < 0.5)
        assert buffer.size <= 100
    for execution, spans in running.items():
        buffer.close(execution, keep=False)
        orphans += spans
    for span in orphans:
        buffer.ended(span, "x")
    assert buffer.size == 0

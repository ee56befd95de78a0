from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator

import emissions
import pytest
import structlog
import structlog.testing
from pydantic import BaseModel, ValidationError

from jobledger.telemetry.catalogue import LOG_EVENTS, UndeclaredError
from jobledger.telemetry.handler_work import HandlerWork, working_on
from jobledger.telemetry.library_logs import PrintedLines
from jobledger.telemetry.log_line import SINK
from jobledger.telemetry.logs import MAX_LINE, configure_logging, get_logger, lost_lines
from jobledger.telemetry.traceparent import use_traceparent

FIELDS = ["timestamp", "level", "service", "instance_id", "trace_id", "span_id", "event", "message", "context"]
TRACEPARENT = f"00-{'ab' * 16}-{'cd' * 8}-01"
log = get_logger()


@pytest.fixture(autouse=True)
def stream() -> Iterator[io.BytesIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.BytesIO()
    configure_logging("scheduler", "scheduler-1", "DEBUG", to_stream=stream, clock=lambda: 1705314600.1239)
    yield stream
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    SINK.configured = False


def lines(stream: io.BytesIO) -> list[dict]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_json_object_with_exactly_the_fields(stream: io.BytesIO) -> None:
    log.info("job_dispatched", job_id="j", tenant_id="t", traceparent=TRACEPARENT)
    log.bind(job_id="k").warning("task_timeout", message="Own\ntext")
    first, second = lines(stream)
    assert list(first) == FIELDS
    assert first == {
        "timestamp": "2024-01-15T10:30:00.123Z",
        "level": "INFO",
        "service": "scheduler",
        "instance_id": "scheduler-1",
        "trace_id": "ab" * 16,
        "span_id": "cd" * 8,
        "event": "job_dispatched",
        "message": "Job dispatched to queue",
        "context": {"job_id": "j", "tenant_id": "t"},
    }
    assert list(second) == FIELDS
    assert (second["level"], second["message"], second["context"]) == ("WARN", "Own\ntext", {"job_id": "k"})
    assert (second["trace_id"], second["span_id"]) == ("", "")


def test_levels_have_the_declared_spelling_and_lower_ones_are_left_out(stream: io.BytesIO) -> None:
    for method in ("debug", "info", "warning", "error", "critical"):
        getattr(log, method)("process_started")
    assert [line["level"] for line in lines(stream)] == ["DEBUG", "INFO", "WARN", "ERROR", "FATAL"]
    quiet = io.BytesIO()
    configure_logging("worker", "worker-1", "WARN", to_stream=quiet)
    log.info("process_started")
    log.error("request_failed")
    assert [line["level"] for line in lines(quiet)] == ["ERROR"]


def test_lines_carry_the_ids_of_the_current_trace(stream: io.BytesIO) -> None:
    with use_traceparent(TRACEPARENT):
        log.info("process_started")
    log.info("process_started")
    assert [line["trace_id"] for line in lines(stream)] == ["ab" * 16, ""]


def test_lines_of_the_standard_library_have_the_same_form(stream: io.BytesIO) -> None:
    logging.getLogger("lib").warning("host %s", "postgresql://user:hunter2@db/x")
    logging.getLogger("lib").debug("record shown")
    line, *more = lines(stream)
    assert not more
    assert list(line) == FIELDS
    assert (line["level"], line["event"], line["context"]) == ("WARN", "library_log", {"logger": "lib"})
    assert line["message"] == "host postgresql://user:[hidden]@db/x"


def test_python_warnings_come_out_as_lines(stream: io.BytesIO) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)  # who did it before in this process did it to what pytest has put back since
        logging.captureWarnings(True)
        warnings.warn("old", UserWarning, stacklevel=1)
    assert lines(stream)[-1]["context"]["logger"] == "py.warnings"


def test_a_broken_format_string_of_a_library_does_not_end_the_caller(
    stream: io.BytesIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    logging.getLogger("lib").warning("%d", "no number")
    log.info("process_started")
    assert [line["event"] for line in lines(stream)] == ["process_started"]


def test_an_exception_gives_type_text_and_frames_but_no_input_values(stream: io.BytesIO) -> None:
    class Payload(BaseModel):
        count: int

    try:
        Payload.model_validate({"count": "my secret text"})
    except ValidationError:
        log.exception("request_failed")
    context = lines(stream)[0]["context"]
    assert context["error_type"] == "ValidationError"
    assert any("test_an_exception" in frame for frame in context["stack"])
    assert "my secret text" not in stream.getvalue().decode()


@pytest.mark.parametrize("text", ["password=hunter2 host=db", "sasl.password: hunter2", "kafka://a:hunter2@b/c"])
def test_passwords_in_error_texts_are_hidden(stream: io.BytesIO, text: str) -> None:
    try:
        raise ConnectionError(text)
    except ConnectionError:
        log.exception("db_connection_lost")
    assert b"hunter2" not in stream.getvalue()
    assert b"[hidden]" in stream.getvalue()


def test_context_keys_that_hold_secrets_or_user_text_are_hidden(stream: io.BytesIO) -> None:
    log.info("process_started", payload={"a": 1}, token="t0p", attempt=2)
    assert lines(stream)[0]["context"] == {"payload": "[hidden]", "token": "[hidden]", "attempt": 2}


def test_what_json_cannot_hold_still_gives_a_line(stream: io.BytesIO) -> None:
    log.info("process_started", big=2**70, text="\ud800", thing=object(), many={1, 2})
    context = lines(stream)[0]["context"]
    assert context["big"] == str(2**70)
    assert context["text"] == "?"


def test_a_line_has_a_limit(stream: io.BytesIO) -> None:
    log.info("process_started", message="m" * 50_000, text="x" * 50_000, deep=[["y" * 50_000]], job_id="j")
    assert len(stream.getvalue()) < MAX_LINE
    line = lines(stream)[0]
    assert list(line) == FIELDS
    assert line["context"]["job_id"] == "j"


def test_a_closed_stream_loses_lines_and_counts_them() -> None:
    closed = io.BytesIO()
    configure_logging("api", "api-1", to_stream=closed)
    closed.close()
    before = lost_lines()
    log.info("process_started")
    assert lost_lines() == before + 1
    SINK.stream = io.BytesIO()


def test_events_are_checked_against_the_table_where_asked() -> None:
    configure_logging("scheduler", "s", to_stream=io.BytesIO(), check_events=True)
    with pytest.raises(UndeclaredError, match="not declared"):
        log.info("made_up")
    with pytest.raises(UndeclaredError, match="declared as FATAL"):
        log.info("part_failed", part="x")
    with pytest.raises(UndeclaredError, match="lacks the context"):
        log.info("job_dispatched", job_id="j")
    log.critical("part_failed", part="x", more=1)
    configure_logging("scheduler", "s", to_stream=io.BytesIO())
    log.info("made_up")
    emissions.forget("made_up")


#: Level and fields of each pattern, as the specification of the logs has them (`latency_ms` is `dispatch_latency_ms`).
PATTERNS = {
    "job_polled": ("INFO", "job_id next_run_time"),
    "job_dispatched": ("INFO", "job_id execution_id tenant_id queue scheduled_time dispatch_latency_ms"),
    "dispatch_retry": ("WARN", "job_id attempt error"),
    "dispatch_failed": ("ERROR", "job_id error after_attempts"),
    "leadership_acquired": ("INFO", "scheduler_id"),
    "leadership_lost": ("WARN", "scheduler_id reason"),
    "task_received": ("INFO", "execution_id job_id worker_id"),
    "task_started": ("INFO", "execution_id job_id"),
    "checkpoint_saved": ("DEBUG", "execution_id progress"),
    "task_completed": ("INFO", "execution_id duration_ms status"),
    "task_timeout": ("WARN", "execution_id duration_ms limit_ms"),
    "task_failed": ("ERROR", "execution_id error attempt"),
    "slow_query": ("WARN", "query duration_ms"),
    "db_connection_lost": ("ERROR", "error"),
    "task_retry_scheduled": ("WARN", "job_id tenant_id attempt next_run_time"),
    "state_transition": ("DEBUG", "stream_id tenant_id event_type"),
}


@pytest.mark.parametrize("name", PATTERNS)
def test_each_pattern_has_its_level_and_its_fields(name: str) -> None:
    level, fields = PATTERNS[name]
    assert LOG_EVENTS[name].level == level
    assert set(fields.split()) <= set(LOG_EVENTS[name].fields)


WORK = {"job_id": "j", "tenant_id": "t", "execution_id": "e"}


def test_what_a_handler_logs_with_other_loggers_carries_its_ids(stream: io.BytesIO) -> None:
    with use_traceparent(TRACEPARENT), working_on(HandlerWork("h", WORK)):
        logging.getLogger("my.module").warning("from %s", "logging")
        structlog.get_logger().info("from structlog", rows=3)
    logging.getLogger("my.module").warning("outside")
    one, two, three = lines(stream)
    assert (one["event"], one["level"], one["message"]) == ("handler_log", "WARN", "from logging")
    assert one["context"] == {**WORK, "logger": "my.module"}
    assert one["trace_id"] == two["trace_id"] == "ab" * 16
    assert (two["event"], two["message"], two["context"]) == (
        "handler_log",
        "from structlog",
        {**WORK, "logger": "structlog", "rows": 3},
    )
    assert (three["event"], three["context"]) == ("library_log", {"logger": "my.module"})


def test_what_is_printed_is_one_line_of_the_log_for_each_line(stream: io.BytesIO) -> None:
    printed = PrintedLines(lambda handler: handler != "quiet")
    with working_on(HandlerWork("h", WORK)):
        print("one", 2, file=printed)
        print("a", end="", file=printed)
        print("b\n\nc", file=printed)
    with working_on(HandlerWork("quiet", WORK)):
        print("not this", file=printed)
    print("outside", file=printed)
    assert [(line["event"], line["message"]) for line in lines(stream)] == [
        ("handler_log", "one 2"),
        ("handler_log", "ab"),
        ("handler_log", "c"),
        ("library_log", "outside"),
    ]
    print("x" * 10_000, end="", file=printed)
    assert len(lines(stream)) == 5


def test_a_process_that_is_no_role_has_the_lines_where_its_own_go() -> None:
    """As in a web application that uses the inline client in its tests."""
    structlog.reset_defaults()
    SINK.configured = False
    with structlog.testing.capture_logs() as seen:
        log.info("process_started", job_id="j")
    assert seen == [{"event": "process_started", "job_id": "j", "log_level": "info"}]

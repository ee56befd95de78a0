from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator

import pytest
import structlog
from pydantic import BaseModel, ValidationError

from jobledger.telemetry import logs
from jobledger.telemetry.catalogue import UndeclaredError
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
    logs._SINK.stream = io.BytesIO()


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

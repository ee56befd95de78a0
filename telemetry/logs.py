"""Log lines: one JSON object a line on stdout, with exactly the fields of the reference page.

    log = get_logger()
    log.info("job_dispatched", job_id=…, tenant_id=…)

`message=` replaces the event's default message and `traceparent=` the current trace; all else goes into `context`.
Lines of libraries that use the standard library's logging come out in the same form, as the event `library_log`.
"""

from __future__ import annotations

import logging
import re
import sys
import time
import traceback
from collections.abc import Callable, MutableMapping
from typing import Any, BinaryIO, Literal, cast

import orjson
import structlog

from jobledger.telemetry.catalogue import LOG_EVENTS, UndeclaredError
from jobledger.telemetry.traceparent import current_traceparent

Level = Literal["DEBUG", "INFO", "WARN", "ERROR", "FATAL"]
_NUMBERS: dict[str, int] = {"DEBUG": 10, "INFO": 20, "WARN": 30, "ERROR": 40, "FATAL": 50}
_LEVELS: dict[str, Level] = {
    "debug": "DEBUG",
    "info": "INFO",
    "warn": "WARN",
    "warning": "WARN",
    "error": "ERROR",
    "exception": "ERROR",
    "fatal": "FATAL",
    "critical": "FATAL",
}
_MESSAGES = {event.name: event.message for event in LOG_EVENTS.values()}

MAX_LINE = 16 * 1024
"""Longer lines have their strings cut to `MAX_STRING` and lose what is nested."""
MAX_STRING = 500
_MAX_FRAMES = 20
_MAX_KEYS = 50

# Context keys that would hold secrets or what users put into jobs. A line that has one shows that the caller is wrong,
# but it's the line that must not leak.
_HIDDEN = frozenset(
    {
        *("payload", "result", "idempotency_key", "dsn", "postgres_dsn", "credentials", "secret", "token"),
        *("password", "passwd", "sasl_password", "ssl_key_password", "api_key", "apikey", "authorization", "cookie"),
    }
)
_URL_PASSWORD = re.compile(r"(?<=://)([^\s/@:]*):[^\s/@]*@")
_DSN_PASSWORD = re.compile(r"\b(password|sasl\.password|secret|token)\s*[=:]\s*[^\s,;&]+", re.IGNORECASE)
_PYDANTIC_INPUT = re.compile(r"input_value=.*?(?=, input_type=|\n|$)", re.DOTALL)


def scrub(text: str) -> str:
    """The text without passwords in URLs and DSNs and without the input values that pydantic prints; cut to a limit."""
    text = _PYDANTIC_INPUT.sub("input_value=[hidden]", text[: 4 * MAX_STRING])
    text = _DSN_PASSWORD.sub(r"\1=[hidden]", _URL_PASSWORD.sub(r"\1:[hidden]@", text))
    return text if len(text) <= MAX_STRING else text[:MAX_STRING] + "…"


class _Sink:
    """What all loggers of the process share: where lines go and who writes them."""

    def __init__(self) -> None:
        self.service = ""
        self.instance_id = ""
        self.clock: Callable[[], float] = time.time
        self.check_events = False
        self.stream: BinaryIO = sys.stdout.buffer
        self.lost_lines = 0
        self._second = -1
        self._prefix = ""

    def timestamp(self) -> str:
        """Now in milliseconds, UTC."""
        millis = int(self.clock() * 1000)
        second = millis // 1000
        if second != self._second:  # formatting a date costs more than the rest of the line, so once a second
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = second
        return f"{self._prefix}.{millis % 1000:03d}Z"

    def line(self, level: str, event: str, message: str, traceparent: str, context: dict[str, Any]) -> bytes:
        """One line without its end."""
        fields = {
            "timestamp": self.timestamp(),
            "level": level,
            "service": self.service,
            "instance_id": self.instance_id,
            "trace_id": traceparent[3:35],
            "span_id": traceparent[36:52],
            "event": event,
            "message": message,
            "context": context,
        }
        line = _dump(fields)
        if len(line) > MAX_LINE:
            fields["message"] = message[:MAX_STRING]
            fields["context"] = _shortened(context)
            line = _dump(fields)
        return line


_SINK = _Sink()


def _dump(fields: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(fields, default=str, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z)
    except orjson.JSONEncodeError:  # lone surrogates, integers over 64 bits, nesting: a line must come out all the same
        fields["context"] = _shortened(fields["context"])
        fields["message"] = fields["message"].encode("utf-8", "replace").decode()
        return orjson.dumps(fields)


def _shortened(context: dict[str, Any]) -> dict[str, Any]:
    def short(value: object) -> str | int | float | bool | None:
        if value is None or isinstance(value, bool | float):
            return value
        if isinstance(value, int) and abs(value) < 2**53:
            return value
        return str(value)[:MAX_STRING].encode("utf-8", "replace").decode()

    return {str(short(str(key))): short(value) for key, value in list(context.items())[:_MAX_KEYS]}


def _add_error(context: dict[str, Any], error: object) -> None:
    """Put an exception's class, scrubbed text and frames (no source values) into the context."""
    if error is True:
        error = sys.exc_info()[1]
    elif isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        context["error_type"] = type(error).__name__
        context.setdefault("error", scrub(str(error)))
        frames = traceback.extract_tb(error.__traceback__)[-_MAX_FRAMES:]
        context["stack"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]


def _render(_logger: object, method: str, fields: MutableMapping[str, Any]) -> bytes:
    """The last processor of structlog: from the keyword arguments to the line."""
    context = cast(dict[str, Any], fields)
    event = context.pop("event")
    message = context.pop("message", None)
    traceparent = context.pop("traceparent", None)
    if "exc_info" in context:
        _add_error(context, context.pop("exc_info"))
    if not _HIDDEN.isdisjoint(context):
        for key in _HIDDEN & context.keys():
            context[key] = "[hidden]"
    level = _LEVELS[method]
    if _SINK.check_events:
        _check(event, level, context)
    if message is None:
        message = _MESSAGES.get(event, event)
    return _SINK.line(level, event, message, traceparent or current_traceparent.get(), context)


def _check(event: str, level: str, context: dict[str, Any]) -> None:
    declared = LOG_EVENTS.get(event)
    if declared is None:
        raise UndeclaredError(f"Log event {event!r} is not declared; add it to telemetry/log_table.py.")
    if declared.level != level and event not in {"library_log", "handler_log"}:
        raise UndeclaredError(f"Log event {event} is declared as {declared.level}, not {level}.")
    missing = [field for field in declared.fields if field not in context]
    if missing:
        raise UndeclaredError(f"Log event {event} lacks the context {missing}.")


class _Writer:
    """The end of structlog's chain: each method writes one finished line."""

    def msg(self, line: bytes) -> None:
        try:
            _SINK.stream.write(line + b"\n")
            _SINK.stream.flush()
        except (OSError, ValueError):  # reader of stdout gone, or closed: work goes on without its log, and is counted
            _SINK.lost_lines += 1

    debug = info = warn = warning = error = exception = fatal = critical = log = msg


REPEAT_SECONDS = 30.0
"""Of lines of a library that differ in numbers alone one comes out in this time, with the count of the others."""
_MAX_REPEATED = 200
_VARYING = re.compile(r"\d+|0x[0-9a-f]+|'[^']*'")


class _Repeats:
    """Collapses what a Kafka client says again and again while its broker is away."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._seen: dict[tuple[str, int, str], tuple[float, int]] = {}

    def admit(self, record: logging.LogRecord) -> int | None:
        """How many like this one were left out since the last that came out; None: leave this one out too."""
        now = self._monotonic()
        key = (record.name, record.levelno, _VARYING.sub("#", record.getMessage())[:200])
        since, left_out = self._seen.get(key, (-REPEAT_SECONDS, 0))
        if now - since < REPEAT_SECONDS:
            self._seen[key] = (since, left_out + 1)
            return None
        self._seen.pop(key, None)
        self._seen[key] = (now, 0)
        while len(self._seen) > _MAX_REPEATED:
            del self._seen[next(iter(self._seen))]
        return left_out


#: Libraries that say a line for each try of each request.
_REPEATING = ("aiokafka", "faust", "mode")


class _StandardLibrary(logging.Handler):
    """Brings the lines of libraries into our form."""

    def __init__(self) -> None:
        super().__init__()
        self._repeats = _Repeats()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            context: dict[str, Any] = {"logger": record.name}
            if record.name.startswith(_REPEATING):
                left_out = self._repeats.admit(record)
                if left_out is None:
                    return
                if left_out:
                    context["left_out"] = left_out
            if record.exc_info:
                _add_error(context, record.exc_info)
            numbers = [name for name, number in _NUMBERS.items() if number <= record.levelno]
            level = numbers[-1] if numbers else "DEBUG"
            line = _SINK.line(level, "library_log", scrub(record.getMessage()), current_traceparent.get(), context)
            _WRITER.msg(line)
        except Exception:  # noqa: BLE001 (a bad format string of a library must not end the caller; stderr tells)
            self.handleError(record)


_WRITER = _Writer()


def configure_logging(
    service: str,
    instance_id: str,
    level: Level = "INFO",
    *,
    to_stream: BinaryIO | None = None,
    clock: Callable[[], float] = time.time,
    check_events: bool = False,
) -> None:
    """Set up logging of this process; loggers got before work too.

    `service` is the role, `instance_id` the stable name of the process. `check_events` makes lines whose event, level
    or context isn't as declared raise `UndeclaredError` (tests, development). `to_stream` takes the lines in tests.
    Libraries' lines below INFO are never taken: they may show records.
    """
    _SINK.service, _SINK.instance_id, _SINK.clock, _SINK.check_events = service, instance_id, clock, check_events
    _SINK.stream = to_stream or sys.stdout.buffer
    structlog.configure(
        processors=[_render],
        wrapper_class=structlog.make_filtering_bound_logger(_NUMBERS[level]),
        logger_factory=lambda *_args: _WRITER,
        # A cached logger keeps its level for ever, which is right in a process and wrong between tests.
        cache_logger_on_first_use=to_stream is None,
    )
    root = logging.getLogger()
    root.handlers = [handler for handler in root.handlers if not isinstance(handler, _StandardLibrary)]
    root.addHandler(_StandardLibrary())
    root.setLevel(max(_NUMBERS[level], logging.INFO))
    logging.captureWarnings(True)


def lost_lines() -> int:
    """How many lines could not be written since the process started."""
    return _SINK.lost_lines


def get_logger(**context: object) -> structlog.typing.FilteringBoundLogger:
    """A logger whose lines all have this context; may be got before `configure_logging`, at import."""
    return cast(structlog.typing.FilteringBoundLogger, structlog.get_logger(**context))

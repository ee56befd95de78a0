"""Log lines: one JSON object a line on stdout, with exactly the fields of the reference page.

    log = get_logger()
    log.info("job_dispatched", job_id=…, tenant_id=…)

`message=` replaces the event's default message and `traceparent=` the current trace; all else goes into `context`.
Lines that others make with `logging` or structlog come out in the same form (`library_logs`).
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, MutableMapping
from typing import Any, BinaryIO, cast

import structlog

from jobledger.telemetry.catalogue import LOG_EVENTS, UndeclaredError
from jobledger.telemetry.library_logs import StandardLibraryHandler, write_foreign
from jobledger.telemetry.log_levels import BoundLogger, Loggers
from jobledger.telemetry.log_line import (
    LEVEL_NUMBERS,
    MAX_LINE,
    SINK,
    Level,
    add_error,
    scrub,
    timestamp,
)
from jobledger.telemetry.traceparent import current_traceparent

__all__ = ["LOGGERS", "MAX_LINE", "Level", "configure_logging", "get_logger", "lost_lines", "scrub", "timestamp"]

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
#: Events whose level is that of what they pass on.
_ANY_LEVEL = frozenset({"library_log", "handler_log"})


class _Ours:
    """The end of structlog's chain: each method writes one finished line."""

    def msg(self, line: bytes) -> None:
        SINK.write(line)

    debug = info = warn = warning = error = exception = fatal = critical = log = msg


class _Foreign(_Ours):
    """The same for loggers that others get from structlog."""


_OURS, _FOREIGN = _Ours(), _Foreign()


def _render(logger: object, method: str, fields: MutableMapping[str, Any]) -> bytes:
    """The last processor of structlog: from the keyword arguments to the line."""
    context = cast(dict[str, Any], fields)
    if not SINK.configured:
        _leave_to_structlog(method, context)
    event = context.pop("event")
    message = context.pop("message", None)
    traceparent = context.pop("traceparent", None)
    if "exc_info" in context:
        add_error(context, context.pop("exc_info"))
    level = _LEVELS[method]
    if logger is _FOREIGN:
        write_foreign(level, "structlog", str(event), context, traceparent or "")
        raise structlog.DropEvent
    if SINK.check_events:
        _check(event, level, context)
    if message is None:
        message = _MESSAGES.get(event, event)
    return SINK.line(level, event, message, traceparent or current_traceparent.get(), context)


def _leave_to_structlog(method: str, context: dict[str, Any]) -> None:
    """In a process that isn't one of our roles a line goes where that program's own lines go."""
    getattr(structlog.get_logger(), method)(**context)
    raise structlog.DropEvent


def _check(event: str, level: str, context: dict[str, Any]) -> None:
    declared = LOG_EVENTS.get(event)
    if declared is None:
        raise UndeclaredError(f"Log event {event!r} is not declared; add it to telemetry/log_table.py.")
    if declared.level != level and event not in _ANY_LEVEL:
        raise UndeclaredError(f"Log event {event} is declared as {declared.level}, not {level}.")
    missing = [field for field in declared.fields if field not in context]
    if missing:
        raise UndeclaredError(f"Log event {event} lacks the context {missing}.")


_CHAIN: list[structlog.typing.Processor] = [_render]


def _make_logger() -> BoundLogger:
    bound = structlog.make_filtering_bound_logger(logging.NOTSET)
    return cast(BoundLogger, cast(Any, bound)(_OURS, _CHAIN, {}))


LOGGERS = Loggers(_make_logger)
"""Those of this process."""


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
    Libraries' lines below INFO are not taken: they may show records.
    """
    SINK.service, SINK.instance_id, SINK.clock, SINK.check_events = service, instance_id, clock, check_events
    SINK.stream = to_stream or sys.stdout.buffer
    SINK.configured = True
    LOGGERS.start_with(level)
    structlog.configure(
        processors=_CHAIN,
        wrapper_class=structlog.make_filtering_bound_logger(LEVEL_NUMBERS[level]),
        logger_factory=lambda *_args: _FOREIGN,
        cache_logger_on_first_use=to_stream is None,
    )
    root = logging.getLogger()
    root.handlers = [handler for handler in root.handlers if not isinstance(handler, StandardLibraryHandler)]
    root.addHandler(StandardLibraryHandler())
    root.setLevel(max(LEVEL_NUMBERS[level], logging.INFO))
    logging.captureWarnings(True)


def lost_lines() -> int:
    """How many lines could not be written since the process started."""
    return SINK.lost_lines


def get_logger(name: str = "") -> BoundLogger:
    """The logger of this name, by default that of the calling module; may be got before `configure_logging`."""
    return LOGGERS.get(name or sys._getframe(1).f_globals["__name__"])

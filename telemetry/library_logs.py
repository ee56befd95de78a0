"""Lines that do not come from our own loggers, in our form: libraries and handlers through `logging`, what is printed.

One that a running handler causes is the event `handler_log`, with the ids of its attempt; all others `library_log`.
"""

from __future__ import annotations

import io
import logging
import re
import time
from collections.abc import Callable
from typing import Any, BinaryIO

from jobledger.telemetry.handler_work import HandlerWork, current_work
from jobledger.telemetry.log_line import LEVEL_NUMBERS, MAX_LINE, SINK, Level, add_error, scrub
from jobledger.telemetry.traceparent import current_traceparent

REPEAT_SECONDS = 30.0
"""Of lines of a library that differ in numbers alone one comes out in this time, with the count of the others."""
_MAX_REPEATED = 200
_VARYING = re.compile(r"\d+|0x[0-9a-f]+|'[^']*'")
#: Libraries that say a line for each try of each request.
_REPEATING = ("aiokafka", "faust", "mode", "librdkafka")
_MAX_PRINTED = 8 * 1024


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


def _level_of(number: int) -> Level:
    """The highest of our levels that is not above a number of the standard library."""
    return next((name for name, least in reversed(LEVEL_NUMBERS.items()) if least <= number), "DEBUG")


def write_foreign(level: Level, logger: str, message: str, context: dict[str, Any], traceparent: str = "") -> None:
    """Write a line that somebody else has made: of the running handler, if there is one."""
    work = current_work.get()
    context = {**(work.ids if work else {}), "logger": logger, **context}
    event = "handler_log" if work else "library_log"
    limit = MAX_LINE if work else MAX_LINE // 32
    SINK.write(SINK.line(level, event, scrub(message, limit), traceparent or current_traceparent.get(), context))


class StandardLibraryHandler(logging.Handler):
    """Brings the lines of libraries into our form."""

    def __init__(self) -> None:
        super().__init__()
        self._repeats = _Repeats()

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            context: dict[str, Any] = {}
            if record.name.startswith(_REPEATING):
                left_out = self._repeats.admit(record)
                if left_out is None:
                    return
                if left_out:
                    context["left_out"] = left_out
            if record.exc_info:
                add_error(context, record.exc_info)
            write_foreign(_level_of(record.levelno), record.name, record.getMessage(), context)
        except Exception:  # noqa: BLE001 (a bad format string of a library must not end the caller; stderr tells)
            self.handleError(record)


class PrintedLines(io.TextIOBase):
    """In place of `sys.stdout`: what is printed comes out as log lines of level INFO, one for each line."""

    encoding = "utf-8"
    errors = "replace"

    def __init__(self, enabled: Callable[[str], bool] = lambda _handler: True) -> None:
        self._enabled = enabled
        self._outside = HandlerWork("", {})

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, text: str) -> int:
        """Write the lines that are whole; the rest waits for its end, or for the end of the handler."""
        work = current_work.get() or self._outside
        *lines, work.printed = (work.printed + text).split("\n")
        if len(work.printed) > _MAX_PRINTED:
            lines.append(work.printed)
            work.printed = ""
        for line in lines:
            self._tell(work, line)
        return len(text)

    @property
    def buffer(self) -> BinaryIO:
        """Bytes go where the lines go, as they are."""
        return SINK.stream

    def fileno(self) -> int:
        """For programs that a handler starts."""
        return SINK.stream.fileno()

    def _tell(self, work: HandlerWork, line: str) -> None:
        if line.strip() and self._enabled(work.handler):
            write_foreign("INFO", "stdout", line, {})

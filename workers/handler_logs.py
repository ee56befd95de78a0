"""What handlers log: by `ctx.logger`, by `logging` or structlog, and what they print."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog

from jobledger.telemetry.handler_work import HandlerWork, working_on
from jobledger.telemetry.library_logs import PrintedLines
from jobledger.telemetry.logs import MAX_LINE, get_logger, scrub
from jobledger.workers.task_info import TaskInfo


def log_ids(info: TaskInfo) -> dict[str, object]:
    """What every line about an attempt has in its context."""
    return {"job_id": info.job_id, "tenant_id": info.tenant, "execution_id": info.execution_id}


def handler_logger(handler: str) -> structlog.typing.FilteringBoundLogger:
    """The logger whose level holds for what this handler logs and prints."""
    return get_logger(f"handlers.{handler}")


@contextmanager
def handler_lines(info: TaskInfo) -> Iterator[None]:
    """What is logged by `logging` or structlog inside the block, or printed, carries the ids of the attempt."""
    work = HandlerWork(info.handler, {**log_ids(info), "handler": info.handler, "attempt": info.attempt})
    with working_on(work):
        try:
            yield
        finally:
            if work.printed:
                sys.stdout.write("\n")


class HandlerLog:
    """Log lines of a handler: each is the event `handler_log` with the ids of the job; keyword values go along."""

    def __init__(self, info: TaskInfo) -> None:
        # Not bound to the logger: the level of a handler that runs already can be changed.
        self._ids = {**log_ids(info), "handler": info.handler, "attempt": info.attempt}
        self._log = handler_logger(info.handler)
        self._trace = info.traceparent or ""

    def debug(self, message: str, **values: object) -> None:
        """A line of level DEBUG."""
        self._log.debug("handler_log", **self._line(message, values))

    def info(self, message: str, **values: object) -> None:
        """A line of level INFO."""
        self._log.info("handler_log", **self._line(message, values))

    def warning(self, message: str, **values: object) -> None:
        """A line of level WARN."""
        self._log.warning("handler_log", **self._line(message, values))

    def error(self, message: str, **values: object) -> None:
        """A line of level ERROR."""
        self._log.error("handler_log", **self._line(message, values))

    def exception(self, message: str, **values: object) -> None:
        """A line of level ERROR with the exception that is being handled."""
        self._log.exception("handler_log", **self._line(message, values))

    def _line(self, message: str, values: dict[str, object]) -> dict[str, Any]:
        reserved = {"message", "event", "traceparent", "exc_info", *self._ids}
        line: dict[str, Any] = {f"{key}_" if key in reserved else key: value for key, value in values.items()}
        line |= {**self._ids, "message": scrub(message, MAX_LINE)}
        if self._trace:
            line["traceparent"] = self._trace
        return line


def log_what_is_printed() -> None:
    """From now on `print` in this process makes log lines; only log lines go to standard output."""
    sys.stdout = PrintedLines(lambda handler: not handler or handler_logger(handler).is_enabled_for(logging.INFO))

"""What a handler knows of the task that it runs: the second parameter `ctx: Context`."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from jobledger.domain.values import Opaque
from jobledger.workers.errors import CheckpointError, TaskCancelled
from jobledger.workers.external_call import UNWANTED, CallSpans, ExternalCall
from jobledger.workers.handler_logs import HandlerLog
from jobledger.workers.task_info import TaskInfo
from jobledger.workers.values import encode_checkpoint


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a handler has saved; `progress` in percent, where it has said how far it is."""

    data: Opaque
    progress: float | None = None


@dataclass(kw_only=True)
class CancelFlag:
    """Set once, from any thread; `reason` says who wants the task to stop."""

    event: threading.Event = field(default_factory=threading.Event)
    reason: str = ""

    def set(self, reason: str) -> None:
        """Ask the task to stop; the first reason stays."""
        if not self.event.is_set():
            self.reason = reason
            self.event.set()


class Context:
    """The running attempt as its handler sees it. All of it may be used from the handler's thread or coroutine."""

    def __init__(
        self,
        info: TaskInfo,
        *,
        last_checkpoint: Opaque | None = None,
        cancel: CancelFlag | None = None,
        save: Callable[[Checkpoint], None] | None = None,
        clock: Callable[[], float] = time.time,
        calls: CallSpans | None = None,
    ) -> None:
        self._info = info
        self._calls = calls or UNWANTED
        self._cancel = cancel or CancelFlag()
        self._save = save
        self._last = last_checkpoint
        self._clock = clock
        self._logger: HandlerLog | None = None

    @property
    def job_id(self) -> str:
        """Id of the job."""
        return self._info.job_id

    @property
    def tenant(self) -> str:
        """Tenant of the job."""
        return self._info.tenant

    @property
    def task(self) -> str:
        """Name of the task in the job; `main` for a plain job."""
        return self._info.task

    @property
    def queue(self) -> str:
        """Name of the queue that the task came through."""
        return self._info.queue

    @property
    def execution_id(self) -> str:
        """The same for every attempt of this task: the idempotency key for what the handler does elsewhere."""
        return self._info.execution_id

    @property
    def attempt(self) -> int:
        """1 for the first attempt, 2 after one failure …"""
        return self._info.attempt

    @property
    def fencing_token(self) -> int:
        """Grows with every hand-out of the task: what you write to can refuse a smaller one than it has seen."""
        return self._info.assignment

    @property
    def assignment(self) -> int:
        """Another name of `fencing_token`: the number of the hand-out, as the events have it."""
        return self._info.assignment

    @property
    def deadline(self) -> datetime | None:
        """When the attempt runs into its time-out (UTC); None without one."""
        at = self._info.deadline_ms
        return None if at is None else datetime.fromtimestamp(at / 1000, UTC)

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the deadline, not below 0; None without a time-out."""
        at = self._info.deadline_ms
        return None if at is None else max(0.0, at / 1000 - self._clock())

    @property
    def trace(self) -> str | None:
        """W3C traceparent of this attempt, to be passed on to what the handler calls."""
        return self._info.traceparent

    def external_call(self, url: str, method: str = "GET") -> ExternalCall:
        """A call to another service, as a span of its own below this attempt:

            with ctx.external_call("https://api.example.com/orders", "POST") as call:
                response = httpx.post("https://api.example.com/orders", json=order, headers=call.headers)
                call.status = response.status_code

        Works with any library and in async handlers too. `call.headers` holds W3C `traceparent` and `tracestate`, and
        the execution id as `X-Correlation-ID`. The span has the URL without user and query.
        """
        headers = {"X-Correlation-ID": self._info.execution_id}
        if self._info.traceparent:
            headers["traceparent"] = self._info.traceparent
        if self._info.tracestate:
            headers["tracestate"] = self._info.tracestate
        return ExternalCall(url, method, headers, self._calls)

    @property
    def cancelled(self) -> bool:
        """Whether the attempt is to stop: a cancel request, its time-out, or the end of the worker's lease."""
        return self._cancel.event.is_set()

    def raise_if_cancelled(self) -> None:
        """Raise TaskCancelled if the attempt is to stop; call it between steps of long work in a thread."""
        if self._cancel.event.is_set():
            raise TaskCancelled(self._cancel.reason)

    def wait_cancelled(self, seconds: float) -> bool:
        """Sleep in a plain function, at most `seconds`, but wake when the attempt is to stop; returns `cancelled`."""
        return self._cancel.event.wait(seconds)

    @property
    def last_checkpoint(self) -> Any:
        """What was saved last, by this attempt or one before it; None if nothing was."""
        return None if self._last is None else json.loads(self._last.data)

    def checkpoint(self, data: object, *, progress: float | None = None) -> None:
        """Save how far the work is (JSON, at most 64 KiB); a later attempt finds it in `last_checkpoint`.

        `progress` in percent, 0 to 100, goes into the log line of the checkpoint and nowhere else.

        Returns at once: the data is on its way to the log, in order with the report of the attempt's end. While one
        is on its way only the newest waits behind it. A worker killed in between loses what had not arrived.
        Raises CheckpointError, with nothing saved.
        """
        if progress is not None and not 0 <= progress <= 100:
            raise CheckpointError(f"The progress of a checkpoint is {progress}: give percent, 0 to 100.")
        encoded = encode_checkpoint(data)
        self._last = encoded
        if self._save is not None:
            self._save(Checkpoint(encoded, progress))

    @property
    def logger(self) -> HandlerLog:
        """A logger whose lines carry the ids of the job."""
        if self._logger is None:
            self._logger = HandlerLog(self._info)
        return self._logger

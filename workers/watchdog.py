"""Notices that a handler blocks the event loop, and keeps that from harming more than it must."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection
from dataclasses import dataclass

from jobledger.domain.job.commands import FailureKind
from jobledger.telemetry.logs import get_logger
from jobledger.telemetry.service import ThreadService
from jobledger.workers.execution import Execution

LOOK_SECONDS = 0.1
#: A loop that has not turned for this long is blocked: starts are reported, and a line says who does it.
BLOCKED_SECONDS = 0.5
#: While it lasts, the line comes again after this long.
AGAIN_SECONDS = 10.0
#: What a handler may block the loop beyond its own limit, or beyond the worker's lease, before the worker ends.
GRACE_SECONDS = 2.0
MAX_STACK_CHARACTERS = 4_000
#: Exit status of a worker that ends because a handler does not let go of its loop.
EXIT_BLOCKED = 75

log = get_logger()


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What the watchdog asks and does. All of it is called from its thread, while the loop may stand.

    `flush`: wait, at most so many seconds, until Kafka has what was posted.
    """

    executions: Callable[[], Collection[Execution]]
    lease_valid: Callable[[], bool]
    flush: Callable[[float], object]
    exit: Callable[[int], None] = os._exit


class Watchdog(ThreadService):
    """A thread that asks the loop for a sign of life while handlers run.

    A handler that blocks the loop is named, with its stack, in `loop_blocked`. Meanwhile the starts of all that have
    begun are reported, and heartbeats go on (they have a thread of their own). What nothing can stop has to end with
    the process: a handler that blocks beyond its limit, beyond the end of the lease, or for `limit_seconds`.
    """

    def __init__(self, watched: Watched, limit_seconds: float) -> None:
        super().__init__()
        self._watched = watched
        self._limit = limit_seconds
        self._asked = False
        self._loop: asyncio.AbstractEventLoop
        self._loop_thread = 0

    async def start(self) -> None:
        """Begin; in the thread of the loop."""
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._begin(self._watch, "watchdog")

    def _turn(self) -> None:
        self._asked = False

    def _watch(self) -> None:
        blocked, told_at, looked = 0.0, -AGAIN_SECONDS, time.monotonic()
        while not self._stopping.wait(LOOK_SECONDS):
            # A process that was stopped for a while (SIGSTOP, a laptop asleep) did not block its loop meanwhile.
            passed, looked = min(time.monotonic() - looked, 2 * LOOK_SECONDS), time.monotonic()
            if self._asked:
                blocked += passed
                if blocked >= BLOCKED_SECONDS:
                    tell = blocked - told_at >= AGAIN_SECONDS
                    told_at = blocked if tell else told_at
                    self._blocked(blocked, tell=tell)
            elif self._watched.executions() and not self._loop.is_closed():
                blocked, told_at, self._asked = 0.0, -AGAIN_SECONDS, True
                self._loop.call_soon_threadsafe(self._turn)

    def _blocked(self, seconds: float, *, tell: bool) -> None:
        """Do what can be done from here."""
        running = list(self._watched.executions())
        for execution in running:
            execution.post_start()
        task = asyncio.current_task(self._loop)
        culprit = next((one for one in running if one.is_run_by(task)), None)
        if tell:
            self._tell(culprit, seconds)
        why = self._has_to_end(culprit, seconds)
        if why is not None:
            self._end_worker(culprit, why)

    def _tell(self, culprit: Execution | None, seconds: float) -> None:
        frame = sys._current_frames().get(self._loop_thread)
        stack = "".join(traceback.format_stack(frame))[-MAX_STACK_CHARACTERS:] if frame is not None else ""
        log.warning(
            "loop_blocked",
            handler=culprit.handler_name if culprit else "",
            job_id=culprit.job_id if culprit else "",
            tenant_id=culprit.tenant if culprit else "",
            seconds=round(seconds, 1),
            stack=stack,
        )

    def _has_to_end(self, culprit: Execution | None, seconds: float) -> str | None:
        if culprit is not None and culprit.overdue_seconds > GRACE_SECONDS:
            return "beyond its limit"
        if seconds > GRACE_SECONDS and not self._watched.lease_valid():
            return "beyond the end of the worker's lease"
        if seconds > self._limit:
            return f"for more than {self._limit:g} s"
        return None

    def _end_worker(self, culprit: Execution | None, why: str) -> None:
        """The process ends; its keeper tells the jobs of the other handlers that ran."""
        name = culprit.handler_name if culprit else "something"
        message = f"Handler '{name}' blocked the worker's event loop {why}; the worker was ended. {ADVICE}"
        log.critical("part_failed", part="worker", message=message)
        if culprit is not None and self._watched.lease_valid():
            timeout = culprit.overdue_seconds > 0
            kind = FailureKind.TIMEOUT if timeout else FailureKind.FAILED
            culprit.post_failed(kind, "Timeout" if timeout else "LoopBlocked", message)
            self._watched.flush(GRACE_SECONDS)
        self._watched.exit(EXIT_BLOCKED)


ADVICE = "Let it await, or make it a plain def, which runs in a process of its own."

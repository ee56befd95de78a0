"""The end of a process, which comes in time whatever its libraries do."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any

from jobledger.telemetry.logs import get_logger

GRACE_SECONDS = 20.0
"""From the signal, or from the failure of a part, to the end of the process; orchestrators kill after 30 s."""
WIND_UP_SECONDS = 3.0
"""From the end of a role's own work to the end of the process: what libraries left behind has this long."""
MAX_NAMED = 20

log = get_logger()


class Deadline:
    """Ends the process when it has not ended by itself; nothing happens before `arm()`.

    It runs in a thread, so that neither a task that takes no notice of being cancelled nor a loop that does not turn
    nor a thread that nobody can join keeps the process alive.
    """

    ends_process = True
    """Nothing of the process goes on behind the role: what comes then can be left to the deadline."""

    def __init__(self, grace_seconds: float, leave: Callable[[int], None] = os._exit) -> None:
        self._grace_seconds = grace_seconds
        self._leave = leave
        self._at: float | None = None
        self._code = 1
        self._loop: asyncio.AbstractEventLoop | None = None

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Whose tasks are named in the log line when time is up."""
        self._loop = loop

    def arm(self) -> None:
        """The process ends within its grace from now on; an earlier call holds."""
        self._end_within(self._grace_seconds)

    def wind_up(self, code: int) -> None:
        """The role's work is done with this exit code; what is left is of libraries."""
        self._code = code
        self._end_within(WIND_UP_SECONDS)

    def _end_within(self, seconds: float) -> None:
        begin = self._at is None
        at = time.monotonic() + seconds
        self._at = at if self._at is None else min(self._at, at)
        if begin:
            threading.Thread(target=self._run, name="deadline", daemon=True).start()

    def _run(self) -> None:
        while True:
            assert self._at is not None
            left = self._at - time.monotonic()
            if left <= 0:
                break
            time.sleep(min(left, 0.1))
        log.error("process_exit_forced", waited_for=waited_for(self._loop), exit_code=self._code)
        self._leave(self._code)


class _NoDeadline(Deadline):
    """Outside `run_role`, such as in a test, nobody ends the process."""

    ends_process = False

    def __init__(self) -> None:
        super().__init__(0.0)

    def _end_within(self, seconds: float) -> None:
        """Nothing happens."""


_NONE = _NoDeadline()
_current: ContextVar[Deadline] = ContextVar("deadline", default=_NONE)


def current_deadline() -> Deadline:
    """The deadline of the process that `run_role` runs; elsewhere one that never comes."""
    return _current.get()


def waited_for(loop: asyncio.AbstractEventLoop | None) -> list[str]:
    """Tasks of the loop and threads that keep the process alive, by name; at most twenty."""
    found: list[str] = []
    for _ in range(3):  # another thread may change the set of tasks while it is copied
        try:
            tasks = asyncio.all_tasks(loop) if loop is not None else set()
            break
        except RuntimeError:
            tasks = set()
    for task in tasks:
        if not task.done():
            coroutine = task.get_coro()
            found.append(f"task {task.get_name()}: {getattr(coroutine, '__qualname__', coroutine)}")
    found += [
        f"thread {thread.name}"
        for thread in threading.enumerate()
        if not thread.daemon and thread is not threading.main_thread()
    ]
    if len(found) > MAX_NAMED:
        found = [*found[:MAX_NAMED], f"{len(found) - MAX_NAMED} more"]
    return found or ["the main thread: " + _main_frame()]


def _main_frame() -> str:
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    return "ended" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}"


def run_role(
    main: Callable[[], Coroutine[Any, Any, int]],
    *,
    grace_seconds: float = GRACE_SECONDS,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> int:
    """Run a role to its exit code, on a loop of its own. The process must end with it: call it last.

    From the signal on the process lives at most `grace_seconds`; once the role's parts have stopped, what libraries
    left behind has three seconds. Then `process_exit_forced` says what was waited for, and the process is gone.
    """
    deadline = Deadline(grace_seconds)
    token = _current.set(deadline)
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            deadline.watch(runner.get_loop())
            try:
                code = runner.run(main())
            except BaseException:
                deadline.wind_up(1)
                raise
            deadline.wind_up(code)
        return code
    finally:
        _current.reset(token)

"""An event loop in virtual time: it runs what is ready when it is told to, and never waits for anything."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Executor
from contextlib import contextmanager
from contextvars import Context
from typing import Any, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

#: Steps of one run after which the loop counts as turning on the spot. A whole scheduler with a full backlog
#: takes a few thousand.
MAX_STEPS_PER_RUN = 100_000
#: Timers are set in seconds and time passes in whole ms: a timer this close is due.
TIMER_SLACK_SECONDS = 1e-6


class TurningOnTheSpotError(BaseException):
    """Something goes on for ever without any time passing; no `except Exception` may hide it."""


class VirtualLoop(asyncio.AbstractEventLoop):
    """The loop of one simulated process. Calls "in a thread" run in the loop, one step later.

    Time is what `monotonic` says. `run()` takes steps until nothing is ready and no timer is due; a process
    that was killed is `kill()`ed and never run again.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self.errors: list[BaseException] = []
        self._monotonic = monotonic
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._timer_count = 0
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._dead = False

    # -- driven from the outside ---------------------------------------------------------------------------------

    def run(self) -> int:
        """Step until nothing can be done at this moment; returns the number of steps.

        Raises TurningOnTheSpotError, or the first error that no task has dealt with.
        """
        steps = 0
        with self._as_the_running_one():
            self._wake()
            while self._ready:
                handle = self._ready.popleft()
                if not handle.cancelled():
                    handle._run()
                steps += 1
                if steps > MAX_STEPS_PER_RUN:
                    raise TurningOnTheSpotError(f"{steps} steps without any time passing; the last one: {handle!r}")
                if not self._ready:
                    self._wake()
        if self.errors:
            raise self.errors.pop(0)
        return steps

    def next_timer(self) -> float | None:
        """When the next timer is due, in seconds of its clock."""
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def kill(self) -> None:
        """The process is gone: its tasks take no step any more but to clear up after themselves."""
        self._dead = True
        with self._as_the_running_one():
            for task in list(self._tasks):
                task.cancel()
            while self._ready:
                handle = self._ready.popleft()
                if not handle.cancelled():
                    handle._run()
        self._timers.clear()
        self.errors.clear()

    def _wake(self) -> None:
        """Timers that are due get ready, in the order in which they fall due."""
        now = self.time() + TIMER_SLACK_SECONDS
        while self._timers and self._timers[0][0] <= now:
            handle = heapq.heappop(self._timers)[2]
            if not handle.cancelled():
                self._ready.append(handle)

    @contextmanager
    def _as_the_running_one(self) -> Generator[None, None, None]:
        """Inside another loop (a test of pytest-asyncio, say) that one stands aside meanwhile."""
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        try:
            yield
        finally:
            asyncio._set_running_loop(before)

    # -- what asyncio asks of a loop -----------------------------------------------------------------------------

    def time(self) -> float:
        """Virtual seconds."""
        return self._monotonic()

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """See asyncio."""
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """See asyncio; there are no threads."""
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self, delay: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """See asyncio."""
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """See asyncio."""
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._timer_count += 1
        heapq.heappush(self._timers, (when, self._timer_count, handle))
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        """See asyncio."""
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Context | None = None,
        **more: Any,
    ) -> asyncio.Task[T]:
        """See asyncio."""
        task: asyncio.Task[T] = asyncio.Task(coro, loop=self, name=name, context=context, **more)
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)
        return task

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Calls the function in the loop, one step later."""
        future: asyncio.Future[T] = self.create_future()

        def call() -> None:
            if future.done():
                return
            try:
                future.set_result(func(*args))
            except Exception as error:  # noqa: BLE001 - handed on to whoever waits
                future.set_exception(error)

        self.call_soon(call)
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """What nobody has caught ends the run."""
        if not self._dead:
            self.errors.append(context.get("exception") or RuntimeError(context["message"]))

    def is_running(self) -> bool:
        """See asyncio."""
        return not self._dead

    def is_closed(self) -> bool:
        """See asyncio."""
        return False

    def get_debug(self) -> bool:
        """See asyncio."""
        return False

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """A timer that is cancelled stays in the heap and is dropped when it falls due."""

"""The contract of everything that runs for long, and bases for what ends by a task, by a thread, or when it is told."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Service(Protocol):
    """Something that runs for long: a part of a process, or of another part.

    `start`, `wait` and `stop` are called by whoever owns it, in one event loop: `start` once, `wait` by any number at
    the same time, `stop` as often as they like.
    """

    async def start(self) -> None:
        """Return when it works. Raises what keeps it from working; `stop` is called after that too.

        It may be cancelled, then `stop` follows. A second call is an error.
        """
        ...

    async def stop(self) -> None:
        """Finish what is begun, end, and let go of everything; idempotent, and without effect before `start`.

        It says nothing of how the work went: `wait` does.
        """
        ...

    async def wait(self) -> None:
        """Return once it has stopped; raise what ended it otherwise, however often it is asked, also after `stop`.

        One that returns without having been stopped has ended by itself. Before `start` it returns at once. May be
        cancelled, which ends the waiting alone.
        """
        ...


class AlreadyStartedError(RuntimeError):
    """A service was started a second time."""


def part_name(service: Service) -> str:
    """The part's `name` attribute, else its class."""
    return str(getattr(service, "name", type(service).__name__))


class TaskService(ABC):
    """A `Service` whose work is one task that goes on until it is stopped."""

    _task: asyncio.Task[None] | None = None

    @abstractmethod
    async def start(self) -> None:
        """Begin the task with `_begin`."""

    def _begin(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """For `start`: the task. Raises AlreadyStartedError."""
        try:
            self._check_new()
        except AlreadyStartedError:
            work.close()
            raise
        self._task = asyncio.create_task(work, name=name)
        return self._task

    def _check_new(self) -> None:
        """Raise AlreadyStartedError, in a `start` that does more before `_begin`."""
        if self._task is not None:
            raise AlreadyStartedError(f"{part_name(self)} runs already, or has run.")

    async def stop(self) -> None:
        """End the task, whatever has become of it: `wait` tells that."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def wait(self) -> None:
        """Return when stopped; raise what ended the task otherwise."""
        if self._task is not None:
            await asyncio.wait([self._task])
            if not self._task.cancelled():
                self._task.result()


class StandingService:
    """A `Service` that stands until it is stopped, or until `_end` says what broke it.

    As it is, it does nothing: for parts that answer when they are asked.
    """

    _ended: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Stand."""
        self._stand()

    async def stop(self) -> None:
        """End."""
        self._end()

    async def wait(self) -> None:
        """Return when stopped; raise what ended it otherwise."""
        if self._ended is not None:
            await asyncio.shield(self._ended)

    @property
    def _stands(self) -> bool:
        return self._ended is not None and not self._ended.done()

    def _stand(self) -> None:
        """For `start`: `wait` waits from now on. Raises AlreadyStartedError."""
        if self._ended is not None:
            raise AlreadyStartedError(f"{part_name(self)} runs already, or has run.")
        self._ended = asyncio.get_running_loop().create_future()

    def _end(self, failure: BaseException | None = None) -> None:
        """It has ended; what is said first counts."""
        if self._ended is None or self._ended.done():
            return
        if failure is None:
            self._ended.set_result(None)
        else:
            self._ended.set_exception(failure)
            self._ended.exception()  # whoever does not wait for it is not told twice


class ThreadService(StandingService):
    """A `Service` whose work is one thread that goes on until `_stopping` is set."""

    _thread: threading.Thread | None = None

    def __init__(self) -> None:
        self._stopping = threading.Event()

    def _begin(self, work: Callable[[], None], name: str) -> None:
        """For `start`: the thread, which ends when `work` returns or raises. Raises AlreadyStartedError."""
        self._stand()
        loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run_thread, args=(work, loop), name=name, daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """End after what the thread is doing now."""
        self._stopping.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)
        self._end()

    def _run_thread(self, work: Callable[[], None], loop: asyncio.AbstractEventLoop) -> None:
        failure: BaseException | None = None
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - the thread's end is told to the loop, whatever it was
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
            loop.call_soon_threadsafe(self._end, failure)


class CompoundService(StandingService):
    """A `Service` made of others, and of tasks: the failure of any is its own."""

    def __init__(self) -> None:
        self._members: list[Service] = []
        self._followed: list[asyncio.Task[None]] = []

    async def _begin_member(self, member: Service) -> None:
        """Start it, and follow it from then on; it is stopped also when its start has failed."""
        self._members.append(member)
        await member.start()
        self._follow(member.wait(), part_name(member))

    def _add_member(self, member: Service) -> None:
        """Follow one that is started already, and stop it at the end."""
        self._members.append(member)
        self._follow(member.wait(), part_name(member))

    def _follow(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run this beside; what it raises ends the service, when it returns nothing follows."""
        task = asyncio.create_task(work, name=name)
        self._followed.append(task)
        task.add_done_callback(self._look_at)

    def _look_at(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._end(error)

    async def stop(self) -> None:
        """End the tasks, then stop the members, the last one that was started first.

        One that does not stop well keeps no other running; the first error is raised when all have been told.
        """
        for task in self._followed:
            task.cancel()
        await asyncio.gather(*self._followed, return_exceptions=True)
        first: BaseException | None = None
        for member in reversed(self._members):
            try:
                await member.stop()
            except BaseException as error:  # noqa: BLE001 - raised below
                first = first or error
        self._end()
        if first is not None:
            raise first

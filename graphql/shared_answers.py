"""Answers that cost a query each, and that any number of callers may want at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")

#: An answer is given out again until it is so old.
FRESH_SECONDS = 1.0


class SharedAnswer(Generic[T]):
    """One computation for all who ask while it runs, and for a second from its start; an error is shared as well."""

    def __init__(self, compute: Callable[[], Awaitable[T]]) -> None:
        self._compute = compute
        self._task: asyncio.Future[T] | None = None
        self._begun = 0.0

    async def get(self) -> T:
        """The answer; raises what the computation raised."""
        now = time.monotonic()
        if self._task is None or (self._task.done() and now - self._begun >= FRESH_SECONDS):
            self._task, self._begun = asyncio.ensure_future(self._compute()), now
            self._task.add_done_callback(_look_at)
        return await asyncio.shield(self._task)

    async def every(self, seconds: float) -> AsyncGenerator[T, None]:
        """The answer now, and again whenever the clock shows a multiple of so many seconds: all at the same time."""
        while True:
            yield await self.get()
            await asyncio.sleep(seconds - time.monotonic() % seconds)


def _look_at(task: asyncio.Future[T]) -> None:
    """An error that nobody waits for any more is no error of the process."""
    if not task.cancelled():
        task.exception()

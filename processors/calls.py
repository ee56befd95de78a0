"""Calls of client libraries that may never come back."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def call_or_leave(call: Callable[[], T], seconds: float) -> T:
    """Run a blocking call in a daemon thread; raises TimeoutError, and leaves the thread behind, after `seconds`.

    Not a thread of a pool: those are waited for when the process ends, so one that is stuck would keep it alive.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def succeed(result: T) -> None:
        if not done.done():
            done.set_result(result)

    def fail(error: BaseException) -> None:
        if not done.done():
            done.set_exception(error)

    def work() -> None:
        with contextlib.suppress(RuntimeError):  # the loop may be closed by the time that the call comes back
            try:
                result = call()
            except BaseException as error:  # noqa: BLE001 - handed on to whoever waits
                loop.call_soon_threadsafe(fail, error)
            else:
                loop.call_soon_threadsafe(succeed, result)

    threading.Thread(target=work, name="kafka-call", daemon=True).start()
    async with asyncio.timeout(seconds):
        return await done

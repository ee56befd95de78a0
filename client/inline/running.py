"""One attempt of an inline job, in the caller's loop or without one: a pair for the two inline clients."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import TypeVar

from jobledger.client.inline.record import Record
from jobledger.workers.attempt import Attempt, AttemptEnd, call, call_async
from jobledger.workers.handler import Handler

T = TypeVar("T")


async def run_attempt_async(record: Record, handler: Handler[..., object]) -> None:
    """One attempt: async handlers in this loop with their real limit, plain ones in a thread, as long as they like."""
    attempt, limit = record.begin(handler)
    if handler.run_in != "loop":
        record.finish(await asyncio.to_thread(call, attempt), limit, timed_out=False)
        return
    end, timed_out = await _bounded(record, attempt, limit)
    record.finish(end, limit, timed_out=timed_out)


def run_attempt(record: Record, handler: Handler[..., object]) -> None:
    """The same for a caller without a loop: plain handlers run here, async ones in a loop of their own."""
    attempt, limit = record.begin(handler)
    if handler.run_in != "loop":
        record.finish(call(attempt), limit, timed_out=False)
        return
    end, timed_out = _in_fresh_loop(lambda: _bounded(record, attempt, limit))
    record.finish(end, limit, timed_out=timed_out)


async def _bounded(record: Record, attempt: Attempt, limit: float | None) -> tuple[AttemptEnd, bool]:
    task = asyncio.ensure_future(call_async(attempt))
    loop = asyncio.get_running_loop()

    def stop() -> None:
        loop.call_soon_threadsafe(task.cancel)

    record.stop_with(stop)
    try:
        done, _ = await asyncio.wait({task}, timeout=limit)
    except asyncio.CancelledError:  # of the caller, a test that gave up: the handler does not outlive it
        attempt.cancel.set("CANCEL")
        task.cancel()
        record.finish(await task, limit, timed_out=False)
        raise
    if not done:
        attempt.cancel.set("TIMEOUT")
        task.cancel()
        return await task, True
    return task.result(), False


def _in_fresh_loop(work: Callable[[], Coroutine[None, None, T]]) -> T:
    """Run a coroutine in a loop of its own; in a thread where this one has a loop already (an async test)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work())
    found: list[T] = []
    thread = threading.Thread(target=lambda: found.append(asyncio.run(work())), name="inline")
    thread.start()
    thread.join()
    return found[0]

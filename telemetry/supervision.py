"""The loop of a process: its services started in order, waited for until a signal or a failure, stopped in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any

from jobledger.telemetry.ending import current_deadline
from jobledger.telemetry.logs import get_logger
from jobledger.telemetry.service import Service, part_name

STOP_TIMEOUT = 10.0
"""Seconds that the parts together have to stop, unless a role says otherwise."""
CANCEL_SECONDS = 1.0
"""Seconds that something has to end once it was cancelled; then it is left to itself."""

log = get_logger()


async def run_until_signalled(
    services: Sequence[Service],
    *,
    stop_timeout: float = STOP_TIMEOUT,
    on_ready: Callable[[], None] | None = None,
    on_stopping: Callable[[], None] | None = None,
    signals: Sequence[signal.Signals] = (signal.SIGTERM, signal.SIGINT),
) -> int:
    """Start the parts in order, wait for a signal or a failure, stop them in reverse order; returns the exit code.

    0 after a signal and a clean stop; 1 if a part failed to start, failed or ended while running (logged as FATAL), or
    didn't stop. A signal during the start ends the start. All parts together have `stop_timeout` seconds to stop; one
    that hangs is left behind, and `run_role` ends the process without it. `on_ready` and `on_stopping` are for
    readiness (`health.set_ready`).
    """
    begun: list[Service] = []
    failed = False
    with _signal_event(signals) as signalled:
        try:
            if await _start_all(services, begun, signalled):
                _settle_memory()
                log.info("process_ready", parts=[part_name(service) for service in begun])
                if on_ready is not None:
                    on_ready()
                await _wait_any(begun, signalled)
            log.info("process_stopping", reason="signal")
        except PartFailedError as failure:
            failed = True
            log.critical("part_failed", part=failure.part, exc_info=failure.__cause__ or failure)
            log.info("process_stopping", reason=f"{failure.part} failed")
        finally:
            current_deadline().arm()
            if on_stopping is not None:
                on_stopping()
            clean = await _stop_all(begun, stop_timeout)
    code = 0 if clean and not failed else 1
    log.info("process_stopped", exit_code=code)
    return code


def _settle_memory() -> None:
    """What was made by imports and the start stays for good: to look through all of it again and again for garbage
    would hold the process up, a tenth of a second each time."""
    gc.collect()
    gc.freeze()


class PartFailedError(Exception):
    """A part could not start, failed, or ended by itself; the cause says why.

    A service that is made of parts may raise it itself, from `start` or `wait`: then the part it names has failed.
    """

    def __init__(self, part: str, text: str = "") -> None:
        super().__init__(text or part)
        self.part = part


@contextlib.contextmanager
def _signal_event(signals: Sequence[signal.Signals]) -> Iterator[asyncio.Event]:
    """An event that the signals set; the default handlers come back at the end.

    But in a process that ends with its role: there a second signal, while it winds up, would turn its exit status.
    """
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    deadline = current_deadline()
    for number in signals:
        loop.add_signal_handler(number, event.set)
        # Runs between two instructions of the main thread even while the loop does not turn.
        signal.signal(number, lambda *_: deadline.arm())
    try:
        yield event
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
            if event.is_set() and deadline.ends_process:
                signal.signal(number, signal.SIG_IGN)


async def _start_all(services: Sequence[Service], begun: list[Service], signalled: asyncio.Event) -> bool:
    """Start each; False if a signal came first. A part counts as begun before it has started, so it's stopped too.

    Raises when a part can't start, and when one that has started fails meanwhile: the next may wait for it for ever.
    """
    for service in services:
        if signalled.is_set():
            return False
        watches = _watches(begun)
        begun.append(service)
        starting = asyncio.ensure_future(service.start())
        done = await _first(starting, asyncio.ensure_future(signalled.wait()), *watches)
        if starting in done and not starting.cancelled():
            if error := starting.exception():
                raise failure_of(part_name(service), error)
            log.debug("part_started", part=part_name(service))
        elif signalled.is_set() or starting in done:
            return False
        else:
            _raise_ended(done, watches)
    return True


async def _wait_any(services: Sequence[Service], signalled: asyncio.Event) -> None:
    """Return at a signal; raise when a part fails or ends."""
    watches = _watches(services)
    done = await _first(asyncio.ensure_future(signalled.wait()), *watches)
    if signalled.is_set():
        done = {watch for watch in done & watches.keys() if not watch.cancelled() and watch.exception()}
    _raise_ended(done, watches)


def _watches(services: Sequence[Service]) -> dict[asyncio.Future[Any], Service]:
    return {asyncio.ensure_future(service.wait()): service for service in services}


def _raise_ended(done: set[asyncio.Future[Any]], watches: Mapping[asyncio.Future[Any], Service]) -> None:
    for watch in done & watches.keys():
        if not watch.cancelled() and (error := watch.exception()):
            raise failure_of(part_name(watches[watch]), error)
        name = part_name(watches[watch])
        raise PartFailedError(name, f"{name} ended by itself.")


def failure_of(part: str, error: BaseException) -> PartFailedError:
    """That a part has failed, and why; what says so itself stays as it is."""
    if isinstance(error, PartFailedError):
        return error
    failure = PartFailedError(part, f"{part}: {error}")
    failure.__cause__ = error
    return failure


async def _first(*futures: asyncio.Future[Any]) -> set[asyncio.Future[Any]]:
    """Wait until one is done, then cancel the others; cancels all if the caller is cancelled.

    Returns those that were done by themselves. One that takes no notice of being cancelled is left after a second.
    """
    try:
        done, _ = await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
        return done
    finally:
        for future in futures:
            future.cancel()
        await asyncio.wait(futures, timeout=CANCEL_SECONDS)


async def _stop_all(services: Sequence[Service], timeout: float) -> bool:
    """Stop in reverse order, all within the time-out; True if all did."""
    clean = True
    deadline = time.monotonic() + timeout
    for service in reversed(services):
        # What comes after a part that has used up the time gets a moment all the same.
        left = max(deadline - time.monotonic(), min(timeout, CANCEL_SECONDS))
        error = await stop_within(service.stop(), part_name(service), left)
        if error is None:
            log.debug("part_stopped", part=part_name(service))
        else:
            clean = False
            log.error("part_stop_failed", part=part_name(service), exc_info=error)
    return clean


async def stop_within(stop: Coroutine[Any, Any, None], name: str, timeout: float) -> BaseException | None:
    """Let a part stop; what went wrong. A stop that hangs is cancelled, and not waited for if it hangs on."""
    stopping = asyncio.ensure_future(stop)
    await asyncio.wait([stopping], timeout=timeout)
    if not stopping.done():
        stopping.cancel()
        await asyncio.wait([stopping], timeout=min(timeout, CANCEL_SECONDS))
        return TimeoutError(f"{name} did not stop within {timeout:.1f} s.")
    if stopping.cancelled():
        return RuntimeError(f"{name} was cancelled while it stopped.")
    return stopping.exception()

"""Waiting for servers that are away: what is tried again by stamina is told once, by a name of ours."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import stamina

from jobledger.telemetry.logs import get_logger

log = get_logger()


def told_once(event: str, kind: type[Exception]) -> Callable[[Exception], bool]:
    """For `stamina.retry_context(on=…)`: whether an error is of a kind that may pass.

    The first one is logged as an error, for the waiting is silent else.
    """
    told = False

    def is_it(error: Exception) -> bool:
        nonlocal told
        if isinstance(error, kind) and not told:
            told = True
            log.error(event, error=str(error))
        return isinstance(error, kind)

    return is_it


def tries_every(
    seconds: float, on: type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool]
) -> AsyncIterator[stamina.Attempt]:
    """Attempts so many seconds apart, for as long as such errors are raised."""
    waiting = stamina.retry_context(
        on=on, attempts=None, timeout=None, wait_initial=seconds, wait_max=seconds, wait_jitter=0.0
    )
    return aiter(waiting)

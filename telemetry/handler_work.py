"""What a handler is working on, for the lines that it logs by other ways than `ctx.logger`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(slots=True)
class HandlerWork:
    """The ids of the running attempt, and what it has printed of a line that it has not ended."""

    handler: str
    ids: Mapping[str, object]
    printed: str = ""


current_work: ContextVar[HandlerWork | None] = ContextVar("jobledger_handler_work", default=None)
"""The attempt whose handler runs here; None outside one, also in threads that a handler has started itself."""


@contextmanager
def working_on(work: HandlerWork) -> Iterator[None]:
    """Lines inside the block are of this attempt."""
    token = current_work.set(work)
    try:
        yield
    finally:
        current_work.reset(token)

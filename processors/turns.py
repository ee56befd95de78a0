"""A watch over the turns of an event loop: everything in a process shares it, so nobody may hold it for long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

from jobledger.telemetry.logs import get_logger
from jobledger.telemetry.service import StandingService

#: What one turn may take: heartbeats, probes and every other partition wait for it.
MAX_TURN_SECONDS = 0.050

LOG_SECONDS = 10.0

log = get_logger()


class LongTurn(NamedTuple):
    """A callback or a step of a task that held the loop, and for how long."""

    what: str
    seconds: float


class TurnWatch(StandingService):
    """Times every turn between `start` and `stop`, on all loops of the process; for dev and tests.

    By default it counts the processor time of the turn, so that a busy machine makes no turn long.
    """

    name = "turn-watch"

    def __init__(
        self,
        limit_seconds: float = MAX_TURN_SECONDS,
        on_long: Callable[[LongTurn], None] | None = None,
        clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self.limit_seconds = limit_seconds
        #: The longest turn so far.
        self.longest = LongTurn("", 0.0)
        #: Turns that were over the limit, the last hundred.
        self.long: list[LongTurn] = []
        self._on_long = on_long or (lambda turn: None)
        self._clock = clock
        self._original: Callable[[asyncio.Handle], None] | None = None

    async def start(self) -> None:
        """Begin to watch."""
        self._stand()
        self.__enter__()

    async def stop(self) -> None:
        """Let go."""
        self.__exit__()
        await super().stop()

    def __enter__(self) -> TurnWatch:
        original = asyncio.Handle._run
        clock = self._clock

        def run(handle: asyncio.Handle) -> None:
            started = clock()
            original(handle)
            took = clock() - started
            if took > self.longest.seconds or took > self.limit_seconds:
                self._note(handle, took)

        self._original = original
        asyncio.Handle._run = run  # type: ignore[method-assign,assignment]
        return self

    def __exit__(self, *_: object) -> None:
        if self._original is not None:
            asyncio.Handle._run = self._original  # type: ignore[method-assign,assignment]
            self._original = None

    @classmethod
    def logging(cls) -> TurnWatch:
        """For dev: by the clock on the wall, which costs next to nothing; long turns are logged, one in ten seconds."""
        told_at = -LOG_SECONDS

        def tell(turn: LongTurn) -> None:
            nonlocal told_at
            now = time.monotonic()
            if now - told_at >= LOG_SECONDS:
                told_at = now
                log.warning("loop_turn_long", what=turn.what, duration_ms=round(turn.seconds * 1000))

        return cls(on_long=tell, clock=time.perf_counter)

    def _note(self, handle: asyncio.Handle, took: float) -> None:
        turn = LongTurn(repr(handle), took)
        self.longest = max(self.longest, turn, key=lambda one: one.seconds)
        if took > self.limit_seconds:
            self.long = [*self.long, turn][-100:]
            self._on_long(turn)

"""Whether commands still come in: a part of Faust can end by itself while the rest of it looks alive."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator

import faust
import mode

from jobledger.processors.faust_internals import ended_part
from jobledger.processors.services import AppService

#: How often the parts of Faust are looked at, and how long it may be without an agent, as in a rebalance.
LOOK_SECONDS = 0.5
AGENT_SECONDS = 10.0


class FeedBrokenError(RuntimeError):
    """A part of Faust has ended by itself: no more commands come in, whatever the rest of it looks like."""


class FeedWatch(AppService):
    """Fails when a part of Faust has ended that the rest goes on without."""

    def __init__(self, app: faust.App) -> None:
        super().__init__()
        self._app = app
        self._agents = 0
        self._broken: BaseException | None = None
        self._is_broken = asyncio.Event()

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Around the work of an agent. Faust starts one anew that was cancelled in a rebalance; any other end breaks
        the feed."""
        self._agents += 1
        try:
            yield
            self._break(FeedBrokenError("The stream of commands has ended by itself."))
        except Exception as error:
            self._break(error)
            raise
        finally:
            self._agents -= 1

    def _break(self, error: BaseException) -> None:
        self._broken = self._broken or error
        self._is_broken.set()

    @mode.Service.task
    async def _look(self) -> None:
        """Goes on also when mode has marked the whole app as crashed: that is one of the things to tell."""
        agent_seen = time.monotonic()
        while True:
            now = time.monotonic()
            if self._agents:
                agent_seen = now
            if (reason := self._broken or self._app.crash_reason) is not None:
                raise reason
            if (ended := ended_part(self._app)) is not None:
                raise FeedBrokenError(f"{ended} has ended by itself.")
            if now - agent_seen > AGENT_SECONDS:
                raise FeedBrokenError(f"No agent has read commands for {AGENT_SECONDS:.0f} s.")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._is_broken.wait()

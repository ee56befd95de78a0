"""The app as the tree of a scheduler's services: what starts before the group is joined, what after, how all ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterable
from typing import Any

import mode
from faust.app import BootStrategy

from jobledger.processors.faust_internals import BareApp, leave_group
from jobledger.processors.services import AppService
from jobledger.telemetry.logs import get_logger
from jobledger.telemetry.supervision import PartFailedError, failure_of, stop_within

#: From the first word of a stop to its end, for all services together; a service that hangs is left behind.
STOP_SECONDS = 7.0
#: Of them, what Faust may take: a thread of it that is not done by then is left to itself.
FAUST_SECONDS = 3.0
#: A service that comes after one which has used up the time gets a moment all the same.
MOMENT_SECONDS = 1.0
FAUST_MOMENT_SECONDS = 0.1

log = get_logger()


class _Boot(BootStrategy):
    """Starts what the owners need, then Faust, then what goes along; they stop the other way round."""

    app: SupervisedApp

    def server(self) -> Iterable[Any]:
        """All services of the app, in the order of their start."""
        return [*self.app.before_group, *super().server(), *self.app.in_group]


class SupervisedApp(BareApp):
    """A Faust app that starts and stops the scheduler's services in order, and knows the first failure of any.

    A service of `before_group` has started when the group is joined, and stops after it is left. One of `in_group`
    starts when Faust runs, and stops before it. None is started anew: the scheduler ends with the first failure.
    """

    BootStrategy = _Boot
    mundane_level = "debug"

    def __init__(self, *args: Any, **options: Any) -> None:
        self.before_group: list[AppService] = []
        self.in_group: list[AppService] = []
        #: Names of the services that did not stop well.
        self.left_behind: list[str] = []
        self._failure: PartFailedError | None = None
        self._failed = asyncio.Event()
        self._stopping = False
        self._stop_by = self._faust_stops_by = 0.0
        super().__init__(*args, **options)

    def supervise(self, *services: AppService) -> list[AppService]:
        """Let the failure of any of these services be the app's."""
        for service in services:
            service.on_failure = self.fail
        return list(services)

    def fail(self, failure: PartFailedError) -> None:
        """A service has failed; the first one counts, and none while the app is being stopped."""
        if self._stopping:
            return
        self._failure = self._failure or failure
        self._failed.set()

    async def failed(self) -> None:
        """Raise the first failure, as PartFailedError, once there is one."""
        await self._failed.wait()
        assert self._failure is not None
        raise self._failure

    async def start(self) -> None:
        """Start all services; raises PartFailedError when one cannot start, or another fails meanwhile."""
        starting = asyncio.ensure_future(super().start())
        failing = asyncio.ensure_future(self._failed.wait())
        try:
            await asyncio.wait([starting, failing], return_when=asyncio.FIRST_COMPLETED)
            if self._failure is not None:
                raise self._failure
            try:
                await starting
            except PartFailedError:
                raise
            except Exception as error:
                raise failure_of("Faust", error) from error
            if (reason := self.crash_reason) is not None:  # then mode has broken the start off in silence
                raise failure_of("Faust", reason)
        finally:
            failing.cancel()
            await _give_up(starting)

    async def stop(self) -> None:
        """Stop all services, what hangs is left behind; idempotent."""
        self._stopping = True
        await super().stop()

    async def on_stop(self) -> None:
        """Leave the group at once, so that others need not wait for the session to end; then let Faust go idle."""
        self._stop_by = time.monotonic() + STOP_SECONDS
        await leave_group(self)
        self._faust_stops_by = time.monotonic() + FAUST_SECONDS
        await self._let_faust(super().on_stop(), "Faust")

    async def stop_child(self, child: mode.Service) -> None:
        """Stop a service; what hangs is left behind."""
        if not isinstance(child, AppService):
            await self._let_faust(child.stop(), child.label)
            return
        left = max(self._stop_by - time.monotonic(), MOMENT_SECONDS)
        if (error := await stop_within(child.stop(), child.name, left)) is None:
            log.debug("part_stopped", part=child.name)
        else:
            self.left_behind.append(child.name)
            log.error("part_stop_failed", part=child.name, exc_info=error)

    async def _let_faust(self, stop: Coroutine[Any, Any, None], name: str) -> None:
        """Let something of Faust's stop in what is left of its time. How that goes makes no end unclean."""
        stopping = asyncio.ensure_future(stop)
        await asyncio.wait([stopping], timeout=max(self._faust_stops_by - time.monotonic(), FAUST_MOMENT_SECONDS))
        if stopping.done() and not stopping.cancelled() and (error := stopping.exception()) is not None:
            log.error("part_stop_failed", part=name, exc_info=error)
        stopping.cancel()


async def _give_up(starting: asyncio.Future[None]) -> None:
    starting.cancel()
    await asyncio.wait([starting], timeout=MOMENT_SECONDS)
    if starting.done() and not starting.cancelled():
        starting.exception()  # the first failure is the one that counts

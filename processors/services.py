"""The services of the scheduler's app: mode's, but the failure of one ends the scheduler in good order.

Where one of mode's services crashes, mode marks all others up to the app as crashed: Faust's consumer would end by
itself then, before the group is left, and others would wait for the session to end.
"""

from __future__ import annotations

from collections.abc import Callable

import mode

from jobledger.telemetry.logs import get_logger
from jobledger.telemetry.service import Service, part_name
from jobledger.telemetry.supervision import PartFailedError, failure_of

log = get_logger()


class AppService(mode.Service):
    """A service of the app. What it cannot deal with, while it starts or later, ends the scheduler under its name."""

    mundane_level = "debug"
    #: Told of the failure; without it the failure goes mode's way.
    on_failure: Callable[[PartFailedError], None] | None = None

    @property
    def name(self) -> str:
        """What the log calls it."""
        return type(self).__name__

    @property
    def label(self) -> str:
        """What mode calls it."""
        return self.name

    async def start(self) -> None:
        """Start; raises PartFailedError."""
        try:
            await super().start()
        except PartFailedError:
            raise
        except Exception as error:
            raise failure_of(self.name, error) from error
        log.debug("part_started", part=self.name)

    async def crash(self, reason: BaseException) -> None:
        """It cannot go on: the app is told, and stops everything in its order."""
        if self.on_failure is None:
            await super().crash(reason)
        else:
            self.on_failure(failure_of(self.name, reason))


class PartService(AppService):
    """A `Service` of ours as one of the app: it starts, is waited for and stops with it.

    With `may_end` it may end by itself.
    """

    def __init__(self, part: Service, name: str = "", *, may_end: bool = False) -> None:
        super().__init__()
        self.part = part
        self._name = name or part_name(part)
        self._may_end = may_end
        self._begun = False

    @property
    def name(self) -> str:
        """What the log calls it."""
        return self._name

    async def on_start(self) -> None:
        """Start the part."""
        self._begun = True
        await self.part.start()

    async def on_stop(self) -> None:
        """Stop the part, also after a failed start."""
        if self._begun:
            await self.part.stop()

    @mode.Service.task
    async def _follow(self) -> None:
        await self.part.wait()
        if not self.should_stop and not self._may_end:
            raise RuntimeError(f"{self.name} ended by itself.")

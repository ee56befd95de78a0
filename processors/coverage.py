"""Which partitions of the cell are served by any scheduler, as all of them announce it with their heartbeats."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from jobledger.processors.core.ports import Clock
from jobledger.telemetry.logs import get_logger
from jobledger.telemetry.metrics import Metrics
from jobledger.telemetry.service import TaskService

LOOK_SECONDS = 0.5
#: An announcement comes twice a second.
HEARD_SECONDS = 3.0
#: A takeover takes less; after this a partition without an owner is an alarm.
ALARM_SECONDS = 10.0
#: After this a member leaves the group and joins it again, which makes the group assign everything anew.
REJOIN_SECONDS = 30.0
#: What a group needs to assign anew, once it knows that a member has gone.
ASSIGN_SECONDS = 20.0

log = get_logger()


class UnownedError(RuntimeError):
    """Partitions of the cell have no owner, and this scheduler is the one that joins the group anew."""


@dataclass(frozen=True, slots=True)
class Announced:
    """What a scheduler said last. `holds`: assigned to it, served or not; None: its release does not tell."""

    serves: frozenset[int]
    holds: frozenset[int] | None
    heard_at: float


class Coverage(TaskService):
    """Knows the partitions that nobody serves; ends the process when the group has forgotten one.

    A spare that owns nothing is right only while every partition has an owner. One that the group has given to
    nobody stays so until a member leaves and joins: after thirty seconds the one that serves least does. Not before
    the group can have missed a member that died without a word (`session_seconds`): till then it is that one's.
    """

    name = "coverage"

    def __init__(
        self,
        own_id: str,
        partitions: int,
        seen_until: Callable[[], float],
        metrics: Metrics,
        clock: Clock,
        session_seconds: float = 0.0,
    ) -> None:
        self._own_id = own_id
        self._partitions = frozenset(range(partitions))
        self._seen_until = seen_until
        self._metrics = metrics
        self._clock = clock
        self._patience = max(REJOIN_SECONDS, session_seconds + ASSIGN_SECONDS)
        self._announced: dict[str, Announced] = {}
        self._members: frozenset[str] = frozenset()
        self._changed_at = 0.0
        self._since: dict[int, float] = {}
        self._told: frozenset[int] = frozenset()

    def heard(self, scheduler: str, serves: list[int] | None, holds: list[int] | None) -> None:
        """A scheduler, this one among them, has said what it does."""
        known = None if holds is None or serves is None else frozenset(holds)
        self._announced[scheduler] = Announced(frozenset(serves or ()), known, self._clock.monotonic())

    @property
    def unserved(self) -> dict[int, float]:
        """For how many seconds nobody has served a partition, by partition; what is served is not in it."""
        now = self._clock.monotonic()
        return {p: now - since for p, since in self._since.items()}

    @property
    def overdue(self) -> list[int]:
        """Partitions that nobody has served for longer than a takeover lasts."""
        return sorted(p for p, seconds in self.unserved.items() if seconds >= ALARM_SECONDS)

    async def start(self) -> None:
        """Begin to look."""
        self._changed_at = self._clock.monotonic()
        self._begin(self._run(), "coverage")

    async def _run(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """Judge once what was heard; raises UnownedError."""
        now = self._clock.monotonic()
        if now - self._seen_until() > HEARD_SECONDS:
            # Nothing is heard of anybody while the broker is away; what was missing is looked at anew afterwards.
            self._since = dict.fromkeys(self._since, now)
            self._changed_at = now
            self._announced.clear()
            return
        self._announced = {who: one for who, one in self._announced.items() if now - one.heard_at < HEARD_SECONDS}
        members = frozenset(self._announced)
        if members != self._members:
            self._members, self._changed_at = members, now
        if any(one.holds is None for one in self._announced.values()):
            self._since.clear()  # a scheduler of an older release does not say what it serves
        else:
            served = frozenset[int]().union(*(one.serves for one in self._announced.values()))
            self._since = {p: self._since.get(p, now) for p in self._partitions - served}
        self._tell()
        self._rejoin(now)

    def _tell(self) -> None:
        overdue = frozenset(self.overdue)
        self._metrics.set("jobledger_partitions_unserved", len(overdue))
        if overdue - self._told:
            log.error("partitions_unserved", partitions=sorted(overdue))
        if self._told - overdue:
            log.info("partitions_served_again", partitions=sorted(self._told - overdue))
        self._told = overdue

    def _rejoin(self, now: float) -> None:
        held = frozenset[int]().union(*(one.holds or () for one in self._announced.values()))
        unowned = sorted(p for p, since in self._since.items() if p not in held and now - since >= self._patience)
        if not unowned or now - self._changed_at < self._patience:
            return
        least = min(self._announced, key=lambda who: (len(self._announced[who].serves), who), default=None)
        if least == self._own_id:
            raise UnownedError(
                f"Partition(s) {', '.join(map(str, unowned))} have had no owner for {self._patience:.0f} s: "
                f"this scheduler ends, to join the group anew when it is started again."
            )

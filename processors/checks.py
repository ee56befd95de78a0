"""Health of a scheduler."""

from __future__ import annotations

from collections.abc import Mapping

from jobledger.domain.queue.state import PRIORITIES
from jobledger.eventlog.boot_clock import boot_seconds
from jobledger.processors.core.owner import Owner
from jobledger.processors.scheduler import Scheduler
from jobledger.telemetry.health import Checked, Health, HealthStatus

#: A partition that is ours and not recovered by then is one that nobody serves; so long a rebalance may last too.
RECOVERY_SECONDS = 15.0


class SchedulerChecks:
    """The checks of a scheduler's parts. `session_seconds`: how long the group waits for a sign of a member."""

    def __init__(self, scheduler: Scheduler, session_seconds: float) -> None:
        self._scheduler = scheduler
        self._services = scheduler.services
        self._session_seconds = session_seconds

    def add_to(self, health: Health) -> None:
        """Let health ask these."""
        health.add("heartbeats", self.heartbeats)
        health.add("coordination", self.coordination)
        health.add("clock", self._services.clock_gate.check)

    def depth(self) -> dict[str, object]:
        """Ready tasks that wait in the queues of the partitions served here."""
        machines = self._services.owners.machines().values()
        queues = [queue for machine in machines for queue in machine.streams["queue"].values()]
        return {"depth": sum(queue.lanes.depth(priority) for queue in queues for priority in PRIORITIES)}

    async def heartbeats(self) -> Checked:
        """Whether heartbeats, our own probes among them, come back from the broker."""
        age = boot_seconds() - self._services.heartbeats.seen_until
        details: dict[str, object] = {"last_probe_seconds": round(age, 1)}
        if age >= 5:
            return Checked(HealthStatus.UNHEALTHY, {**details, "error": "our own heartbeats do not come back"})
        if self._services.relay.renewing:
            return Checked(HealthStatus.DEGRADED, {**details, "relay": "a delivery failed; everything is sent again"})
        return Checked(details=details)

    async def coordination(self) -> Checked:
        """Whether the session is valid: a member of the group that serves what the group has given it.

        A spare that owns nothing is well while each partition of the cell is served by somebody. UNHEALTHY: the
        group hears nothing of us, a partition that was refused or is not recovered in time, and, in every scheduler,
        one that nobody has served for longer than a takeover lasts. DEGRADED: one that changes its owner.
        """
        owners = self._services.owners.owners
        coverage = self._services.coverage
        refused = {str(p): owner.refusal for p, owner in owners.items() if owner.refusal}
        served = sorted(p for p, owner in owners.items() if owner.serving)
        unserved = sorted(coverage.unserved)
        troubles = {str(p): owner.trouble for p, owner in owners.items() if owner.trouble}
        age = self._scheduler.session_age
        details: dict[str, object] = {
            "is_leader": bool(served),
            "partitions": served,
            "session_age_seconds": None if age is None else round(age, 1),
            "refused": refused,
            "troubles": troubles,
        }
        if unserved:
            details["unserved"] = unserved
        error = self._session_error(age) or _ownership_error(owners, coverage.overdue)
        if error is not None:
            return Checked(HealthStatus.UNHEALTHY, {**details, "error": error})
        changing = unserved or troubles or (age is not None and age > self._session_seconds)
        return Checked(HealthStatus.DEGRADED if changing else HealthStatus.HEALTHY, details)

    def _session_error(self, age: float | None) -> str | None:
        if age is None:
            return "not a member of the group"
        if age > max(self._session_seconds, RECOVERY_SECONDS):
            return f"the group has not answered for {age:.0f} s, and the session lasts {self._session_seconds:g} s"
        return None


def _ownership_error(owners: Mapping[int, Owner], overdue: list[int]) -> str | None:
    for owner in owners.values():
        if owner.refusal:
            return owner.refusal
    if overdue:
        return f"partition(s) {', '.join(map(str, overdue))} are served by no scheduler of the cell"
    now = boot_seconds()
    late = sorted(
        p for p, one in owners.items() if one.opening_since is not None and now - one.opening_since > RECOVERY_SECONDS
    )
    if late:
        return f"partition(s) {', '.join(map(str, late))} are ours, and not recovered after {RECOVERY_SECONDS:g} s"
    return None

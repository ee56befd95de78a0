"""Health of a scheduler."""

from __future__ import annotations

from jobledger.eventlog.boot_clock import boot_seconds
from jobledger.processors.scheduler_services import SchedulerServices
from jobledger.telemetry.health import Checked, Health, HealthStatus


class SchedulerChecks:
    """The checks of a scheduler's parts."""

    def __init__(self, services: SchedulerServices) -> None:
        self._services = services

    def add_to(self, health: Health) -> None:
        """Let health ask these."""
        health.add("queue", self.queue)
        health.add("coordination", self.coordination)
        health.add("clock", self._services.clock_gate.check)

    async def queue(self) -> Checked:
        """Whether heartbeats, our own probes among them, come back from the broker."""
        age = boot_seconds() - self._services.heartbeats.seen_until
        details: dict[str, object] = {"last_probe_seconds": round(age, 1)}
        if age >= 5:
            return Checked(HealthStatus.UNHEALTHY, {**details, "error": "our own heartbeats do not come back"})
        if self._services.relay.renewing:
            return Checked(HealthStatus.DEGRADED, {**details, "relay": "a delivery failed; everything is sent again"})
        return Checked(details=details)

    async def coordination(self) -> Checked:
        """A spare that owns nothing is well while each partition of the cell is served by somebody.

        UNHEALTHY, in every scheduler: a partition that was refused, or that nobody has served for longer than a
        takeover lasts. DEGRADED: one that changes its owner.
        """
        owners = self._services.owners.owners
        refused = {str(p): owner.refusal for p, owner in owners.items() if owner.refusal}
        served = sorted(p for p, owner in owners.items() if owner.serving)
        coverage = self._services.coverage
        unserved, overdue = sorted(coverage.unserved), coverage.overdue
        troubles = {str(p): owner.trouble for p, owner in owners.items() if owner.trouble}
        details: dict[str, object] = {
            "is_leader": bool(served),
            "partitions": served,
            "refused": refused,
            "troubles": troubles,
        }
        if unserved:
            details["unserved"] = unserved
        if refused:
            details["error"] = next(iter(refused.values()))
        elif overdue:
            details["error"] = f"partition(s) {', '.join(map(str, overdue))} are served by no scheduler of the cell"
        if refused or overdue:
            return Checked(HealthStatus.UNHEALTHY, details)
        return Checked(HealthStatus.DEGRADED if unserved or troubles else HealthStatus.HEALTHY, details)

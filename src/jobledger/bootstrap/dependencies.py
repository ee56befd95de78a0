"""The checks of what roles depend on, with the bounds of docs/reference/health.md: over it DEGRADED.

Each is really asked, at most every ten seconds and only when somebody wants to know.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from jobledger.eventlog.queue_probe import QueueProbe
from jobledger.settings import Settings
from jobledger.telemetry.health import Checked, Health

KEEP_SECONDS = 10.0
DATABASE_SECONDS = 0.1
QUEUE_SECONDS = 0.5
#: No answer by then is none: UNHEALTHY.
ANSWER_SECONDS = 3.0


def add_database(health: Health, ping: Callable[[], Awaitable[float]], *, critical: bool = True) -> None:
    """`ping`: `SELECT 1`, once there is a connection; gives the seconds that it took."""

    async def database() -> Checked:
        return Checked(seconds=await ping())

    health.add(
        "database",
        database,
        timeout=ANSWER_SECONDS,
        slow_after=DATABASE_SECONDS,
        critical=critical,
        keep_seconds=KEEP_SECONDS,
    )


def add_queue(
    health: Health, settings: Settings, instance: str, details: Callable[[], Mapping[str, object]] = dict
) -> None:
    """A record is produced and consumed; `details` are told beside it."""
    probe = QueueProbe(settings.kafka, settings.cell, instance, ANSWER_SECONDS)

    async def queue() -> Checked:
        checked = await probe()
        return replace(checked, details={**details(), **checked.details})

    health.add("queue", queue, timeout=ANSWER_SECONDS, slow_after=QUEUE_SECONDS, keep_seconds=KEEP_SECONDS)

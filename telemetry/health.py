"""Health of one process: named checks of what it depends on, and the three answers made from them.

Live says that the process runs, and asks nobody. Ready says that it accepts work. Status tells each component apart.
See docs/reference/health.md.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from jobledger.telemetry.logs import scrub

KEEP_SECONDS = 0.5
"""How long what a check found is kept, when the component does not say."""
RETRY_SECONDS = 2.0
"""What was found UNHEALTHY is looked at again after so long at the latest: a component that is back is seen soon."""


class HealthStatus(StrEnum):
    """How a component, or the whole process, is."""

    HEALTHY = "HEALTHY"
    DEGRADED = "DEGRADED"
    UNHEALTHY = "UNHEALTHY"


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check found: a status and details for `/health/status` (JSON values, no secrets).

    `seconds`: what the component took to answer, where that is not the whole time of the check.
    """

    status: HealthStatus = HealthStatus.HEALTHY
    details: Mapping[str, object] = field(default_factory=dict)
    seconds: float | None = None


Check = Callable[[], Awaitable[Checked | Mapping[str, object] | None]]
"""An async check: returns details (healthy), a `Checked`, or raises (unhealthy, with the exception as reason)."""

Answer = tuple[int, dict[str, Any]]
"""HTTP status and JSON body."""


Found = Mapping[str, Any]
"""What `/health/status` tells of a component: `status`, `latency_ms`, and its details."""


class _Component:
    """A component, and what was last found; however many ask at the same time, it is checked once."""

    def __init__(
        self,
        check: Check,
        timeout: float,
        slow_after: float | None,
        critical: bool,
        keep: float,
        monotonic: Callable[[], float],
    ) -> None:
        self.critical = critical
        self._check = check
        self._timeout = timeout
        self._slow_after = slow_after
        self._keep = keep
        self._monotonic = monotonic
        self._known: tuple[float, Found] | None = None
        self._checking = asyncio.Lock()

    def forget(self) -> None:
        """Look anew when next asked."""
        self._known = None

    async def found(self) -> Found:
        """What was found within the time that it is kept, else what is found now."""
        async with self._checking:
            if self._known is not None:
                at, found = self._known
                unhealthy = found["status"] == HealthStatus.UNHEALTHY
                if self._monotonic() - at < (min(self._keep, RETRY_SECONDS) if unhealthy else self._keep):
                    return found
            found = await self._look()
            self._known = (self._monotonic(), found)
            return found

    async def _look(self) -> Found:
        began = self._monotonic()
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self._check()
            checked = answer if isinstance(answer, Checked) else Checked(details=answer or {})
        except TimeoutError:
            checked = Checked(HealthStatus.UNHEALTHY, {"error": f"no answer within {self._timeout:g} s"})
        except Exception as error:  # noqa: BLE001 (whatever a check raises is its finding)
            checked = Checked(HealthStatus.UNHEALTHY, {"error": scrub(f"{type(error).__name__}: {error}")})
        took = self._monotonic() - began if checked.seconds is None else checked.seconds
        slow = self._slow_after is not None and took >= self._slow_after
        status = HealthStatus.DEGRADED if slow and checked.status == HealthStatus.HEALTHY else checked.status
        return {"status": status, "latency_ms": round(took * 1000, 3), **checked.details}


class Health:
    """The registered components of one process. Not ready before `set_ready(True)`."""

    def __init__(
        self,
        version: str,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._version = version
        self._clock = clock
        self._monotonic = monotonic
        self._started = monotonic()
        self._ready = False
        self._components: dict[str, _Component] = {}

    def add(
        self,
        name: str,
        check: Check,
        *,
        timeout: float = 1.0,
        slow_after: float | None = None,
        critical: bool = True,
        keep_seconds: float = KEEP_SECONDS,
    ) -> None:
        """Register a component, or replace it.

        A check that takes over `timeout` seconds is UNHEALTHY; from `slow_after` seconds on DEGRADED. A component that
        isn't critical degrades the process at worst and doesn't take its readiness away. What was found is kept for
        `keep_seconds`, so that many probes cost one check; what is UNHEALTHY for two seconds at most.
        """
        self._components[name] = _Component(check, timeout, slow_after, critical, keep_seconds, self._monotonic)

    def remove(self, name: str) -> None:
        """Forget a component; nothing happens if there is none."""
        self._components.pop(name, None)

    def set_ready(self, ready: bool) -> None:
        """Say that the process has started (True), or that it takes no more work (False).

        What was found before is not what the process is like now that it has started.
        """
        self._ready = ready
        for component in self._components.values():
            component.forget()

    def live(self) -> Answer:
        """200 while the process runs; asks no component."""
        return 200, {"status": HealthStatus.HEALTHY, "timestamp": self._now(), "uptime_seconds": self._uptime()}

    async def ready(self) -> Answer:
        """200 if started and no critical component is UNHEALTHY, else 503 with the reasons.

        A process that starts or stops is not ready whatever it depends on: nothing is asked then.
        """
        reasons = await self._reasons() if self._ready else ["process: starting or stopping"]
        status = HealthStatus.UNHEALTHY if reasons else HealthStatus.HEALTHY
        return (503 if reasons else 200), {"status": status, "timestamp": self._now(), "reasons": reasons}

    async def status(self) -> Answer:
        """Always 200: the status of the process, of each component, version and uptime."""
        components = await self._check_all()
        return 200, {
            "status": self._overall(components),
            "timestamp": self._now(),
            "components": components,
            "version": self._version,
            "uptime_seconds": self._uptime(),
        }

    async def _reasons(self) -> list[str]:
        return [
            f"{name}: {found.get('error', found['status'])}"
            for name, found in (await self._check_all()).items()
            if found["status"] == HealthStatus.UNHEALTHY and self._is_critical(name)
        ]

    def _overall(self, components: Mapping[str, Found]) -> HealthStatus:
        bad = {name for name, found in components.items() if found["status"] == HealthStatus.UNHEALTHY}
        if any(map(self._is_critical, bad)):
            return HealthStatus.UNHEALTHY
        if bad or any(found["status"] == HealthStatus.DEGRADED for found in components.values()):
            return HealthStatus.DEGRADED
        return HealthStatus.HEALTHY

    def _is_critical(self, name: str) -> bool:
        component = self._components.get(name)
        return component is not None and component.critical

    async def _check_all(self) -> dict[str, Found]:
        components = dict(self._components)
        found = await asyncio.gather(*(component.found() for component in components.values()))
        return dict(zip(components, found, strict=True))

    def _now(self) -> str:
        return datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def _uptime(self) -> int:
        return int(self._monotonic() - self._started)

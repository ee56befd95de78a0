"""Health of one process: named checks of what it depends on, and the three answers made from them.

Live says that the process runs, and asks nobody. Ready says that it accepts work. Status tells each component apart.
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


class HealthStatus(StrEnum):
    """How a component, or the whole process, is."""

    HEALTHY = "HEALTHY"
    DEGRADED = "DEGRADED"
    UNHEALTHY = "UNHEALTHY"


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check found: a status and details for `/health/status` (JSON values, no secrets)."""

    status: HealthStatus = HealthStatus.HEALTHY
    details: Mapping[str, object] = field(default_factory=dict)


Check = Callable[[], Awaitable[Checked | Mapping[str, object] | None]]
"""An async check: returns details (healthy), a `Checked`, or raises (unhealthy, with the exception as reason)."""

Answer = tuple[int, dict[str, Any]]
"""HTTP status and JSON body."""


@dataclass(frozen=True, slots=True)
class _Component:
    check: Check
    timeout: float
    slow_after: float | None
    critical: bool


class Health:
    """The registered components of one process.

    Results are kept for `keep_seconds`, so that many probes cost one check. Not ready before `set_ready(True)`.
    """

    def __init__(
        self,
        version: str,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        keep_seconds: float = 0.5,
    ) -> None:
        self._version = version
        self._clock = clock
        self._monotonic = monotonic
        self._started = monotonic()
        self._keep = keep_seconds
        self._ready = False
        self._components: dict[str, _Component] = {}
        self._known: tuple[float, dict[str, dict[str, Any]]] | None = None
        self._checking = asyncio.Lock()

    def add(
        self, name: str, check: Check, *, timeout: float = 1.0, slow_after: float | None = None, critical: bool = True
    ) -> None:
        """Register a component, or replace it.

        A check that takes over `timeout` seconds is UNHEALTHY; over `slow_after` seconds DEGRADED. A component that
        isn't critical degrades the process at worst and doesn't take its readiness away.
        """
        self._components[name] = _Component(check, timeout, slow_after, critical)
        self._known = None

    def remove(self, name: str) -> None:
        """Forget a component; nothing happens if there is none."""
        self._components.pop(name, None)
        self._known = None

    def set_ready(self, ready: bool) -> None:
        """Say that the process has started (True), or that it takes no more work (False)."""
        self._ready = ready

    def live(self) -> Answer:
        """200 while the process runs; asks no component."""
        return 200, {"status": HealthStatus.HEALTHY, "timestamp": self._now(), "uptime_seconds": self._uptime()}

    async def ready(self) -> Answer:
        """200 if started and no critical component is UNHEALTHY, else 503 with the reasons."""
        components = await self._check_all()
        reasons = [
            f"{name}: {found.get('error', found['status'])}"
            for name, found in components.items()
            if found["status"] == HealthStatus.UNHEALTHY and self._is_critical(name)
        ]
        if not self._ready:
            reasons.insert(0, "process: starting or stopping")
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

    def _overall(self, components: Mapping[str, Mapping[str, Any]]) -> HealthStatus:
        bad = {name for name, found in components.items() if found["status"] == HealthStatus.UNHEALTHY}
        if any(map(self._is_critical, bad)):
            return HealthStatus.UNHEALTHY
        if bad or any(found["status"] == HealthStatus.DEGRADED for found in components.values()):
            return HealthStatus.DEGRADED
        return HealthStatus.HEALTHY

    def _is_critical(self, name: str) -> bool:
        component = self._components.get(name)
        return component is not None and component.critical

    async def _check_all(self) -> dict[str, dict[str, Any]]:
        async with self._checking:
            if self._known is not None and self._monotonic() - self._known[0] < self._keep:
                return self._known[1]
            names = list(self._components)
            found = await asyncio.gather(*(self._check(self._components[name]) for name in names))
            result = dict(zip(names, found, strict=True))
            self._known = (self._monotonic(), result)
            return result

    async def _check(self, component: _Component) -> dict[str, Any]:
        began = self._monotonic()
        details: dict[str, object] = {}
        status = HealthStatus.HEALTHY
        try:
            async with asyncio.timeout(component.timeout):
                answer = await component.check()
            if isinstance(answer, Checked):
                status, details = answer.status, dict(answer.details)
            else:
                details = dict(answer or {})
        except TimeoutError:
            status, details = HealthStatus.UNHEALTHY, {"error": f"no answer within {component.timeout:g} s"}
        except Exception as error:  # noqa: BLE001 (whatever a check raises is its finding)
            status, details = HealthStatus.UNHEALTHY, {"error": scrub(f"{type(error).__name__}: {error}")}
        took = self._monotonic() - began
        if status == HealthStatus.HEALTHY and component.slow_after is not None and took > component.slow_after:
            status = HealthStatus.DEGRADED
        return {"status": status, "latency_ms": round(took * 1000, 3), **details}

    def _now(self) -> str:
        return datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def _uptime(self) -> int:
        return int(self._monotonic() - self._started)

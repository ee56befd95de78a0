"""Leases of workers: which of them have been silent for longer than a lease."""

from __future__ import annotations

from collections.abc import Iterable

from jobledger.domain.commands import AnyCommand
from jobledger.domain.values import SYSTEM
from jobledger.processors.core.ports import Clock, Heartbeats
from jobledger.schemas.commands import Command


class Leases:
    """Watches the workers of one partition's streams. A lease starts anew when the owner takes over."""

    def __init__(self, heartbeats: Heartbeats, clock: Clock, lease_seconds: float) -> None:
        self._heartbeats = heartbeats
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._known: dict[str, float] = {}

    def expired(self, leased: Iterable[tuple[str, str, AnyCommand]]) -> list[Command]:
        """A command for each worker whose lease has run out since the last look; `leased` as `Memory.leased` gives."""
        now, until = self._clock.monotonic(), self._heartbeats.seen_until
        commands = []
        current: dict[str, float] = {}
        for stream, incarnation, body in leased:
            since = self._known.get(incarnation, now)
            current[incarnation] = since
            last = max(since, self._heartbeats.heard_at(incarnation))
            if until - last > self._lease_seconds:
                identity = f"lease/{stream}/{incarnation}"
                commands.append(Command(id=identity, stream=stream, actor=SYSTEM, body=body))
        self._known = current
        return commands

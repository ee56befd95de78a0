"""When an owner without work tries whether it could still commit."""

from __future__ import annotations

from jobledger.processors.core.ports import Clock, Heartbeats

#: At the latest this long after its last commit an idle owner writes its checkpoint.
PROBE_SECONDS = 8.0
#: The broker was away if our own heartbeats did not come back for so long; it is back when they do again.
SILENT_SECONDS = 2.0
FRESH_SECONDS = 1.5


class IdleProbe:
    """Tells when to probe: after the broker was away, and after an opening, at once, else every eight seconds.

    A restarted broker leaves transactional producers behind that do not know it: without a probe the first command
    of each idle partition would find that out, and wait.
    """

    def __init__(self, heartbeats: Heartbeats, clock: Clock) -> None:
        self._heartbeats = heartbeats
        self._clock = clock
        self._committed_at = clock.monotonic()
        self._doubtful = False

    def opened(self) -> None:
        """The partition is open, but nothing was committed yet: the broker may have just begun to load its part."""
        self._committed_at = self._clock.monotonic()
        self._doubtful = True

    def committed(self) -> None:
        """A transaction has gone through."""
        self._committed_at = self._clock.monotonic()
        self._doubtful = False

    def due(self) -> bool:
        """Whether to probe now; asked on each turn without work."""
        now = self._clock.monotonic()
        silent = now - self._heartbeats.seen_until
        if silent > SILENT_SECONDS:
            self._doubtful = True
        if self._doubtful and silent < FRESH_SECONDS:
            return True
        return now - self._committed_at >= PROBE_SECONDS

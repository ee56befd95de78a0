"""A wall clock that is only believed while it agrees with the broker's."""

from __future__ import annotations

from jobledger.processors.core.ports import Clock


class ClockWrongError(RuntimeError):
    """The wall clock is too far from the broker's: nothing may be decided by it."""

    def __init__(self, skew_ms: int, max_skew_ms: int) -> None:
        super().__init__(
            f"This clock is {skew_ms} ms from the broker's, more than {max_skew_ms} ms: set it; "
            f"nothing is decided here meanwhile."
        )
        self.skew_ms = skew_ms


#: What is known of a difference of two clocks, in ms: not less and not more than this.
_Bounds = tuple[float, float]


class WatchedClock:
    """The `Clock` of the owners: `now_ms` raises ClockWrongError instead of telling a time that is surely wrong.

    A probe that came back says what time the broker had while it was on its way. From then on monotonic time tells
    what time the broker must have, so that a jump is seen at the next look, without waiting for another probe and
    also while the broker is away. Nothing is known, and nothing refused, before the first probe.
    """

    def __init__(self, clock: Clock, max_skew_ms: int) -> None:
        self._clock = clock
        self._max_skew_ms = max_skew_ms
        #: At the last probe: the broker's time and our wall time, both less monotonic time.
        self._broker: _Bounds | None = None
        self._wall: _Bounds = (0.0, 0.0)

    def monotonic(self) -> float:
        """Seconds on a clock that only runs forward."""
        return self._clock.monotonic()

    def now_ms(self) -> int:
        """Milliseconds since the epoch; raises ClockWrongError."""
        now_ms, skew_ms = self._look()
        if abs(skew_ms) > self._max_skew_ms:
            raise ClockWrongError(skew_ms, self._max_skew_ms)
        return now_ms

    def skew_ms(self) -> int:
        """By how much the clock is surely ahead of the broker's; negative: behind; 0: not surely either."""
        return self._look()[1]

    def measured(self, sent_at: float, received_at: float, broker_ms: int) -> None:
        """A record sent and read back at these seconds of monotonic time was stamped by the broker with that time."""
        self._broker = (broker_ms - received_at * 1000, broker_ms - sent_at * 1000)
        self._wall = self._read()[1]

    def _read(self) -> tuple[int, _Bounds]:
        """Wall time, and that less monotonic time; the process may be stopped between two looks at a clock."""
        before = self._clock.monotonic()
        now_ms = self._clock.now_ms()
        return now_ms, (now_ms - self._clock.monotonic() * 1000, now_ms - before * 1000)

    def _look(self) -> tuple[int, int]:
        """Wall time, and its skew: against the broker, or by how far it has moved since the last probe if that is more.

        The second one is exact where the first is only as good as the round trip of the probe.
        """
        now_ms, wall = self._read()
        if self._broker is None:
            return now_ms, 0
        against_broker, since_probe = _apart(wall, self._broker), _apart(wall, self._wall)
        return now_ms, round(against_broker if abs(against_broker) >= abs(since_probe) else since_probe)


def _apart(one: _Bounds, other: _Bounds) -> float:
    """By how much one value is surely above another; negative: below; 0: they may be the same."""
    if one[0] > other[1]:
        return one[0] - other[1]
    return min(0.0, one[1] - other[0])

"""Virtual time, the clocks of processes, and what the owners know of the workers' heartbeats."""

from __future__ import annotations

START_MS = 1_800_000_000_000


class VirtualClock:
    """The true time of a world, by wall and by a clock that only runs forward; both stand still by themselves."""

    def __init__(self, start_ms: int = START_MS) -> None:
        self._start_ms = start_ms
        self._monotonic_ms = 1_000

    def now_ms(self) -> int:
        """Wall time in ms since the epoch."""
        return self._start_ms + self._monotonic_ms

    def monotonic(self) -> float:
        """Seconds on a clock that only runs forward."""
        return self._monotonic_ms / 1000

    def advance(self, ms: int) -> None:
        """Time passes."""
        self._monotonic_ms += ms


class ProcessClock:
    """The clock of one process: its wall time may be wrong by `offset_ms`.

    A process that is slow needs `slow_ms` between any two looks at its clock.
    """

    def __init__(self, world: VirtualClock) -> None:
        self._world = world
        self.offset_ms = 0
        self.slow_ms = 0

    def now_ms(self) -> int:
        """Wall time in ms since the epoch."""
        return self._world.now_ms() + self.offset_ms

    def monotonic(self) -> float:
        """Seconds on a clock that only runs forward."""
        self._world.advance(self.slow_ms)
        return self._world.monotonic()

    def jump(self, ms: int) -> None:
        """The wall clock jumps ahead, or back for a negative number; monotonic time does not."""
        self.offset_ms += ms


class HeartbeatTable:
    """When each incarnation was last heard of. While `stalled`, nothing is read and lease time stands still."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._heard: dict[str, float] = {}
        self._unread: list[tuple[str, float]] = []
        self._stalled_at: float | None = None

    @property
    def seen_until(self) -> float:
        """Everything that workers had sent by this time has been read."""
        return self._clock.monotonic() if self._stalled_at is None else self._stalled_at

    @property
    def stalled(self) -> bool:
        """Whether nothing is read at present."""
        return self._stalled_at is not None

    def heard_at(self, incarnation: str) -> float:
        """When a worker was last heard of; 0: never."""
        return self._heard.get(incarnation, 0.0)

    def beat(self, incarnation: str) -> None:
        """A worker has sent a heartbeat and got it acknowledged."""
        if self._stalled_at is None:
            self._heard[incarnation] = self._clock.monotonic()
        else:
            self._unread.append((incarnation, self._clock.monotonic()))

    def stall(self) -> None:
        """The reader of the heartbeats hangs."""
        if self._stalled_at is None:
            self._stalled_at = self._clock.monotonic()

    def resume(self) -> None:
        """The reader catches up."""
        self._stalled_at = None
        for incarnation, _ in self._unread:
            self._heard[incarnation] = self._clock.monotonic()
        self._unread.clear()

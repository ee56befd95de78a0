"""The worker's lease on its own clock: until when it may run handlers."""

from __future__ import annotations

import mmap
import struct
import tempfile
import threading
from collections.abc import Callable

from jobledger.eventlog.boot_clock import boot_seconds

_DEADLINE = struct.Struct("=d")
SAFETY_RATIO = 0.05
"""Part of the lease given up, so that handlers have ended when the queues' owners count it as over."""
MAX_SLEEP_SECONDS = 1.0
"""Who waits for a lease to end looks at the clock this often: a sleep stands still while the machine is suspended."""


class SharedDeadline:
    """A point of the boot clock, in memory that the pool's processes see too, also while this one is stopped.

    Eight aligned bytes of a file without a name: written and read in one piece.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close(), its descriptor goes to children
        self._file.truncate(mmap.PAGESIZE)
        self._memory = mmap.mmap(self._file.fileno(), mmap.PAGESIZE)

    @property
    def descriptor(self) -> int:
        """The file descriptor to hand on."""
        return self._file.fileno()

    def set(self, at: float) -> None:
        """Set the deadline, in seconds of the boot clock."""
        _DEADLINE.pack_into(self._memory, 0, at)

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()
        self._file.close()


def deadline_reader(descriptor: int) -> Callable[[], float]:
    """For a child: reads the deadline behind the descriptor that it was given."""
    memory = mmap.mmap(descriptor, mmap.PAGESIZE, prot=mmap.PROT_READ)
    return lambda: float(_DEADLINE.unpack_from(memory, 0)[0])


class Lease:
    """Valid until the last acknowledged heartbeat was sent, plus the lease, minus a safety margin.

    The owners count from when they read that heartbeat, which is later: so this end comes first. Once over it stays
    over, whatever is acknowledged later, until another incarnation begins: of what ran, others may have been told. May
    be used from any thread.
    """

    def __init__(
        self, seconds: float, shared: SharedDeadline | None = None, monotonic: Callable[[], float] = boot_seconds
    ) -> None:
        self._length = seconds * (1 - SAFETY_RATIO)
        self._shared = shared
        self._monotonic = monotonic
        self._moving = threading.Lock()
        self._deadline = 0.0
        self._over = False

    @property
    def valid(self) -> bool:
        """Whether handlers may run at this moment."""
        return self._monotonic() < self._deadline

    @property
    def remaining(self) -> float:
        """Seconds until the lease ends, not below 0."""
        return max(0.0, self._deadline - self._monotonic())

    def begin(self) -> None:
        """Another incarnation begins, which has no lease yet: the next acknowledged heartbeat gives it one."""
        with self._moving:
            self._over = False
            self._move(0.0)

    def confirm(self, sent_at: float) -> None:
        """A heartbeat sent at `sent_at` (boot clock) has been acknowledged."""
        with self._moving:
            now, deadline = self._monotonic(), sent_at + self._length
            if self._over or deadline <= max(now, self._deadline):
                return
            if 0.0 < self._deadline <= now:
                self._over = True
                return
            self._move(deadline)

    def revoke(self) -> None:
        """The lease is over now, whatever was acknowledged."""
        with self._moving:
            self._over = True
            self._move(0.0)

    def _move(self, deadline: float) -> None:
        self._deadline = deadline
        if self._shared is not None:
            self._shared.set(deadline)

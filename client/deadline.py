"""How long a call may still take, and how long to pause before the next try."""

from __future__ import annotations

import time
from collections.abc import Callable

from jobledger.client.errors import Unavailable

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0


class Deadline:
    """`seconds` from now; None: never."""

    def __init__(self, seconds: float | None) -> None:
        self._at = None if seconds is None else time.monotonic() + seconds

    def left(self) -> float | None:
        """Seconds left, 0 when it is over; None: for ever."""
        return None if self._at is None else max(0.0, self._at - time.monotonic())

    def within(self, seconds: float) -> bool:
        """Whether it comes within so many seconds."""
        left = self.left()
        return left is not None and left < seconds

    def at_most(self, seconds: float) -> float:
        """Seconds left, but no more than these; for the time-out of one request it is a little above 0."""
        left = self.left()
        return max(0.001, seconds if left is None else min(seconds, left))


class Pauses:
    """The pauses between tries: twice as long each time, to two seconds."""

    def __init__(self) -> None:
        self.next = FIRST_PAUSE

    def take(self) -> float:
        """The pause that is due now."""
        pause, self.next = self.next, min(2 * self.next, LONGEST_PAUSE)
        return pause

    def reset(self) -> None:
        """It went well: begin anew."""
        self.next = FIRST_PAUSE


class NotDecided(Unavailable):
    """The API has taken a command, but nobody knows yet what became of it: it is sent again."""

    def __init__(self) -> None:
        super().__init__("no outcome in time", "UNAVAILABLE")


Passing = type[Exception] | tuple[type[Exception], ...]


def pause_after(passing: Passing, deadline: Deadline) -> Callable[[Exception], float | bool]:
    """For `stamina.retry_context(on=…)`: the pause after an error that may pass, and False when none fits any more.

    stamina's own time-out is looked at before a pause, and so may be overrun by it; a call of the client ends in time.
    """
    pauses = Pauses()

    def pause(error: Exception) -> float | bool:
        return isinstance(error, passing) and not deadline.within(pauses.next) and pauses.take()

    return pause

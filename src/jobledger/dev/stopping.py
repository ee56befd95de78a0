"""Being asked to stop: by Ctrl-C, SIGTERM or the end of the terminal; and being asked again."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequest:
    """Whether somebody has asked. A flag, not an Event: a handler may not wait for a lock that its thread holds."""

    def __init__(self) -> None:
        self.made = False
        self.final = False

    def wait(self, timeout_seconds: float) -> bool:
        """Waits a moment; whether it is to stop now."""
        if not self.made:
            time.sleep(timeout_seconds)
        return self.made

    def is_final(self) -> None:
        """For the last steps of an end at once: from now on Ctrl-C changes nothing in this process."""
        self.final = True
        signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """A request that Ctrl-C, SIGTERM and SIGHUP make while the block runs; use it in the main thread.

    The first one lets the block stop in order. Ctrl-C after it raises KeyboardInterrupt, wherever the block is: what
    it still waits for is to be ended at once.
    """
    request = StopRequest()

    def ask(number: int, _frame: FrameType | None) -> None:
        if request.made and number == signal.SIGINT:
            raise KeyboardInterrupt
        request.made = True

    former = {number: signal.signal(number, ask) for number in _SIGNALS}
    try:
        yield request
    finally:
        for number, handler in former.items():
            if not (request.final and number == signal.SIGINT):
                signal.signal(number, handler)

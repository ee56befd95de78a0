"""The contract of what the stack runs as children; the one of parts within a process is `telemetry/service.py`."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Server(Protocol):
    """A server in processes of its own. All of it blocks: no event loop turns where it is started.

    It ends with the process that has started it, whatever becomes of that.
    """

    @property
    def running(self) -> bool:
        """Whether it lives; one that was stopped with SIGSTOP does."""
        ...

    def start(self, timeout_seconds: float = 60.0) -> None:
        """Return when it answers; nothing happens while it runs. May be called again after an end.

        Raises ChildFailedError with the end of its log; then nothing is left running.
        """
        ...

    def stop(self) -> None:
        """End it in good order, within its grace; idempotent, and without effect before `start`."""
        ...

    def kill(self) -> None:
        """`kill -9`: the next start repairs what it was in the middle of. Idempotent."""
        ...

"""For the tests of those who write handlers or clients: jobs without any server, and a whole system in memory.

`inline` runs handlers in the test. `World` is the simulated system: the scheduler's own owners and relay in virtual
time, with workers, crashes and takeovers as the test wants them; ViolationError says which promise was broken.
"""

from __future__ import annotations

try:
    from jobledger.client.inline import AsyncInlineClient, AsyncInlineJob, InlineClient, InlineJob, inline
    from jobledger.simulator import NewJob, ViolationError, World, WorldOptions
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"jobledger.testing needs the extra 'server', of which {error.name} is not installed: "
        f"pip install 'jobledger[server]'.",
        name=error.name,
    ) from error

__all__ = [
    "AsyncInlineClient",
    "AsyncInlineJob",
    "InlineClient",
    "InlineJob",
    "NewJob",
    "ViolationError",
    "World",
    "WorldOptions",
    "inline",
]

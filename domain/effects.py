"""What follows from an event: commands to other streams and messages to workers.

`react` gives these as values; the owner puts them into the same transaction as the event.
"""

from __future__ import annotations

from dataclasses import dataclass

from jobledger.domain.commands import AnyCommand
from jobledger.domain.worker_messages import AnyWorkerMessage


@dataclass(frozen=True, slots=True)
class FollowUp:
    """A command to `stream`, caused by the event."""

    stream: str
    body: AnyCommand


@dataclass(frozen=True, slots=True)
class ToWorker:
    """A message for the inbox of `message.worker`."""

    message: AnyWorkerMessage


Effect = FollowUp | ToWorker

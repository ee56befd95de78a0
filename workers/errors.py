"""Exceptions that handlers raise, and those that tell what is wrong with a handler."""

from __future__ import annotations

from datetime import timedelta

from jobledger.workers.durations import seconds_of


class Retry(Exception):
    """Raise it in a handler: this attempt failed in an expected way; the retry policy decides about the next one.

    `after` (seconds, a timedelta, "30s"; at most 30 days) is waited before the next attempt, if the policy has one
    left, in place of its back-off: `raise Retry("the bank is closed", after="30m")`. Raises ValueError for no length of
    time.
    """

    def __init__(self, *reason: object, after: str | float | timedelta | None = None) -> None:
        super().__init__(*reason)
        self.after_seconds = None if after is None else seconds_of(after)


class NonRetryable(Exception):
    """Raise it in a handler: the attempt failed and trying again is of no use; the job is dead-lettered at once."""


class TaskCancelled(Exception):
    """Raised by `ctx.raise_if_cancelled()`: the task is to stop. Let it pass; the worker reports the cancellation."""


class HandlerLoadError(Exception):
    """A handler module can't be used; the message says which, why, and what to do."""


class PayloadError(NonRetryable):
    """The payload of the job doesn't fit the type that the handler declares."""


class ResultError(NonRetryable):
    """The handler returned something that can't be kept as a result: not JSON, or too large."""


class CheckpointError(ValueError):
    """The data of a checkpoint isn't JSON or is larger than 64 KiB."""

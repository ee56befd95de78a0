"""One attempt: what is run, how it ended, and the call of the handler that is the same wherever it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import msgspec

from jobledger.domain.values import Opaque
from jobledger.workers.context import CancelFlag, Context, TaskInfo
from jobledger.workers.errors import NonRetryable, TaskCancelled
from jobledger.workers.handler import Handler
from jobledger.workers.values import describe_error, encode_result, error_text, read_payload


class EndStatus(StrEnum):
    """How the call of a handler ended."""

    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class StopReason(StrEnum):
    """Why a running attempt is stopped before its end."""

    TIMEOUT = "TIMEOUT"
    CANCEL = "CANCEL"
    LEASE = "LEASE"
    DRAIN = "DRAIN"


class AttemptEnd(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The end of a call. `error_type` and `error` stand only in a failed one."""

    status: EndStatus
    result: Opaque | None = None
    error_type: str = ""
    error: Opaque | None = None
    retryable: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """A handler with all that its call needs."""

    handler: Handler[Any, Any]
    info: TaskInfo
    payload: Opaque
    checkpoint: Opaque | None
    cancel: CancelFlag
    save: Callable[[Opaque], None]

    def arguments(self) -> list[object]:
        """Validated arguments of the call; raises PayloadError."""
        context = Context(self.info, last_checkpoint=self.checkpoint, cancel=self.cancel, save=self.save)
        payload = (
            read_payload(self.handler.adapter, self.payload, self.info.handler) if self.handler.takes_payload else None
        )
        return self.handler.arguments(payload, context)

    def with_save(self, save: Callable[[Opaque], None]) -> Attempt:
        """The same with another way to save checkpoints."""
        return replace(self, save=save)


def call(attempt: Attempt) -> AttemptEnd:
    """Call a plain handler here and now; every exception becomes an end."""
    try:
        value = attempt.handler.function(*attempt.arguments())
        return _succeeded(attempt, value)
    except BaseException as error:  # noqa: BLE001 - sys.exit() in a handler must not end the worker either
        return failed(error)


async def call_async(attempt: Attempt) -> AttemptEnd:
    """Await an async handler in the current asyncio task, which may be cancelled to stop it."""
    try:
        value = await attempt.handler.function(*attempt.arguments())
        return _succeeded(attempt, value)
    except asyncio.CancelledError as error:
        if not attempt.cancel.event.is_set():
            return failed(error)
        task = asyncio.current_task()
        if task is not None:
            while task.uncancel():
                pass
        return AttemptEnd(status=EndStatus.CANCELLED)
    except BaseException as error:  # noqa: BLE001 - as above
        return failed(error)


def _succeeded(attempt: Attempt, value: object) -> AttemptEnd:
    return AttemptEnd(status=EndStatus.SUCCESS, result=encode_result(value, attempt.info.handler))


def failed(error: BaseException) -> AttemptEnd:
    """The end of a call that raised."""
    return AttemptEnd(
        status=EndStatus.CANCELLED if isinstance(error, TaskCancelled) else EndStatus.FAILED,
        error_type=type(error).__name__,
        error=describe_error(error),
        retryable=not isinstance(error, NonRetryable),
    )


def failure(error_type: str, message: str, *, retryable: bool = True) -> AttemptEnd:
    """A failed end that no exception tells of: a process that died."""
    return AttemptEnd(status=EndStatus.FAILED, error_type=error_type, error=error_text(message), retryable=retryable)

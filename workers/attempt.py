"""One attempt: what is run, how it ended, and the call of the handler that is the same wherever it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import msgspec

from jobledger.domain.values import Opaque
from jobledger.workers.context import CancelFlag, Checkpoint, Context
from jobledger.workers.errors import NonRetryable, Retry, TaskCancelled
from jobledger.workers.external_call import UNWANTED, CallSpan, CallSpans
from jobledger.workers.handler import Handler
from jobledger.workers.handler_logs import handler_lines
from jobledger.workers.task_info import TaskInfo
from jobledger.workers.values import describe_error, encode_result, error_text, read_payload

#: Names of base classes that go with a failure.
MAX_BASES = 16


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
    """The end of a call. What is behind `result` stands only in a failed one.

    `error_bases`: the classes that the error's class is derived from, nearest first. `retry_after_seconds`: the wait
    that the handler asked for. `calls`: those of a process of the pool.
    """

    status: EndStatus
    result: Opaque | None = None
    error_type: str = ""
    error: Opaque | None = None
    retryable: bool = True
    error_bases: tuple[str, ...] = ()
    retry_after_seconds: float | None = None
    calls: tuple[CallSpan, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """A handler with all that its call needs."""

    handler: Handler[Any, Any]
    info: TaskInfo
    checkpoint: Opaque | None
    cancel: CancelFlag
    save: Callable[[Checkpoint], None]
    calls: CallSpans = UNWANTED

    def arguments(self) -> list[object]:
        """Validated arguments of the call; raises PayloadError."""
        context = Context(
            self.info, last_checkpoint=self.checkpoint, cancel=self.cancel, save=self.save, calls=self.calls
        )
        spec, payload = self.info.spec, None
        if self.handler.takes_payload:
            payload = read_payload(self.handler.adapter, spec.payload, spec.handler)
        return self.handler.arguments(payload, context)

    def with_save(self, save: Callable[[Checkpoint], None]) -> Attempt:
        """The same with another way to save checkpoints."""
        return replace(self, save=save)


def call(attempt: Attempt) -> AttemptEnd:
    """Call a plain handler here and now; every exception becomes an end."""
    try:
        with handler_lines(attempt.info):
            value = attempt.handler.function(*attempt.arguments())
        return _succeeded(attempt, value)
    except BaseException as error:  # noqa: BLE001 - sys.exit() in a handler must not end the worker either
        return failed(error)


class Leased:
    """Awaits a coroutine step by step, each only while the lease is valid; then it is cancelled instead.

    A worker that was stopped for a while (SIGSTOP, a laptop asleep) wakes up with every handler's timer due: without
    this each would take one more step before somebody looks at the lease, beside the attempt that replaced it.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Any], may_run: Callable[[], bool]) -> None:
        self._coroutine = coroutine
        self._may_run = may_run

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self._coroutine.__await__()
        value: Any = None
        error: BaseException | None = None
        told = False
        while True:
            if not told and error is None and not self._may_run():
                error, told = asyncio.CancelledError("The worker's lease is over."), True
            try:
                waited_for = steps.send(value) if error is None else steps.throw(error)
            except StopIteration as end:
                return end.value
            value, error = None, None
            try:
                value = yield waited_for
            except BaseException as thrown:  # noqa: BLE001 - it is the coroutine's, cancellation among it
                error = thrown


async def call_async(attempt: Attempt, may_run: Callable[[], bool] = lambda: True) -> AttemptEnd:
    """Await an async handler in the current asyncio task, which may be cancelled to stop it.

    It takes no step once `may_run` says no.
    """
    try:
        with handler_lines(attempt.info):
            value = await Leased(attempt.handler.function(*attempt.arguments()), may_run)
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
        error_bases=_bases(type(error)),
        retry_after_seconds=error.after_seconds if isinstance(error, Retry) else None,
    )


def _bases(error: type[BaseException]) -> tuple[str, ...]:
    """Names of the classes behind this one, up to Exception."""
    names = [base.__name__ for base in error.__mro__[1:] if issubclass(base, Exception)]
    return tuple(names[:MAX_BASES])


def failure(error_type: str, message: str, *, retryable: bool = True) -> AttemptEnd:
    """A failed end that no exception tells of: a process that died."""
    return AttemptEnd(status=EndStatus.FAILED, error_type=error_type, error=error_text(message), retryable=retryable)

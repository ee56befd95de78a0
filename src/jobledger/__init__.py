"""Jobledger: a distributed job scheduler whose only truth is a log.

What users import: `from jobledger import handler, Context, Client, AsyncClient, Retry, NonRetryable`, and every error.
The names are loaded when first asked for (PEP 562), so that importing a part of the package stays cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobledger.client import (
        NO_PAYLOAD,
        AlreadyEnded,
        AlreadyExists,
        AsyncClient,
        AsyncJob,
        BulkError,
        Client,
        ConnectionDropped,
        IdempotencyKeyReused,
        InternalError,
        InvalidInput,
        InvalidState,
        Job,
        JobCancelled,
        JobEvent,
        JobFailed,
        JobledgerError,
        JobOptions,
        JobPage,
        JobSpec,
        JobStatus,
        JobView,
        NotAnApi,
        NotEnabled,
        NotFound,
        OutcomeUnknown,
        PayloadTooLarge,
        QueueFull,
        QueueNotFound,
        QueueView,
        RateLimited,
        ReadModelBehind,
        ResultMismatch,
        RetryPolicy,
        Unauthenticated,
        Unavailable,
        Undecidable,
        WaitTimeout,
        WorkerView,
    )
    from jobledger.workers.context import Context
    from jobledger.workers.errors import (
        CheckpointError,
        HandlerLoadError,
        NonRetryable,
        PayloadError,
        ResultError,
        Retry,
        TaskCancelled,
    )
    from jobledger.workers.handler import Handler, handler

    __version__: str

__all__ = [
    "NO_PAYLOAD",
    "AlreadyEnded",
    "AlreadyExists",
    "AsyncClient",
    "AsyncJob",
    "BulkError",
    "CheckpointError",
    "Client",
    "ConnectionDropped",
    "Context",
    "Handler",
    "HandlerLoadError",
    "IdempotencyKeyReused",
    "InternalError",
    "InvalidInput",
    "InvalidState",
    "Job",
    "JobCancelled",
    "JobEvent",
    "JobFailed",
    "JobOptions",
    "JobPage",
    "JobSpec",
    "JobStatus",
    "JobView",
    "JobledgerError",
    "NonRetryable",
    "NotAnApi",
    "NotEnabled",
    "NotFound",
    "OutcomeUnknown",
    "PayloadError",
    "PayloadTooLarge",
    "QueueFull",
    "QueueNotFound",
    "QueueView",
    "RateLimited",
    "ReadModelBehind",
    "ResultError",
    "ResultMismatch",
    "Retry",
    "RetryPolicy",
    "TaskCancelled",
    "Unauthenticated",
    "Unavailable",
    "Undecidable",
    "WaitTimeout",
    "WorkerView",
    "__version__",
    "handler",
]

_HOMES = {
    "CheckpointError": "jobledger.workers.errors",
    "Context": "jobledger.workers.context",
    "Handler": "jobledger.workers.handler",
    "HandlerLoadError": "jobledger.workers.errors",
    "NonRetryable": "jobledger.workers.errors",
    "PayloadError": "jobledger.workers.errors",
    "ResultError": "jobledger.workers.errors",
    "Retry": "jobledger.workers.errors",
    "TaskCancelled": "jobledger.workers.errors",
    "handler": "jobledger.workers.handler",
}
"""Whatever is not named here comes from the client."""


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415 - costs as much as the rest of this module

        value: object = version("jobledger")
    elif name in __all__:
        value = getattr(importlib.import_module(_HOMES.get(name, "jobledger.client")), name)
    else:
        raise AttributeError(f"module 'jobledger' has no attribute '{name}'")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

"""Jobledger: a distributed job scheduler whose only truth is a log.

What users import: `from jobledger import handler, Context, Client, AsyncClient, Retry, NonRetryable`. The names are
loaded when first asked for (PEP 562), so that importing a part of the package stays cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobledger.workers.client import (
        AsyncClient,
        AsyncJob,
        Client,
        Job,
        JobCancelled,
        JobEvent,
        JobFailed,
        JobledgerError,
        JobSpec,
        OutcomeUnknown,
        RetryPolicy,
    )
    from jobledger.workers.context import Context
    from jobledger.workers.errors import NonRetryable, Retry, TaskCancelled
    from jobledger.workers.handler import Handler, handler

    __version__: str

__all__ = [
    "AsyncClient",
    "AsyncJob",
    "Client",
    "Context",
    "Handler",
    "Job",
    "JobCancelled",
    "JobEvent",
    "JobFailed",
    "JobSpec",
    "JobledgerError",
    "NonRetryable",
    "OutcomeUnknown",
    "Retry",
    "RetryPolicy",
    "TaskCancelled",
    "__version__",
    "handler",
]

_CLIENT = "jobledger.workers.client"
_HOMES = {
    "AsyncClient": _CLIENT,
    "AsyncJob": _CLIENT,
    "Client": _CLIENT,
    "Job": _CLIENT,
    "JobCancelled": _CLIENT,
    "JobEvent": _CLIENT,
    "JobFailed": _CLIENT,
    "JobSpec": _CLIENT,
    "JobledgerError": _CLIENT,
    "OutcomeUnknown": _CLIENT,
    "RetryPolicy": _CLIENT,
    "Context": "jobledger.workers.context",
    "NonRetryable": "jobledger.workers.errors",
    "Retry": "jobledger.workers.errors",
    "TaskCancelled": "jobledger.workers.errors",
    "Handler": "jobledger.workers.handler",
    "handler": "jobledger.workers.handler",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415 - costs as much as the rest of this module

        value: object = version("jobledger")
    elif name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'jobledger' has no attribute '{name}'")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

"""The Python client: submits and watches jobs over GraphQL, and over nothing else.

`scripts/sync-client` writes `synchronous/` from `asynchronous/`.
"""

from __future__ import annotations

from jobledger.client.answers import DEFAULT_URL
from jobledger.client.asynchronous.client import AsyncClient
from jobledger.client.asynchronous.jobs import AsyncJob
from jobledger.client.errors import (
    AlreadyEnded,
    AlreadyExists,
    BulkError,
    ConnectionDropped,
    IdempotencyKeyReused,
    InternalError,
    InvalidInput,
    InvalidState,
    JobCancelled,
    JobFailed,
    JobledgerError,
    NotAnApi,
    NotEnabled,
    NotFound,
    OutcomeUnknown,
    PayloadTooLarge,
    QueueFull,
    QueueNotFound,
    RateLimited,
    ReadModelBehind,
    ResultMismatch,
    Unauthenticated,
    Unavailable,
    Undecidable,
    WaitTimeout,
)
from jobledger.client.models import JobEvent, JobPage, JobView, QueueView, WorkerView
from jobledger.client.spec import NO_PAYLOAD, JobOptions, JobSpec
from jobledger.client.synchronous.client import Client
from jobledger.client.synchronous.jobs import Job
from jobledger.domain.job.state import JobStatus
from jobledger.workers.retrying import RetryPolicy

__all__ = [
    "DEFAULT_URL",
    "NO_PAYLOAD",
    "AlreadyEnded",
    "AlreadyExists",
    "AsyncClient",
    "AsyncJob",
    "BulkError",
    "Client",
    "ConnectionDropped",
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
    "NotAnApi",
    "NotEnabled",
    "NotFound",
    "OutcomeUnknown",
    "PayloadTooLarge",
    "QueueFull",
    "QueueNotFound",
    "QueueView",
    "RateLimited",
    "ReadModelBehind",
    "ResultMismatch",
    "RetryPolicy",
    "Unauthenticated",
    "Unavailable",
    "Undecidable",
    "WaitTimeout",
    "WorkerView",
]

"""The Python client: submits and watches jobs over GraphQL, and over nothing else."""

from __future__ import annotations

from jobledger.domain.values import RetryPolicy
from jobledger.workers.client.client import AsyncClient
from jobledger.workers.client.errors import (
    AlreadyEnded,
    AlreadyExists,
    BulkError,
    IdempotencyKeyReused,
    InvalidInput,
    JobCancelled,
    JobFailed,
    JobledgerError,
    NotFound,
    OutcomeUnknown,
    PayloadTooLarge,
    QueueFull,
    QueueNotFound,
    Unavailable,
)
from jobledger.workers.client.jobs import AsyncJob
from jobledger.workers.client.models import JobEvent, JobPage, JobSpec, JobView, QueueView, WorkerView
from jobledger.workers.client.sync import Client, Job

__all__ = [
    "AlreadyEnded",
    "AlreadyExists",
    "AsyncClient",
    "AsyncJob",
    "BulkError",
    "Client",
    "IdempotencyKeyReused",
    "InvalidInput",
    "Job",
    "JobCancelled",
    "JobEvent",
    "JobFailed",
    "JobPage",
    "JobSpec",
    "JobView",
    "JobledgerError",
    "NotFound",
    "OutcomeUnknown",
    "PayloadTooLarge",
    "QueueFull",
    "QueueNotFound",
    "QueueView",
    "RetryPolicy",
    "Unavailable",
    "WorkerView",
]

# Written by scripts/sync-operations from client/operations/operations.graphql and the schema.
"""What the client sends as variables, as JSON."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

from jobledger.client.operations import enums


class RetryPolicyInput(TypedDict):
    """When a failed attempt is tried again."""

    factor: NotRequired[float | None]
    giveUpOn: NotRequired[list[str] | None]
    initialSeconds: NotRequired[float | None]
    jitterRatio: NotRequired[float | None]
    maxAttempts: NotRequired[int | None]
    maxSeconds: NotRequired[float | None]


class TagInput(TypedDict):
    """A name and a value that jobs can be found by."""

    name: str
    value: str


class SubmitJobInput(TypedDict):
    """A job to be done."""

    at: NotRequired[str | None]
    commandId: NotRequired[str | None]
    delaySeconds: NotRequired[float | None]
    expectedDurationSeconds: NotRequired[float | None]
    handler: str
    idempotencyKey: NotRequired[str | None]
    parentId: NotRequired[str | None]
    payload: NotRequired[Any | None]
    payloadText: NotRequired[str | None]
    priority: NotRequired[int]
    queue: NotRequired[str]
    retry: NotRequired[RetryPolicyInput | None]
    tags: NotRequired[list[TagInput] | None]
    timeoutSeconds: NotRequired[float | None]


class CancelJobInput(TypedDict):
    """Stop a job."""

    commandId: NotRequired[str | None]
    id: str
    reason: NotRequired[str | None]


class RedriveJobInput(TypedDict):
    """Run a dead-lettered job again, with all attempts of its policy."""

    commandId: NotRequired[str | None]
    id: str
    reason: NotRequired[str | None]


class DiscardJobInput(TypedDict):
    """Close a dead-lettered job: nothing more is to be done about it."""

    commandId: NotRequired[str | None]
    id: str
    reason: NotRequired[str | None]


class CreateQueueInput(TypedDict):
    """The API's CreateQueueInput."""

    commandId: NotRequired[str | None]
    description: NotRequired[str]
    maxWaitingBytes: NotRequired[int | None]
    name: str


class UpdateQueueInput(TypedDict):
    """Fields that are left out stay as they are."""

    commandId: NotRequired[str | None]
    description: NotRequired[str | None]
    maxWaitingBytes: NotRequired[int | None]
    name: str


class JobFilter(TypedDict):
    """All that is given must hold."""

    dueBefore: NotRequired[str | None]
    dueFrom: NotRequired[str | None]
    endedBefore: NotRequired[str | None]
    endedFrom: NotRequired[str | None]
    handler: NotRequired[str | None]
    idempotencyKey: NotRequired[str | None]
    ids: NotRequired[list[str] | None]
    parentId: NotRequired[str | None]
    priority: NotRequired[int | None]
    queue: NotRequired[str | None]
    status: NotRequired[list[enums.JobStatus] | None]
    submittedBefore: NotRequired[str | None]
    submittedFrom: NotRequired[str | None]
    tags: NotRequired[list[TagInput] | None]


class JobEventFilter(TypedDict):
    """All that is given must hold."""

    jobId: NotRequired[str | None]
    jobIds: NotRequired[list[str] | None]
    queue: NotRequired[str | None]
    tags: NotRequired[list[TagInput] | None]
    types: NotRequired[list[str] | None]

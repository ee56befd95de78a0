# Written by scripts/sync-operations from client/operations/operations.graphql and the schema.
"""What the API answers to the client's operations, as JSON."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from jobledger.client.operations import enums

Conflict = TypedDict(
    "Conflict",
    {
        "__typename": Literal["Conflict"],
        "code": enums.ErrorCode,
        "message": str,
        "path": list[str],
        "value": str | None,
        "remedy": str,
        "status": enums.JobStatus | None,
    },
)
"""The state of the job or queue does not allow it."""

IdempotencyKeyReused = TypedDict(
    "IdempotencyKeyReused",
    {
        "__typename": Literal["IdempotencyKeyReused"],
        "code": enums.ErrorCode,
        "message": str,
        "path": list[str],
        "value": str | None,
        "remedy": str,
    },
)
"""The idempotency key stands for another job already."""

NotFound = TypedDict(
    "NotFound",
    {
        "__typename": Literal["NotFound"],
        "code": enums.ErrorCode,
        "message": str,
        "path": list[str],
        "value": str | None,
        "remedy": str,
    },
)
"""There is no queue, or no live job, of that name."""

Pending = TypedDict(
    "Pending",
    {
        "__typename": Literal["Pending"],
        "commandId": str,
        "jobId": str | None,
        "message": str,
    },
)
"""No outcome in time: it is unknown. Ask `command(id)`, or send the same command id again."""

QueueFull = TypedDict(
    "QueueFull",
    {
        "__typename": Literal["QueueFull"],
        "code": enums.ErrorCode,
        "message": str,
        "path": list[str],
        "value": str | None,
        "remedy": str,
    },
)
"""As many bytes wait in the queue as it may hold."""


class JobRef(TypedDict):
    """A job as its owner decided it: what is known without asking the read model."""

    id: str
    status: enums.JobStatus | None


SubmitJobSuccess = TypedDict(
    "SubmitJobSuccess",
    {
        "__typename": Literal["SubmitJobSuccess"],
        "job": JobRef,
        "position": str,
        "duplicate": bool,
    },
)
"""The job is in the log."""

Unavailable = TypedDict(
    "Unavailable",
    {
        "__typename": Literal["Unavailable"],
        "code": enums.ErrorCode,
        "message": str,
        "path": list[str],
        "value": str | None,
        "remedy": str,
    },
)
"""Something that is needed to answer is away; nothing was sent."""

ValidationFailed = TypedDict(
    "ValidationFailed",
    {
        "__typename": Literal["ValidationFailed"],
        "code": enums.ErrorCode,
        "message": str,
        "path": list[str],
        "value": str | None,
        "remedy": str,
    },
)
"""A field of the input is not as it must be."""

SubmitJobResult = (
    Conflict | IdempotencyKeyReused | NotFound | Pending | QueueFull | SubmitJobSuccess | Unavailable | ValidationFailed
)

UserError = Conflict | IdempotencyKeyReused | NotFound | QueueFull | Unavailable | ValidationFailed


class SubmitJobsProblem(TypedDict):
    """Why a job of a bulk was not accepted, or is not known to be."""

    index: int
    commandId: str | None
    error: UserError | None


SubmitJobsSuccess = TypedDict(
    "SubmitJobsSuccess",
    {
        "__typename": Literal["SubmitJobsSuccess"],
        "jobIds": list[str | None],
        "duplicateIndexes": list[int],
        "position": str,
        "problems": list[SubmitJobsProblem],
    },
)
"""Each job has its own result, in the order of the input."""

SubmitJobsResult = SubmitJobsSuccess | Unavailable | ValidationFailed

CancelJobSuccess = TypedDict(
    "CancelJobSuccess",
    {
        "__typename": Literal["CancelJobSuccess"],
        "job": JobRef,
        "position": str,
    },
)
"""The job is cancelled, or its queue and worker have been asked to stop it."""

CancelJobResult = CancelJobSuccess | Conflict | NotFound | Pending | Unavailable | ValidationFailed

RedriveJobSuccess = TypedDict(
    "RedriveJobSuccess",
    {
        "__typename": Literal["RedriveJobSuccess"],
        "job": JobRef,
        "position": str,
    },
)
"""The job runs again under its id."""

RedriveJobResult = Conflict | NotFound | Pending | RedriveJobSuccess | Unavailable | ValidationFailed

DiscardJobSuccess = TypedDict(
    "DiscardJobSuccess",
    {
        "__typename": Literal["DiscardJobSuccess"],
        "job": JobRef,
        "position": str,
    },
)
"""The job is closed."""

DiscardJobResult = Conflict | DiscardJobSuccess | NotFound | Pending | Unavailable | ValidationFailed

QueueSuccess = TypedDict(
    "QueueSuccess",
    {
        "__typename": Literal["QueueSuccess"],
        "position": str,
    },
)
"""The part of the API's QueueSuccess that is asked for."""

CreateQueueResult = Conflict | Pending | QueueSuccess | Unavailable | ValidationFailed

UpdateQueueResult = Conflict | NotFound | Pending | QueueSuccess | Unavailable | ValidationFailed


class Tag(TypedDict):
    """The part of the API's Tag that is asked for."""

    name: str
    value: str


class Job(TypedDict):
    """A job."""

    id: str
    status: enums.JobStatus
    handler: str
    queueName: str
    priority: int
    attempt: int
    submittedAt: str
    dueAt: str
    startedAt: str | None
    endedAt: str | None
    retryAt: str | None
    worker: str | None
    payload: Any | None
    result: Any | None
    errorType: str | None
    error: Any | None
    deadLetterCause: str | None
    cancelReason: str | None
    tags: list[Tag]


class JobEdge(TypedDict):
    """The part of the API's JobEdge that is asked for."""

    node: Job


class PageInfo(TypedDict):
    """Where a page of a connection stands."""

    hasNextPage: bool
    endCursor: str | None


class JobConnection(TypedDict):
    """A page of jobs."""

    edges: list[JobEdge]
    pageInfo: PageInfo
    position: str


class ReadStatusesJob(TypedDict):
    """A job."""

    id: str
    status: enums.JobStatus


class ReadStatusesJobEdge(TypedDict):
    """The part of the API's JobEdge that is asked for."""

    node: ReadStatusesJob


class ReadStatusesJobConnection(TypedDict):
    """A page of jobs."""

    edges: list[ReadStatusesJobEdge]
    position: str


class Queue(TypedDict):
    """A queue."""

    name: str
    description: str
    maxWaitingBytes: int
    waiting: int
    waitingBytes: int
    held: int


class WorkerQueue(TypedDict):
    """What one incarnation of a worker takes from one queue."""

    queue: str
    credits: int
    held: int


class Worker(TypedDict):
    """A worker: one incarnation of one process."""

    id: str
    incarnation: str
    pool: str
    handlers: list[str]
    lost: bool
    queues: list[WorkerQueue]


class ServiceLevel(TypedDict):
    """A service level objective, and how it is kept. Null: nothing counted, so nothing is known."""

    name: str
    objective: str
    target: float
    windowDays: int
    since: str | None
    actual: float | None
    total: int
    bad: int
    excluded: int
    errorBudget: float
    errorBudgetRemaining: float | None
    burnRate: float | None


JobEvent = TypedDict(
    "JobEvent",
    {
        "__typename": Literal["JobEvent"],
        "type": str,
        "jobId": str,
        "version": int,
        "at": str,
        "status": enums.JobStatus | None,
        "data": Any,
        "position": str,
    },
)
"""One event of a job, as in the log."""

Resync = TypedDict(
    "Resync",
    {
        "__typename": Literal["Resync"],
        "position": str,
    },
)
"""The subscriber was too slow, or its place in the log is gone: subscribe again."""

JobEventItem = JobEvent | Resync

FollowEndsJobEvent = TypedDict(
    "FollowEndsJobEvent",
    {
        "__typename": Literal["JobEvent"],
        "jobId": str,
        "position": str,
    },
)
"""One event of a job, as in the log."""

FollowEndsJobEventItem = FollowEndsJobEvent | Resync

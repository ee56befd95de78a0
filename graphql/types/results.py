"""Answers of mutations: unions of success, pending and typed errors."""

from __future__ import annotations

from typing import Annotated, Any, Protocol

import strawberry

from jobledger.graphql.scalars import Position
from jobledger.graphql.types.errors import (
    Conflict,
    IdempotencyKeyReused,
    NotFound,
    QueueFull,
    Unavailable,
    UserError,
    ValidationFailed,
)
from jobledger.graphql.types.inputs import GraphQLJobStatus


@strawberry.type(description="A job as its owner decided it: what is known without asking the read model.")
class JobRef:
    """Ask `job(id, after: position)` for the rest."""

    id: strawberry.ID
    status: GraphQLJobStatus | None  # type: ignore[valid-type]


@strawberry.type(description="The job is in the log.")
class SubmitJobSuccess:
    """`duplicate`: the command, or its idempotency key, was there before; this is the first job."""

    job: JobRef
    command_id: strawberry.ID
    position: Position
    duplicate: bool
    warning: str | None = strawberry.field(
        default=None,
        description="Accepted, but no worker serves the handler on its queue now. Null when one does, when the queue's "
        "owner has not said so in time, and in a bulk.",
    )


@strawberry.type(description="No outcome in time: it is unknown. Ask `command(id)`, or send the same command id again.")
class Pending:
    """`job_id` is null where only the outcome will tell it."""

    command_id: strawberry.ID
    job_id: strawberry.ID | None
    message: str


SubmitJobResult = Annotated[
    SubmitJobSuccess
    | Pending
    | ValidationFailed
    | NotFound
    | QueueFull
    | IdempotencyKeyReused
    | Conflict
    | Unavailable,
    strawberry.union("SubmitJobResult"),
]


class BulkAnswers(Protocol):
    """Makes the answers to the items of a bulk."""

    def results(self) -> list[Any]:
        """One for each item."""
        ...

    def problems(self) -> list[SubmitJobsProblem]:
        """Those that are no successes."""
        ...


@strawberry.type(description="Each job has its own result, in the order of the input.")
class SubmitJobsSuccess:
    """`position` covers all that were accepted."""

    accepted: int = strawberry.field(description="Duplicates are counted too.")
    duplicates: int
    rejected: int
    pending: int
    position: Position
    job_ids: list[strawberry.ID | None] = strawberry.field(description="In the order of the input; null: not accepted.")
    duplicate_indexes: list[int] = strawberry.field(
        description="Places in the input, from 0, of jobs that were there before."
    )
    answers: strawberry.Private[BulkAnswers]

    @strawberry.field(description="In the order of the input.")
    def results(self) -> list[SubmitJobResult]:
        """Made when asked for: a thousand small objects cost more than submitting them."""
        return self.answers.results()

    @strawberry.field(description="The results that are not successes.")
    def problems(self) -> list[SubmitJobsProblem]:
        """Made when asked for."""
        return self.answers.problems()


@strawberry.type(description="Why a job of a bulk was not accepted, or is not known to be.")
class SubmitJobsProblem:
    """`index` counts from 0 in the input."""

    index: int
    command_id: strawberry.ID | None = strawberry.field(description="Set when the outcome is pending.")
    error: UserError | None = strawberry.field(description="Null when the outcome is pending.")


SubmitJobsResult = Annotated[SubmitJobsSuccess | ValidationFailed | Unavailable, strawberry.union("SubmitJobsResult")]


@strawberry.type(description="The job is cancelled, or its queue and worker have been asked to stop it.")
class CancelJobSuccess:
    """CANCELLED is final; CANCELLING may still end otherwise when the job was faster."""

    job: JobRef
    command_id: strawberry.ID
    position: Position


CancelJobResult = Annotated[
    CancelJobSuccess | Pending | ValidationFailed | NotFound | Conflict | Unavailable,
    strawberry.union("CancelJobResult"),
]


@strawberry.type(description="The job runs again under its id.")
class RedriveJobSuccess:
    """Its task is in its queue, as the first attempt of another run."""

    job: JobRef
    command_id: strawberry.ID
    position: Position


RedriveJobResult = Annotated[
    RedriveJobSuccess | Pending | ValidationFailed | NotFound | Conflict | Unavailable,
    strawberry.union("RedriveJobResult"),
]


@strawberry.type(description="The job is closed.")
class DiscardJobSuccess:
    """DISCARDED is final."""

    job: JobRef
    command_id: strawberry.ID
    position: Position


DiscardJobResult = Annotated[
    DiscardJobSuccess | Pending | ValidationFailed | NotFound | Conflict | Unavailable,
    strawberry.union("DiscardJobResult"),
]


@strawberry.type
class QueueRef:
    """A queue by name."""

    name: str


@strawberry.type
class QueueSuccess:
    """The queue is as asked."""

    queue: QueueRef
    command_id: strawberry.ID
    position: Position
    duplicate: bool


CreateQueueResult = Annotated[
    QueueSuccess | Pending | ValidationFailed | Conflict | Unavailable, strawberry.union("CreateQueueResult")
]
UpdateQueueResult = Annotated[
    QueueSuccess | Pending | ValidationFailed | NotFound | Conflict | Unavailable, strawberry.union("UpdateQueueResult")
]

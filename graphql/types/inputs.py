"""Inputs of mutations, queries and subscriptions."""

from __future__ import annotations

from enum import Enum

import strawberry
from strawberry import UNSET

from jobledger.domain.job.state import JobStatus
from jobledger.graphql.scalars import BigInt, DateTime, Json

GraphQLJobStatus = strawberry.enum(
    JobStatus,
    name="JobStatus",
    description="Where a job stands; the last four end it; a dead-lettered job can be run again.",
)


@strawberry.input(description="When a failed attempt is tried again.")
class RetryPolicyInput:
    """Fields that are left out keep their defaults."""

    max_attempts: int | None = strawberry.field(default=UNSET, description="1 to 1,000; 3 by default.")
    initial_seconds: float | None = strawberry.field(default=UNSET, description="Wait after the first failure; 1.")
    factor: float | None = strawberry.field(default=UNSET, description="Growth of the wait, 1 to 100; 2.")
    max_seconds: float | None = strawberry.field(default=UNSET, description="Longest wait; 300.")
    jitter_ratio: float | None = strawberry.field(default=UNSET, description="Stretches the wait by up to this; 0.1.")
    give_up_on: list[str] | None = strawberry.field(
        default=UNSET, description="Types of errors, 32 at most, after which no attempt is of use; none."
    )


@strawberry.input(description="A name and a value that jobs can be found by.")
class TagInput:
    """One tag."""

    name: str
    value: str


@strawberry.input(description="A job to be done.")
class SubmitJobInput:
    """`at` and `delay_seconds` exclude each other, and so do `payload` and `payload_text`."""

    handler: str = strawberry.field(description="Name of the handler that workers registered.")
    payload: Json | None = strawberry.field(
        default=UNSET, description="What the handler gets; at most 256 KiB as JSON."
    )
    payload_text: str | None = strawberry.field(default=UNSET, description="The payload as JSON text, kept as it is.")
    queue: str = strawberry.field(default="default", description="An existing queue; `default` always exists.")
    priority: int = strawberry.field(default=3, description="1 (first) to 5 (last).")
    at: DateTime | None = strawberry.field(default=UNSET, description="Not before this; in the past: at once.")
    delay_seconds: float | None = strawberry.field(default=UNSET, description="Not before now plus this.")
    retry: RetryPolicyInput | None = UNSET
    timeout_seconds: float | None = strawberry.field(default=UNSET, description="Longest run of one attempt.")
    expected_duration_seconds: float | None = strawberry.field(
        default=UNSET,
        description="How long it is expected to take, from due to its end. Beyond five minutes it is left out of the "
        "service level of completion; nothing else goes by it.",
    )
    tags: list[TagInput] | None = strawberry.field(default=UNSET, description="At most 32.")
    parent_id: strawberry.ID | None = strawberry.field(default=UNSET, description="The job that this one follows from.")
    idempotency_key: str | None = strawberry.field(
        default=UNSET, description="The same key with the same job again answers with the first job."
    )
    command_id: strawberry.ID | None = strawberry.field(
        default=UNSET,
        description="A UUIDv7 of yours; the same one again is the same command. Without idempotencyKey, the job's id.",
    )


@strawberry.input(description="Stop a job.")
class CancelJobInput:
    """Which job, and why."""

    id: strawberry.ID
    reason: str | None = UNSET
    command_id: strawberry.ID | None = UNSET


@strawberry.input(description="Run a dead-lettered job again, with all attempts of its policy.")
class RedriveJobInput:
    """Which job, and why."""

    id: strawberry.ID
    reason: str | None = UNSET
    command_id: strawberry.ID | None = UNSET


@strawberry.input(description="Close a dead-lettered job: nothing more is to be done about it.")
class DiscardJobInput:
    """Which job, and why."""

    id: strawberry.ID
    reason: str | None = UNSET
    command_id: strawberry.ID | None = UNSET


@strawberry.input
class CreateQueueInput:
    """A queue to be made."""

    name: str
    max_waiting_bytes: BigInt | None = strawberry.field(
        default=UNSET, description="Payload bytes that may wait in it; 1 GiB by default."
    )
    description: str = ""
    command_id: strawberry.ID | None = UNSET


@strawberry.input(description="Fields that are left out stay as they are.")
class UpdateQueueInput:
    """What changes of a queue."""

    name: str
    max_waiting_bytes: BigInt | None = UNSET
    description: str | None = UNSET
    command_id: strawberry.ID | None = UNSET


@strawberry.input(description="All that is given must hold.")
class JobFilter:
    """Which jobs a list shows. `…_from` is inclusive, `…_before` exclusive."""

    status: list[GraphQLJobStatus] | None = UNSET  # type: ignore[valid-type]
    handler: str | None = UNSET
    queue: str | None = UNSET
    priority: int | None = UNSET
    tags: list[TagInput] | None = strawberry.field(default=UNSET, description="All of them.")
    ids: list[strawberry.ID] | None = strawberry.field(default=UNSET, description="At most 1,000.")
    parent_id: strawberry.ID | None = UNSET
    idempotency_key: str | None = UNSET
    submitted_from: DateTime | None = UNSET
    submitted_before: DateTime | None = UNSET
    due_from: DateTime | None = UNSET
    due_before: DateTime | None = UNSET
    ended_from: DateTime | None = UNSET
    ended_before: DateTime | None = UNSET


@strawberry.enum(description="By the time of submission.")
class JobOrder(Enum):
    """Orders of the list of jobs."""

    NEWEST = "NEWEST"
    OLDEST = "OLDEST"


@strawberry.input(description="All that is given must hold.")
class JobEventFilter:
    """Which events a subscription gets."""

    job_id: strawberry.ID | None = UNSET
    job_ids: list[strawberry.ID] | None = strawberry.field(default=UNSET, description="Of any of these; at most 1,000.")
    types: list[str] | None = strawberry.field(
        default=UNSET, description="Such as job.succeeded; a version is optional."
    )
    queue: str | None = UNSET
    tags: list[TagInput] | None = strawberry.field(default=UNSET, description="All of them.")

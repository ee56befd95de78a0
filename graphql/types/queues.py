"""Queues, workers, commands and the read model's own state, as queries show them."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol, cast

import strawberry

from jobledger.graphql.scalars import BigInt, DateTime, Position
from jobledger.graphql.types.errors import UserError
from jobledger.graphql.types.nodes import Node


@strawberry.type
class PriorityDepth:
    """How many tasks of one priority wait."""

    priority: int
    waiting: int


@strawberry.type(description="A worker as the queue's owner sees it now.")
class LiveWorker:
    """Slots granted to this queue and taken."""

    worker: str
    incarnation: str
    pool: str
    credits: int
    held: int
    lost: bool


@strawberry.type(description="What the queue's owner knows, from its memory, now.")
class LiveQueue:
    """At most 1,000 workers are named."""

    waiting: int
    waiting_by_priority: list[PriorityDepth]
    waiting_bytes: BigInt
    held: int
    workers: list[LiveWorker]


class LiveQueues(Protocol):
    """Who knows queues as they are now."""

    async def queue(self, name: str) -> LiveQueue | None:
        """From the owner's memory; None when it does not answer in time."""
        ...


class QueueContext(Protocol):
    """What a queue asks of the request that it is shown by."""

    @property
    def owner_questions(self) -> LiveQueues: ...  # noqa: D102


@strawberry.type(description="A queue.")
class Queue(Node):
    """As the read model has it; `live` asks the owner."""

    id: strawberry.ID
    name: str
    description: str
    max_waiting_bytes: BigInt
    created_at: DateTime | None = strawberry.field(description="Null: it exists without ever having been created.")
    updated_at: DateTime | None
    waiting: int = strawberry.field(description="Tasks that wait for a worker.")
    waiting_bytes: BigInt = strawberry.field(description="Their payloads.")
    held: int = strawberry.field(description="Tasks that workers hold.")

    @strawberry.field(description="From the owner's memory; null when it does not answer in time.")
    async def live(self, info: strawberry.Info) -> LiveQueue | None:
        """A command of kind query."""
        return await cast(QueueContext, info.context).owner_questions.queue(self.name)


@strawberry.type(description="What one incarnation of a worker takes from one queue.")
class WorkerQueue:
    """One registration."""

    queue: str
    credits: int
    held: int
    lost: bool


@strawberry.type(description="A worker: one incarnation of one process.")
class Worker:
    """As its queues know it."""

    id: strawberry.ID
    incarnation: str
    pool: str
    handlers: list[str]
    lost: bool
    registered_at: DateTime | None
    queues: list[WorkerQueue]


@strawberry.enum(description="What became of a command.")
class CommandStatus(StrEnum):
    """PENDING: no outcome is known here."""

    ACCEPTED = "ACCEPTED"
    REJECTED = "REJECTED"
    PENDING = "PENDING"


@strawberry.type(description="What became of a command.")
class Command:
    """PENDING also stands for a command that is not known here (yet)."""

    id: strawberry.ID
    status: CommandStatus
    job_id: strawberry.ID | None
    position: Position | None
    at: DateTime | None
    error: UserError | None


@strawberry.type(description="How far one partition has been read.")
class PartitionLag:
    """Events that the read model has still to apply."""

    partition: int
    seq: BigInt
    behind: BigInt


@strawberry.type(description="How far the read model has come.")
class ReadModel:
    """`behind_seconds` is the age of the oldest event that is not applied; 0 when all are."""

    position: Position
    behind: BigInt = strawberry.field(description="Events that are not applied yet.")
    behind_seconds: float
    partitions: list[PartitionLag]

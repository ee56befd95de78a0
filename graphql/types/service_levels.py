"""Service levels and golden signals, as queries and subscriptions show them: of the whole cell, all tenants in one."""

from __future__ import annotations

import strawberry

from jobledger.graphql.scalars import BigInt, DateTime


@strawberry.type(
    description="A service level objective, and how it is kept. Null: nothing counted, so nothing is known."
)
class ServiceLevel:
    """Over the window, but for `burn_rate`."""

    name: str = strawberry.field(description="availability, scheduling-accuracy, completion or error-rate.")
    objective: str = strawberry.field(description="What is good, in a sentence.")
    target: float = strawberry.field(description="The share, 0 to 1, that has to be good.")
    window_days: int
    since: DateTime | None = strawberry.field(
        description="When the first hour of the window began in which anything was counted."
    )
    actual: float | None = strawberry.field(description="The share, 0 to 1, that was good.")
    total: BigInt = strawberry.field(description="How many count.")
    bad: BigInt
    excluded: BigInt = strawberry.field(description="How many were left out; they are not in `total`.")
    error_budget: float = strawberry.field(description="How many of `total` may be bad.")
    error_budget_remaining: float | None = strawberry.field(
        description="The share of the budget that is left; negative: more is spent than there is."
    )
    burn_rate: float | None = strawberry.field(
        description="How fast the last hour spends the budget; at 1 it lasts the window exactly."
    )


@strawberry.type(description="How full the system is, now.")
class Saturation:
    """By the read models, but for the database itself."""

    queue_depth: BigInt = strawberry.field(description="Ready tasks that no worker has, in all queues.")
    workers_busy: BigInt = strawberry.field(description="Slots of workers that hold a task.")
    workers_total: BigInt = strawberry.field(description="Slots of all workers that are not lost.")
    database_connections: int = strawberry.field(description="Connections of clients to the Postgres server.")
    database_connections_limit: int = strawberry.field(description="How many it allows to users that are not super.")


@strawberry.type(description="What happened to jobs in an hour.")
class JobsInHour:
    """Hours without any are there too."""

    start: DateTime
    dispatched: BigInt = strawberry.field(description="Jobs first handed out to a worker.")
    succeeded: BigInt
    failed: BigInt = strawberry.field(description="FAILED, TIMEOUT or LOST after the last attempt.")
    cancelled: BigInt


@strawberry.type(
    description="Latency, traffic, errors and saturation. The first three are of the last five minutes, the present "
    "one included; `…Delta` is what they have changed against the five minutes before. Null: nothing was counted."
)
class GoldenSignals:
    """What to look at first."""

    latency_p99_seconds: float | None = strawberry.field(
        description="From due to first handed out: 99 % of the jobs took no longer. Read from a histogram, as "
        "Prometheus does from `scheduling_latency_seconds`."
    )
    latency_p99_seconds_delta: float | None
    traffic_per_second: float = strawberry.field(description="Jobs first handed out to a worker.")
    traffic_per_second_delta: float
    error_rate: float | None = strawberry.field(
        description="The share, 0 to 1, of executions that ended FAILED, TIMEOUT or LOST; CANCELLED ones left out."
    )
    error_rate_delta: float | None
    saturation: Saturation
    jobs: list[JobsInHour] = strawberry.field(description="The last 24 hours, the present one last.")

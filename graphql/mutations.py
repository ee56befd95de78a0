"""The root of mutations."""

from __future__ import annotations

from typing import cast

import strawberry

from jobledger.graphql.context import Info, context_of
from jobledger.graphql.types.inputs import CancelJobInput, CreateQueueInput, SubmitJobInput, UpdateQueueInput
from jobledger.graphql.types.results import (
    CancelJobResult,
    CreateQueueResult,
    SubmitJobResult,
    SubmitJobsResult,
    UpdateQueueResult,
)


@strawberry.type(description="Each answers when the command is decided, or with Pending after a while.")
class Mutation:
    """What people can ask the owners to do."""

    @strawberry.mutation(description="Submit a job.")
    async def submit_job(self, info: Info, input: SubmitJobInput) -> SubmitJobResult:
        """One job."""
        context = context_of(info)
        return cast(SubmitJobResult, await context.parts.submitting.submit(context, input))

    @strawberry.mutation(description="Submit 1 to 1,000 jobs, 8 MiB at most; each has its own result.")
    async def submit_jobs(self, info: Info, input: list[SubmitJobInput]) -> SubmitJobsResult:
        """A bulk; it is no transaction."""
        context = context_of(info)
        return cast(SubmitJobsResult, await context.parts.submitting.submit_many(context, input))

    @strawberry.mutation(description="Cancel a job.")
    async def cancel_job(self, info: Info, input: CancelJobInput) -> CancelJobResult:
        """At once, or by asking its queue and worker."""
        context = context_of(info)
        return cast(CancelJobResult, await context.parts.changing.cancel(context, input))

    @strawberry.mutation(description="Create a queue.")
    async def create_queue(self, info: Info, input: CreateQueueInput) -> CreateQueueResult:
        """Its name must be free."""
        context = context_of(info)
        return cast(CreateQueueResult, await context.parts.changing.create_queue(context, input))

    @strawberry.mutation(description="Change a queue.")
    async def update_queue(self, info: Info, input: UpdateQueueInput) -> UpdateQueueResult:
        """What is left out stays."""
        context = context_of(info)
        return cast(UpdateQueueResult, await context.parts.changing.update_queue(context, input))

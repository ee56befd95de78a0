"""The root of mutations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import strawberry

from jobledger.graphql.context import Info, RequestContext, context_of
from jobledger.graphql.types.errors import HTTP_STATUS, UserError
from jobledger.graphql.types.inputs import (
    CancelJobInput,
    CreateQueueInput,
    DiscardJobInput,
    RedriveJobInput,
    SubmitJobInput,
    UpdateQueueInput,
)
from jobledger.graphql.types.quarantine import QuarantineResult
from jobledger.graphql.types.results import (
    CancelJobResult,
    CreateQueueResult,
    DiscardJobResult,
    Pending,
    RedriveJobResult,
    SubmitJobResult,
    SubmitJobsResult,
    UpdateQueueResult,
)
from jobledger.schemas.quarantine import Resolution


def _accounted(context: RequestContext, field: str, answer: object) -> object:
    """Note what the answer is worth as an HTTP status."""
    status = 503 if isinstance(answer, Pending) else 200
    context.statuses[field] = HTTP_STATUS[answer.code] if isinstance(answer, UserError) else status
    return answer


async def submit_jobs(context: RequestContext, items: Sequence[SubmitJobInput]) -> object:
    """Resolve `submitJobs`."""
    return _accounted(context, "submitJobs", await context.components.submissions.submit_many(context, items))


@strawberry.type(description="Each answers when the command is decided, or with Pending after a while.")
class Mutation:
    """What people can ask the owners to do."""

    @strawberry.mutation(description="Submit a job.")
    async def submit_job(self, info: Info, input: SubmitJobInput) -> SubmitJobResult:
        """One job."""
        context = context_of(info)
        answer = await context.components.submissions.submit(context, input)
        return cast(SubmitJobResult, _accounted(context, "submitJob", answer))

    @strawberry.mutation(description="Submit 1 to 1,000 jobs, 8 MiB at most; each has its own result.")
    async def submit_jobs(self, info: Info, input: list[SubmitJobInput]) -> SubmitJobsResult:
        """A bulk; it is no transaction."""
        return cast(SubmitJobsResult, await submit_jobs(context_of(info), input))

    @strawberry.mutation(description="Cancel a job.")
    async def cancel_job(self, info: Info, input: CancelJobInput) -> CancelJobResult:
        """At once, or by asking its queue and worker."""
        context = context_of(info)
        answer = await context.components.jobs.cancel(context, input)
        return cast(CancelJobResult, _accounted(context, "cancelJob", answer))

    @strawberry.mutation(description="Run a dead-lettered job again.")
    async def redrive_job(self, info: Info, input: RedriveJobInput) -> RedriveJobResult:
        """Under its id, with all attempts of its policy."""
        context = context_of(info)
        answer = await context.components.jobs.redrive(context, input)
        return cast(RedriveJobResult, _accounted(context, "redriveJob", answer))

    @strawberry.mutation(description="Close a dead-lettered job.")
    async def discard_job(self, info: Info, input: DiscardJobInput) -> DiscardJobResult:
        """For good."""
        context = context_of(info)
        answer = await context.components.jobs.discard(context, input)
        return cast(DiscardJobResult, _accounted(context, "discardJob", answer))

    @strawberry.mutation(description="Create a queue.")
    async def create_queue(self, info: Info, input: CreateQueueInput) -> CreateQueueResult:
        """Its name must be free."""
        context = context_of(info)
        answer = await context.components.queues.create(context, input)
        return cast(CreateQueueResult, _accounted(context, "createQueue", answer))

    @strawberry.mutation(description="Change a queue.")
    async def update_queue(self, info: Info, input: UpdateQueueInput) -> UpdateQueueResult:
        """What is left out stays."""
        context = context_of(info)
        answer = await context.components.queues.update(context, input)
        return cast(UpdateQueueResult, _accounted(context, "updateQueue", answer))

    @strawberry.mutation(description="Send something in quarantine to its owner again.")
    async def retry_quarantined(self, info: Info, id: strawberry.ID, note: str = "") -> QuarantineResult:
        """What fails again is set aside anew."""
        context = context_of(info)
        answer = await context.components.quarantine.resolve(id, Resolution.RETRIED, context.actor, note)
        return cast(QuarantineResult, _accounted(context, "retryQuarantined", answer))

    @strawberry.mutation(description="Give up something in quarantine.")
    async def discard_quarantined(self, info: Info, id: strawberry.ID, note: str = "") -> QuarantineResult:
        """It stays in the log, and in the list of what is resolved."""
        context = context_of(info)
        answer = await context.components.quarantine.resolve(id, Resolution.DISCARDED, context.actor, note)
        return cast(QuarantineResult, _accounted(context, "discardQuarantined", answer))

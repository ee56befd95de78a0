# Written by scripts/sync-operations from client/operations/operations.graphql and the schema.
"""The client's operations: their documents, and a function that fills in the variables of each."""

from __future__ import annotations

from jobledger.client.operations import inputs, outputs
from jobledger.client.operations.operation import Operation

SUBMIT_JOB = """
fragment RefusalFields on UserError { code message path value remedy ... on Conflict { status } } fragment PendingFields
on Pending { commandId jobId message } mutation SubmitJob($input: SubmitJobInput!) { submitJob(input: $input) {
__typename ... on SubmitJobSuccess { job { id status } position duplicate } ...PendingFields ...RefusalFields } }
"""


def submit_job(input: inputs.SubmitJobInput) -> Operation[outputs.SubmitJobResult]:
    """Submit a job."""
    return Operation(SUBMIT_JOB, {"input": input}, "submitJob")


SUBMIT_JOBS = """
fragment RefusalFields on UserError { code message path value remedy ... on Conflict { status } } mutation
SubmitJobs($input: [SubmitJobInput!]!) { submitJobs(input: $input) { __typename ... on SubmitJobsSuccess { jobIds
duplicateIndexes position problems { index commandId error { __typename ...RefusalFields } } } ...RefusalFields } }
"""


def submit_jobs(input: list[inputs.SubmitJobInput]) -> Operation[outputs.SubmitJobsResult]:
    """Submit 1 to 1,000 jobs, 8 MiB at most; each has its own result."""
    return Operation(SUBMIT_JOBS, {"input": input}, "submitJobs")


CANCEL_JOB = """
fragment RefusalFields on UserError { code message path value remedy ... on Conflict { status } } fragment PendingFields
on Pending { commandId jobId message } mutation CancelJob($input: CancelJobInput!) { cancelJob(input: $input) {
__typename ... on CancelJobSuccess { job { id status } position } ...PendingFields ...RefusalFields } }
"""


def cancel_job(input: inputs.CancelJobInput) -> Operation[outputs.CancelJobResult]:
    """Cancel a job."""
    return Operation(CANCEL_JOB, {"input": input}, "cancelJob")


REDRIVE_JOB = """
fragment RefusalFields on UserError { code message path value remedy ... on Conflict { status } } fragment PendingFields
on Pending { commandId jobId message } mutation RedriveJob($input: RedriveJobInput!) { redriveJob(input: $input) {
__typename ... on RedriveJobSuccess { job { id status } position } ...PendingFields ...RefusalFields } }
"""


def redrive_job(input: inputs.RedriveJobInput) -> Operation[outputs.RedriveJobResult]:
    """Run a dead-lettered job again."""
    return Operation(REDRIVE_JOB, {"input": input}, "redriveJob")


DISCARD_JOB = """
fragment RefusalFields on UserError { code message path value remedy ... on Conflict { status } } fragment PendingFields
on Pending { commandId jobId message } mutation DiscardJob($input: DiscardJobInput!) { discardJob(input: $input) {
__typename ... on DiscardJobSuccess { job { id status } position } ...PendingFields ...RefusalFields } }
"""


def discard_job(input: inputs.DiscardJobInput) -> Operation[outputs.DiscardJobResult]:
    """Close a dead-lettered job."""
    return Operation(DISCARD_JOB, {"input": input}, "discardJob")


CREATE_QUEUE = """
fragment RefusalFields on UserError { code message path value remedy ... on Conflict { status } } fragment PendingFields
on Pending { commandId jobId message } mutation CreateQueue($input: CreateQueueInput!) { createQueue(input: $input) {
__typename ... on QueueSuccess { position } ...PendingFields ...RefusalFields } }
"""


def create_queue(input: inputs.CreateQueueInput) -> Operation[outputs.CreateQueueResult]:
    """Create a queue."""
    return Operation(CREATE_QUEUE, {"input": input}, "createQueue")


UPDATE_QUEUE = """
fragment RefusalFields on UserError { code message path value remedy ... on Conflict { status } } fragment PendingFields
on Pending { commandId jobId message } mutation UpdateQueue($input: UpdateQueueInput!) { updateQueue(input: $input) {
__typename ... on QueueSuccess { position } ...PendingFields ...RefusalFields } }
"""


def update_queue(input: inputs.UpdateQueueInput) -> Operation[outputs.UpdateQueueResult]:
    """Change a queue."""
    return Operation(UPDATE_QUEUE, {"input": input}, "updateQueue")


READ_JOB = """
fragment JobFields on Job { id status handler queueName priority attempt submittedAt dueAt startedAt endedAt retryAt
worker payload result errorType error deadLetterCause cancelReason tags { name value } } query ReadJob($id: ID!, $after:
Position) { job(id: $id, after: $after) { ...JobFields } }
"""


def read_job(id: str, after: str | None = None) -> Operation[outputs.Job | None]:
    """A job by its id; null if there is none."""
    return Operation(READ_JOB, {"id": id, "after": after}, "job")


READ_JOBS = """
fragment JobFields on Job { id status handler queueName priority attempt submittedAt dueAt startedAt endedAt retryAt
worker payload result errorType error deadLetterCause cancelReason tags { name value } } query ReadJobs($filter:
JobFilter, $first: Int!, $cursor: Cursor, $after: Position) { jobs(filter: $filter, first: $first, after: $cursor,
afterPosition: $after) { edges { node { ...JobFields } } pageInfo { hasNextPage endCursor } position } }
"""


def read_jobs(
    first: int, filter: inputs.JobFilter | None = None, cursor: str | None = None, after: str | None = None
) -> Operation[outputs.JobConnection]:
    """Jobs, a page at a time. `after` is a cursor here; the position is `afterPosition`."""
    return Operation(READ_JOBS, {"first": first, "filter": filter, "cursor": cursor, "after": after}, "jobs")


READ_STATUSES = """
query ReadStatuses($filter: JobFilter, $first: Int!, $after: Position) { jobs(filter: $filter, first: $first,
afterPosition: $after) { edges { node { id status } } position } }
"""


def read_statuses(
    first: int, filter: inputs.JobFilter | None = None, after: str | None = None
) -> Operation[outputs.ReadStatusesJobConnection]:
    """Jobs, a page at a time. `after` is a cursor here; the position is `afterPosition`."""
    return Operation(READ_STATUSES, {"first": first, "filter": filter, "after": after}, "jobs")


READ_QUEUES = """
query ReadQueues($after: Position) { queues(after: $after) { name description maxWaitingBytes waiting waitingBytes held
} }
"""


def read_queues(after: str | None = None) -> Operation[list[outputs.Queue]]:
    """Queues by name, at most 1,000."""
    return Operation(READ_QUEUES, {"after": after}, "queues")


READ_WORKERS = """
query ReadWorkers($queue: String, $after: Position) { workers(queue: $queue, after: $after) { id incarnation pool
handlers lost queues { queue credits held } } }
"""


def read_workers(queue: str | None = None, after: str | None = None) -> Operation[list[outputs.Worker]]:
    """Workers that serve a queue, or any; at most 1,000."""
    return Operation(READ_WORKERS, {"queue": queue, "after": after}, "workers")


READ_SLO = """
query ReadSlo($windowDays: Int!) { slo(windowDays: $windowDays) { name objective target windowDays since actual total
bad excluded errorBudget errorBudgetRemaining burnRate } }
"""


def read_slo(window_days: int) -> Operation[list[outputs.ServiceLevel]]:
    """The service level objectives, and how they were kept in the last days: 1 to 30."""
    return Operation(READ_SLO, {"windowDays": window_days}, "slo")


FOLLOW_JOBS = """
subscription FollowJobs($filter: JobEventFilter!, $after: Position, $fromStart: Boolean!) { jobEvents(filter: $filter,
after: $after, fromStart: $fromStart) { __typename ... on JobEvent { type jobId version at status data position } ... on
Resync { position } } }
"""


def follow_jobs(
    filter: inputs.JobEventFilter, from_start: bool, after: str | None = None
) -> Operation[outputs.JobEventItem]:
    """Events of jobs, in order per job, without gaps. Goes on behind `after`; partitions that it does not name, or
    all without it, start now. `fromStart` (needs `filter.jobId`): the job's history comes first.
    """
    return Operation(FOLLOW_JOBS, {"filter": filter, "fromStart": from_start, "after": after}, "jobEvents")


FOLLOW_ENDS = """
subscription FollowEnds($filter: JobEventFilter!, $after: Position) { jobEvents(filter: $filter, after: $after) {
__typename ... on JobEvent { jobId position } ... on Resync { position } } }
"""


def follow_ends(filter: inputs.JobEventFilter, after: str | None = None) -> Operation[outputs.FollowEndsJobEventItem]:
    """Events of jobs, in order per job, without gaps. Goes on behind `after`; partitions that it does not name, or
    all without it, start now. `fromStart` (needs `filter.jobId`): the job's history comes first.
    """
    return Operation(FOLLOW_ENDS, {"filter": filter, "after": after}, "jobEvents")

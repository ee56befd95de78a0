"""Every event there is. The union's tags are the public names of the types."""

from __future__ import annotations

from jobledger.domain import job_events as je
from jobledger.domain import queue_events as qe
from jobledger.domain.tenant import TenantCreated, TenantUpdated

AnyEvent = (
    je.JobSubmitted
    | je.TaskReady
    | je.TaskStarted
    | je.TaskCheckpointSaved
    | je.TaskSucceeded
    | je.TaskFailed
    | je.TaskLost
    | je.TaskReturned
    | je.TaskCancelled
    | je.JobCancelRequested
    | je.JobSucceeded
    | je.JobDeadLettered
    | je.JobCancelled
    | je.JobRedriven
    | je.JobDiscarded
    | qe.QueueCreated
    | qe.QueueUpdated
    | qe.TaskEnqueued
    | qe.TaskAssigned
    | qe.TaskRemoved
    | qe.TaskReleased
    | qe.TaskCancelSent
    | qe.CreditsSet
    | qe.WorkerLost
    | qe.WorkerRemoved
    | TenantCreated
    | TenantUpdated
)

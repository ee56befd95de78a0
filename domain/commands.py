"""Every command body there is, and which aggregate decides it."""

from __future__ import annotations

from jobledger.domain import job_commands as jc
from jobledger.domain import queue_commands as qc
from jobledger.domain.tenant import CreateTenant, UpdateTenant

AnyCommand = (
    jc.SubmitJob
    | jc.CancelJob
    | jc.RedriveJob
    | jc.DiscardJob
    | jc.MarkDue
    | jc.ReportStarted
    | jc.ReportCheckpoint
    | jc.ReportSucceeded
    | jc.ReportFailed
    | jc.ReportCrashed
    | jc.ReportCancelled
    | jc.ReportReturned
    | jc.AttemptLost
    | jc.TaskWithdrawn
    | jc.QueryJob
    | qc.CreateQueue
    | qc.UpdateQueue
    | qc.EnqueueTask
    | qc.WithdrawTask
    | qc.ReleaseTask
    | qc.SetCredits
    | qc.RemoveWorker
    | qc.ExpireLease
    | qc.DispatchTasks
    | qc.QueryQueue
    | CreateTenant
    | UpdateTenant
)

#: Commands that bring a stream into being, answered with the first outcome when they come again.
CREATING = (jc.SubmitJob, qc.CreateQueue, CreateTenant)
#: Commands of people: a repeat of one of the stream's last ones (same command id) changes nothing.
REMEMBERED = (jc.CancelJob, jc.RedriveJob, jc.DiscardJob, qc.CreateQueue, qc.UpdateQueue, CreateTenant, UpdateTenant)
#: How many of them a stream remembers.
REMEMBERED_PER_STREAM = 16

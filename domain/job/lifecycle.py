"""The life of a job: the rule by which an event leads to a status, and the same as a table of what may come when.

The table is written out so that people can read it; a test derives the same from the rule and the decisions, and the
diagram in the documentation is made from it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from jobledger.domain.job import events as e
from jobledger.domain.job.state import JobStatus


class Transition(NamedTuple):
    """`event` takes a job from `source` to `target`; `source` None: it comes into being."""

    source: JobStatus | None
    event: type[e.JobEvent]
    target: JobStatus
    when: str = ""


S = JobStatus

TRANSITIONS: tuple[Transition, ...] = (
    Transition(None, e.JobSubmitted, S.SCHEDULED),
    Transition(S.SCHEDULED, e.TaskReady, S.QUEUED, "due"),
    Transition(S.SCHEDULED, e.JobCancelled, S.CANCELLED),
    Transition(S.QUEUED, e.TaskStarted, S.RUNNING),
    Transition(S.QUEUED, e.TaskReturned, S.QUEUED, "handed back unstarted"),
    Transition(S.QUEUED, e.TaskLost, S.QUEUED, "worker lost before the start"),
    Transition(S.QUEUED, e.TaskReady, S.QUEUED, "handed out again"),
    Transition(S.QUEUED, e.JobDeadLettered, S.DEAD_LETTERED, "handed out too often without a start"),
    Transition(S.QUEUED, e.JobCancelRequested, S.CANCELLING),
    Transition(S.RUNNING, e.TaskCheckpointSaved, S.RUNNING),
    Transition(S.RUNNING, e.TaskSucceeded, S.RUNNING),
    Transition(S.RUNNING, e.JobSucceeded, S.SUCCEEDED),
    Transition(S.RUNNING, e.TaskFailed, S.RETRYING, "attempts left"),
    Transition(S.RUNNING, e.TaskFailed, S.RUNNING, "last attempt"),
    Transition(S.RUNNING, e.TaskLost, S.RETRYING, "attempts left"),
    Transition(S.RUNNING, e.TaskLost, S.RUNNING, "last attempt"),
    Transition(S.RUNNING, e.JobDeadLettered, S.DEAD_LETTERED, "last attempt"),
    Transition(S.RUNNING, e.JobCancelRequested, S.CANCELLING),
    Transition(S.RETRYING, e.TaskReady, S.QUEUED, "back-off over"),
    Transition(S.RETRYING, e.JobCancelled, S.CANCELLED),
    Transition(S.CANCELLING, e.TaskStarted, S.CANCELLING),
    Transition(S.CANCELLING, e.TaskCheckpointSaved, S.CANCELLING),
    Transition(S.CANCELLING, e.TaskSucceeded, S.CANCELLING),
    Transition(S.CANCELLING, e.TaskFailed, S.CANCELLING),
    Transition(S.CANCELLING, e.TaskLost, S.CANCELLING),
    Transition(S.CANCELLING, e.TaskReturned, S.CANCELLING),
    Transition(S.CANCELLING, e.TaskCancelled, S.CANCELLING),
    Transition(S.CANCELLING, e.JobSucceeded, S.SUCCEEDED, "the worker was faster"),
    Transition(S.CANCELLING, e.JobCancelled, S.CANCELLED),
    Transition(S.DEAD_LETTERED, e.JobRedriven, S.SCHEDULED, "and ready at once"),
    Transition(S.DEAD_LETTERED, e.JobDiscarded, S.DISCARDED),
)


_LEADS_TO: dict[type[e.JobEvent], JobStatus] = {
    e.JobSubmitted: S.SCHEDULED,
    e.TaskReady: S.QUEUED,
    e.JobCancelRequested: S.CANCELLING,
    e.JobSucceeded: S.SUCCEEDED,
    e.JobCancelled: S.CANCELLED,
    e.JobDeadLettered: S.DEAD_LETTERED,
    e.JobRedriven: S.SCHEDULED,
    e.JobDiscarded: S.DISCARDED,
}


def status_after(status: JobStatus | None, event: Any) -> JobStatus | None:
    """The job's status after `event`, which found it in `status`.

    `status` None: it is not known. Then None where the event doesn't tell by itself: the job stays as it was.
    """
    if (leads_to := _LEADS_TO.get(type(event))) is not None:
        return leads_to
    if isinstance(event, e.TaskStarted):
        return S.CANCELLING if event.cancelling or status is S.CANCELLING else S.RUNNING
    if isinstance(event, e.TaskFailed | e.TaskLost) and event.retry_at_ms is not None:
        return S.RETRYING
    return status


def targets(source: JobStatus | None, event: type[e.JobEvent]) -> frozenset[JobStatus]:
    """Where `event` can lead from `source`; empty: it never comes there."""
    return frozenset(one.target for one in TRANSITIONS if (one.source, one.event) == (source, event))


def _tag(event: type[e.JobEvent]) -> str:
    return str(event.__struct_config__.tag).rpartition(".v")[0]


def mermaid() -> str:
    """The table as the text of a mermaid state diagram; events that leave the status as it is are left out."""
    lines = ["stateDiagram-v2"]
    for one in TRANSITIONS:
        if one.source is not one.target:
            source = "[*]" if one.source is None else one.source.value
            label = f"{_tag(one.event)} ({one.when})" if one.when else _tag(one.event)
            lines.append(f"    {source} --> {one.target.value}: {label}")
    lines += [f"    {status.value} --> [*]" for status in (S.SUCCEEDED, S.CANCELLED, S.DISCARDED)]
    return "\n".join(lines) + "\n"


def table() -> str:
    """The whole table in Markdown."""
    lines = ["| status | event | next status | when |", "|---|---|---|---|"]
    for one in TRANSITIONS:
        source = "(none)" if one.source is None else one.source.value
        lines.append(f"| {source} | `{_tag(one.event)}` | {one.target.value} | {one.when} |")
    return "\n".join(lines) + "\n"

"""What the client gives: typed views of the API's answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from jobledger.client.operations import outputs
from jobledger.domain.job.state import TERMINAL, JobStatus


@dataclass(frozen=True, kw_only=True)
class JobView:
    """A job as the read model shows it."""

    id: str
    status: JobStatus
    handler: str
    queue: str
    priority: int
    attempt: int
    submitted_at: datetime
    due_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    retry_at: datetime | None
    worker: str | None
    payload: Any
    result: Any
    error_type: str
    error: str
    dead_letter_cause: str
    cancel_reason: str
    tags: dict[str, str]

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to it."""
        return self.status in TERMINAL


def job_view(node: outputs.Job) -> JobView:
    """From the API's Job."""
    return JobView(
        id=node["id"],
        status=JobStatus(node["status"]),
        handler=node["handler"],
        queue=node["queueName"],
        priority=node["priority"],
        attempt=node["attempt"],
        submitted_at=datetime.fromisoformat(node["submittedAt"]),
        due_at=datetime.fromisoformat(node["dueAt"]),
        started_at=_time(node["startedAt"]),
        ended_at=_time(node["endedAt"]),
        retry_at=_time(node["retryAt"]),
        worker=node["worker"],
        payload=node["payload"],
        result=node["result"],
        error_type=node["errorType"] or "",
        error=_message(node["error"]),
        dead_letter_cause=node["deadLetterCause"] or "",
        cancel_reason=node["cancelReason"] or "",
        tags={tag["name"]: tag["value"] for tag in node["tags"]},
    )


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _message(error: object) -> str:
    """The message of a stored error, which holds a traceback too."""
    if isinstance(error, Mapping) and "message" in error:
        return str(error["message"])
    if error is None:
        return ""
    return error if isinstance(error, str) else json.dumps(error)


@dataclass(frozen=True, kw_only=True)
class JobEvent:
    """An event of a job; `data` has the fields of the event as in `jobledger.events`.

    `position` given back as `after` continues behind it.
    """

    type: str
    job_id: str
    version: int
    at: datetime
    status: JobStatus | None
    data: dict[str, Any]
    position: str


def job_event(item: outputs.JobEvent) -> JobEvent:
    """From the API's JobEvent."""
    return JobEvent(
        type=item["type"],
        job_id=item["jobId"],
        version=item["version"],
        at=datetime.fromisoformat(item["at"]),
        status=None if item["status"] is None else JobStatus(item["status"]),
        data=item["data"],
        position=item["position"],
    )


@dataclass(frozen=True, kw_only=True)
class QueueView:
    """A queue and what waits in it."""

    name: str
    description: str
    max_waiting_bytes: int
    waiting: int
    waiting_bytes: int
    held: int


def queue_view(node: outputs.Queue) -> QueueView:
    """From the API's Queue."""
    return QueueView(
        name=node["name"],
        description=node["description"],
        max_waiting_bytes=node["maxWaitingBytes"],
        waiting=node["waiting"],
        waiting_bytes=node["waitingBytes"],
        held=node["held"],
    )


@dataclass(frozen=True, kw_only=True)
class WorkerView:
    """An incarnation of a worker."""

    id: str
    incarnation: str
    pool: str
    handlers: list[str]
    lost: bool
    queues: dict[str, tuple[int, int]]
    """By queue: credits, held."""


def worker_view(node: outputs.Worker) -> WorkerView:
    """From the API's Worker."""
    return WorkerView(
        id=node["id"],
        incarnation=node["incarnation"],
        pool=node["pool"],
        handlers=list(node["handlers"]),
        lost=node["lost"],
        queues={one["queue"]: (one["credits"], one["held"]) for one in node["queues"]},
    )


@dataclass(frozen=True, kw_only=True)
class ServiceLevelView:
    """A service level objective, and how it was kept. None: nothing counted, so nothing is known.

    Shares are 0 to 1. `excluded` ones are not in `total`; `error_budget` is how many of that may be bad.
    `error_budget_remaining` is negative when more is spent than there is. `burn_rate` is that of the last hour: at 1
    the budget lasts the window exactly.
    """

    name: str
    objective: str
    target: float
    window_days: int
    since: datetime | None
    actual: float | None
    total: int
    bad: int
    excluded: int
    error_budget: float
    error_budget_remaining: float | None
    burn_rate: float | None


def service_level_view(node: outputs.ServiceLevel) -> ServiceLevelView:
    """From the API's ServiceLevel."""
    return ServiceLevelView(
        name=node["name"],
        objective=node["objective"],
        target=node["target"],
        window_days=node["windowDays"],
        since=_time(node["since"]),
        actual=node["actual"],
        total=node["total"],
        bad=node["bad"],
        excluded=node["excluded"],
        error_budget=node["errorBudget"],
        error_budget_remaining=node["errorBudgetRemaining"],
        burn_rate=node["burnRate"],
    )


@dataclass(frozen=True, kw_only=True)
class JobPage:
    """A page of jobs; `cursor` given back as `after` brings the next one, None: there is none."""

    jobs: list[JobView]
    cursor: str | None
    position: str

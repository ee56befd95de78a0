"""What stays the same while an attempt runs."""

from __future__ import annotations

from dataclasses import dataclass

from jobledger.domain.spec import TaskSpec


@dataclass(frozen=True, kw_only=True)
class TaskInfo:
    """What stays the same while an attempt runs. Times are ms since the epoch."""

    job_id: str
    tenant: str
    task: str
    execution_id: str
    attempt: int
    assignment: int
    spec: TaskSpec
    queue: str
    worker: str
    deadline_ms: int | None = None
    traceparent: str | None = None
    tracestate: str = ""

    @property
    def handler(self) -> str:
        """Name of the handler."""
        return self.spec.handler

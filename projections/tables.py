"""The tables of the read models."""

from __future__ import annotations

from jobledger.projections.columns import Table
from jobledger.projections.rows import (
    AttemptRow,
    EventRow,
    JobRow,
    JobSignalsRow,
    QueueRow,
    SetAsideRow,
    WaitingTaskRow,
    WorkerRow,
)
from jobledger.projections.second_lives import FINAL_STATUSES

JOBS = Table("jobs", JobRow, of="job", final=FINAL_STATUSES)
ATTEMPTS = Table("attempts", AttemptRow, of="job")
QUEUES = Table("queues", QueueRow, of="queue")
WAITING_TASKS = Table("waiting_tasks", WaitingTaskRow, of="queue")
WORKERS = Table("workers", WorkerRow, of="queue")
EVENTS = Table("events", EventRow)
SET_ASIDE = Table("set_aside", SetAsideRow)
JOB_SIGNALS = Table("job_signals", JobSignalsRow)
#: The tables that say how things stand now.
CURRENT = (JOBS, ATTEMPTS, QUEUES, WAITING_TASKS, WORKERS)
#: The tables that are a fold of the events; `positions` says how far.
TABLES = (EVENTS, *CURRENT, SET_ASIDE, JOB_SIGNALS)
#: Tables of the schema that come of no event: what apis have answered. A rebuild leaves them as they are.
BESIDE = ("api_requests",)

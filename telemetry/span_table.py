"""The spans of Jobledger, declared once; `catalogue` makes the reference page of them."""

from __future__ import annotations

from jobledger.telemetry.declarations import Role, SpanName

INTRODUCTION = """\
A trace is kept when it holds an error, something slow (above the 95th percentile of its job type, as the worker has
learned it), one of the first 100 executions of a job type in a worker, or is among the 1 % that its trace id picks;
also where the caller has recorded it already. Every span has `sampling.reason` (error, slow, new, normal), and
`error.type` if it went wrong. The first attempt of a job that is due within 60 s of its submission is in the trace of
its submission; later work is a trace of its own with a link to it."""

SPANS = (
    SpanName(
        "api_request",
        (Role.API,),
        "a job is traced",
        "SERVER",
        "the caller's span, where the caller records it",
        ("method", "endpoint", "status_code"),
        "One GraphQL operation, over HTTP, SSE or WebSocket, from its arrival to its answer or the end of its stream.",
    ),
    SpanName(
        "schedule_job",
        (Role.SCHEDULER,),
        "a job is traced",
        "INTERNAL",
        "api_request; none for later work, which has a link",
        ("job_id", "execution_id", "tenant_id", "attempt", "scheduler_id"),
        "From the submission (for later work: from when it was due) to the assignment to a worker; of one that was "
        "never started, to its end.",
    ),
    SpanName(
        "queue_enqueue",
        (Role.SCHEDULER,),
        "a job is traced",
        "PRODUCER",
        "schedule_job",
        ("queue", "partition", "job_id", "execution_id", "attempt"),
        "From when the task was ready in its queue to its assignment to a worker.",
    ),
    SpanName(
        "task_execution",
        (Role.WORKER,),
        "a job is traced",
        "CONSUMER",
        "queue_enqueue",
        ("worker_id", "attempt", "job_id", "execution_id", "job_type", "status"),
        "One attempt, from the handler's start to its end.",
    ),
    SpanName(
        "external_api_call",
        (Role.WORKER,),
        "a job is traced",
        "CLIENT",
        "task_execution",
        ("url", "method", "status"),
        "One call that a handler makes inside `ctx.external_call`.",
    ),
    SpanName(
        "projection_apply",
        (Role.PROJECTOR,),
        "a job is traced",
        "CONSUMER",
        "task_execution, or what the event names",
        ("partition", "seq", "event_type", "job_id"),
        "From the commit of the event that ends an attempt to its row in Postgres.",
    ),
)

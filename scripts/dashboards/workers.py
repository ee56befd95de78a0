"""The workers: capacity by pool, what handlers do, and what the processes use."""

from __future__ import annotations

from expressions import per_second, quantile, ratio
from panels import Page, Panel

_CAPACITY = (
    Panel(
        "Use of the pools",
        "percentunit",
        {"{{pool}}": "max by (pool) (worker_utilization)"},
        "Busy slots of all slots of a pool.",
        warn_over=0.8,
        bad_over=0.95,
        maximum=1,
    ),
    Panel(
        "Workers of the pools",
        "short",
        {
            "{{pool}} healthy": "max by (pool) (jobledger_workers_healthy)",
            "{{pool}} registered": "max by (pool) (jobledger_workers_registered)",
        },
        "Healthy: lease valid. Registered: in the last hour, not drained. WorkerPoolLow is raised below 20 %.",
    ),
    Panel(
        "Handlers running",
        "short",
        {"{{worker_id}}": "sum by (worker_id) (worker_concurrent_executions)"},
        "Now, by worker.",
    ),
)

_WORK = (
    Panel(
        "Attempts ended",
        "ops",
        {"{{status}}": per_second("worker_tasks_completed_total", by="status")},
        "By how they ended.",
    ),
    Panel(
        "Share of failed attempts",
        "percentunit",
        {
            "{{pool}}": ratio(
                per_second("worker_tasks_completed_total", by="pool", labels='status="FAILED"'),
                per_second("worker_tasks_completed_total", by="pool"),
            )
        },
        "JobExecutionFailureRate is raised over 5 %.",
        warn_over=0.01,
        bad_over=0.05,
    ),
    Panel(
        "Run time (P95)",
        "s",
        {"{{job_type}}": quantile(0.95, "worker_execution_duration_seconds", by="job_type")},
        "Of the handler, by handler.",
    ),
    Panel(
        "Received",
        "ops",
        {"{{worker_id}}": per_second("worker_tasks_received_total", by="worker_id")},
        "Tasks taken from the inbox.",
    ),
    Panel(
        "Checkpoints",
        "ops",
        {
            "acknowledged": per_second("worker_checkpoint_success_total"),
            "refused or lost": per_second("worker_checkpoint_failures_total"),
        },
        "Of handlers.",
    ),
    Panel(
        "Age of the last heartbeat",
        "s",
        {"{{worker_id}}": "time() - max by (worker_id) (worker_heartbeat_timestamp)"},
        "Since a heartbeat was last acknowledged.",
        warn_over=5,
        bad_over=15,
    ),
)

_RESOURCES = (
    Panel(
        "Processor",
        "percent",
        {"{{worker_id}}": "max by (worker_id) (worker_cpu_usage_percent)"},
        "Of one core; with the processes of the handler pool.",
        width=12,
    ),
    Panel(
        "Memory",
        "bytes",
        {"{{worker_id}}": "max by (worker_id) (worker_memory_usage_bytes)"},
        "Resident, with the processes of the handler pool.",
        width=12,
    ),
)

PAGE = Page(
    "jobledger-workers",
    "Jobledger / Workers",
    "Capacity, work and resources of the workers.",
    {"Capacity": _CAPACITY, "Work": _WORK, "Resources": _RESOURCES},
)

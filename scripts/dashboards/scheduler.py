"""The schedulers: who serves which partition, how long a batch takes, what is late."""

from __future__ import annotations

from expressions import per_second, quantile, quantiles
from panels import Page, Panel, Shape

_LEADERSHIP = (
    Panel(
        "Schedulers that serve",
        "short",
        {"serving": "sum (scheduler_is_leader) or vector(0)"},
        "Instances that own at least one partition; SchedulerLeaderUnavailable is raised at 0.",
        Shape.NUMBERS,
        width=4,
        bad_over=1,
        good_is_high=True,
    ),
    Panel(
        "Partitions served",
        "short",
        {"served": "count (max by (partition) (jobledger_partition_served)) or vector(0)"},
        "Partitions of the cell that have an owner.",
        Shape.NUMBERS,
        width=4,
    ),
    Panel(
        "Partitions without an owner",
        "short",
        {"unserved": "max (jobledger_partitions_unserved)"},
        "As every scheduler sees it, after 10 s.",
        Shape.NUMBERS,
        width=4,
        bad_over=1,
    ),
    Panel(
        "Changes of ownership",
        "short",
        {"{{scheduler_id}}": "sum by (scheduler_id) (increase(scheduler_leadership_transitions_total[5m]))"},
        "Partitions gained plus partitions lost in five minutes. Busy only while instances come and go.",
        width=6,
    ),
    Panel(
        "Age of the last turn",
        "s",
        {"{{scheduler_id}}": "time() - max by (scheduler_id) (scheduler_heartbeat_timestamp)"},
        "Each turn of the batch loop renews it, idle ones too; SchedulerDown is raised at 30 s.",
        width=6,
        warn_over=5,
        bad_over=30,
    ),
)

_DISPATCH = (
    Panel(
        "Dispatch latency",
        "s",
        quantiles("scheduler_dispatch_latency_seconds"),
        "From the moment a task, a slot and a limit were free to the assignment committed: the scheduler's own part.",
        warn_over=0.5,
        bad_over=1,
    ),
    Panel(
        "Scheduling latency",
        "s",
        quantiles("scheduling_latency_seconds"),
        "From due to the first assignment committed, waiting for workers included.",
    ),
    Panel(
        "Assignments",
        "ops",
        {"priority {{priority}}": per_second("scheduler_jobs_dispatched_total", by="priority")},
        "Assignments committed per second, first and repeated.",
    ),
    Panel(
        "Found due",
        "ops",
        {"{{scheduler_id}}": per_second("scheduler_jobs_polled_total", by="scheduler_id")},
        "Jobs whose start time was found reached.",
    ),
    Panel(
        "Overdue jobs",
        "short",
        {"owners": "sum (scheduler_overdue_jobs_count)", "read model": "max (jobledger_overdue_jobs)"},
        "Due for over 5 s and not looked at. The projector counts too, for when no scheduler lives.",
        warn_over=1,
        bad_over=100,
    ),
    Panel(
        "Failed assignments",
        "ops",
        {"not started": per_second("dispatch_failures_total")},
        "Assignments that ended without a start.",
    ),
)

_INSIDE = (
    Panel(
        "Collecting a batch",
        "s",
        quantiles("scheduler_polling_duration_seconds"),
        "From reading the clock until due timers and waiting commands are collected.",
    ),
    Panel(
        "Transactions",
        "s",
        quantiles("jobledger_transaction_seconds"),
        "From begin to the commit acknowledged by Kafka.",
    ),
    Panel(
        "Commands",
        "ops",
        {"{{outcome}}": per_second("jobledger_commands_decided_total", by="outcome")},
        "Commands decided and committed.",
    ),
    Panel(
        "Errors of the broker's clients",
        "ops",
        {"{{scheduler_id}}": per_second("scheduler_queue_connection_errors_total", by="scheduler_id")},
        "Transport errors, and transactions aborted for a reason of the broker.",
    ),
    Panel(
        "Rebalances (P99)",
        "s",
        {"P99": quantile(0.99, "jobledger_rebalance_seconds", window="1h")},
        "From the start of a rebalance until records come in again, of the hour before.",
    ),
    Panel(
        "Put aside",
        "short",
        {"{{scheduler_id}}": "sum (increase(jobledger_quarantined_total[1h]))"},
        "Records and commands that can't be read or decided, in the hour before. Each wants a person.",
        bad_over=1,
    ),
)

PAGE = Page(
    "jobledger-scheduler",
    "Jobledger / Schedulers",
    "Ownership of partitions, dispatch and the batch loop.",
    {"Ownership": _LEADERSHIP, "Dispatch": _DISPATCH, "Inside": _INSIDE},
)

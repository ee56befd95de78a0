"""The table of log events. A line with an event that isn't here fails the tests; add one by adding one row."""

from __future__ import annotations

from jobledger.telemetry.declarations import ALL_ROLES, LogEvent, Role

_S = (Role.SCHEDULER,)
_W = (Role.WORKER,)
_A = (Role.API,)
_P = (Role.PROJECTOR,)

_D, _I, _N, _E, _F = "DEBUG", "INFO", "WARN", "ERROR", "FATAL"
_JOB = ("job_id", "tenant_id")
_EXECUTION = ("execution_id", "job_id", "tenant_id")

PROCESS_EVENTS = (
    LogEvent("process_started", _I, "Process started", ALL_ROLES, "a process starts and ends"),
    LogEvent("process_ready", _I, "All parts have started", ALL_ROLES, "a process starts and ends", ("parts",)),
    LogEvent("process_stopping", _I, "Process is stopping", ALL_ROLES, "a process starts and ends", ("reason",)),
    LogEvent("process_stopped", _I, "Process stopped", ALL_ROLES, "a process starts and ends", ("exit_code",)),
    LogEvent("part_started", _D, "A part of the process started", ALL_ROLES, "a process starts and ends", ("part",)),
    LogEvent("part_stopped", _D, "A part of the process stopped", ALL_ROLES, "a process starts and ends", ("part",)),
    LogEvent(
        "part_failed",
        _F,
        "A part of the process failed, so the process ends",
        ALL_ROLES,
        "a part of a process fails",
        ("part",),
    ),
    LogEvent(
        "part_stop_failed",
        _E,
        "A part of the process did not stop cleanly",
        ALL_ROLES,
        "a part of a process fails",
        ("part",),
    ),
    LogEvent(
        "process_exit_forced",
        _E,
        "The process did not end by itself and was ended; `waited_for` names what hung",
        ALL_ROLES,
        "a part of a process fails",
        ("waited_for", "exit_code"),
    ),
    LogEvent("listener_started", _I, "Listening", ALL_ROLES, "a process starts and ends", ("host", "port")),
    LogEvent(
        "listener_exposed",
        _N,
        "Listening beyond this machine without authentication",
        ALL_ROLES,
        "a listener is open to others",
        ("host", "port"),
    ),
    LogEvent("request_failed", _E, "A request ended with an internal error", ALL_ROLES, "a request breaks"),
    LogEvent("library_log", _I, "A library's own log line", ALL_ROLES, "a library logs", ("logger",)),
    LogEvent(
        "queue_connection_lost",
        _E,
        "Connection to Kafka lost",
        (Role.PROJECTOR, Role.WORKER),
        "Kafka goes away",
        ("error",),
    ),
    LogEvent("queue_connection_restored", _I, "Connection to Kafka is back", _W, "Kafka goes away"),
    LogEvent(
        "db_connection_lost",
        _E,
        "Connection to Postgres lost",
        (Role.API, Role.PROJECTOR),
        "Postgres goes away",
        ("error",),
    ),
    LogEvent(
        "db_connection_restored", _I, "Connection to Postgres is back", (Role.API, Role.PROJECTOR), "Postgres goes away"
    ),
    LogEvent(
        "slow_query",
        _N,
        "A database query was slow",
        (Role.API, Role.PROJECTOR),
        "a query is slow",
        ("query", "duration_ms"),
    ),
    LogEvent(
        "log_level_changed",
        _N,
        "Somebody has changed what a logger tells, for a time",
        ALL_ROLES,
        "a level is changed",
        ("logger", "log_level", "was", "until", "changed_by"),
    ),
    LogEvent(
        "log_level_restored",
        _I,
        "A logger tells what it did before",
        ALL_ROLES,
        "a level is changed",
        ("logger", "log_level", "reason"),
    ),
)

SCHEDULER_EVENTS = (
    LogEvent("job_polled", _I, "Job is due", _S, "a job runs", (*_JOB, "next_run_time")),
    LogEvent(
        "job_dispatched",
        _I,
        "Job dispatched to queue",
        _S,
        "a job runs",
        (*_EXECUTION, "queue", "scheduled_time", "dispatch_latency_ms"),
    ),
    LogEvent("dispatch_retry", _N, "Job is assigned again", _S, "a worker is drained", (*_JOB, "attempt", "error")),
    LogEvent("dispatch_failed", _E, "Job given up", _S, "a worker is drained", (*_JOB, "error", "after_attempts")),
    LogEvent(
        "job_dead_lettered",
        _E,
        "Job given up after a failed attempt",
        _S,
        "a handler fails",
        (*_JOB, "error", "after_attempts"),
    ),
    LogEvent(
        "task_retry_scheduled",
        _N,
        "Attempt failed; the next one is scheduled",
        _S,
        "a handler fails",
        (*_JOB, "attempt", "next_run_time"),
    ),
    LogEvent(
        "state_transition",
        _D,
        "Aggregate changed its state",
        _S,
        "a job runs",
        ("stream_id", "tenant_id", "event_type", "version"),
    ),
    LogEvent(
        "command_rejected", _D, "Command rejected", _S, "a command is refused", ("command_id", "tenant_id", "code")
    ),
    LogEvent(
        "leadership_acquired", _I, "Partition is served here", _S, "a scheduler serves", ("scheduler_id", "partition")
    ),
    LogEvent(
        "leadership_lost",
        _N,
        "Partition is no longer served here",
        _S,
        "a scheduler serves",
        ("scheduler_id", "partition", "reason"),
    ),
    LogEvent(
        "partition_recovered",
        _I,
        "The partition's state is in memory",
        _S,
        "a scheduler serves",
        ("partition", "duration_ms", "live_jobs"),
    ),
    LogEvent(
        "owner_reopened",
        _N,
        "Owner forgot its memory and reads its state again",
        _S,
        "Kafka goes away",
        ("partition", "reason", "error"),
    ),
    LogEvent(
        "owner_fenced",
        _N,
        "Another instance has taken the partition over",
        _S,
        "an owner is fenced",
        ("partition", "error"),
    ),
    LogEvent("owner_stopped", _F, "Owner stopped to protect the log", _S, "a log is damaged", ("partition", "error")),
    LogEvent(
        "record_quarantined",
        _E,
        "Record put aside",
        _P,
        "a record is broken",
        ("topic", "partition", "offset", "error"),
    ),
    LogEvent(
        "quarantine_resolved",
        _N,
        "Something in quarantine was retried or discarded",
        _A,
        "a record is broken",
        ("quarantine_id", "resolution", "actor_id"),
    ),
    LogEvent(
        "command_quarantined",
        _E,
        "Command put aside",
        _S,
        "a record is broken",
        ("command_id", "partition", "offset", "error"),
    ),
    LogEvent(
        "partitions_unserved",
        _E,
        "Partitions of the cell that no scheduler serves",
        _S,
        "a partition is not served",
        ("partitions",),
    ),
    LogEvent(
        "partitions_served_again",
        _I,
        "Partitions have a scheduler again",
        _S,
        "a partition is not served",
        ("partitions",),
    ),
    LogEvent("clock_skewed", _E, "Clock is too far from the broker's", _S, "the clock is wrong", ("skew_ms",)),
    LogEvent(
        "clock_right", _I, "Clock agrees with the broker's again", _S, "the clock is wrong", ("skew_ms", "duration_ms")
    ),
    LogEvent(
        "partition_time_ahead",
        _E,
        "Partition's time is ahead of the clock: a clock that was wrong has written it",
        _S,
        "the clock is wrong",
        ("partition", "ahead_ms"),
    ),
    LogEvent(
        "outbox_resent",
        _N,
        "Outbox sent again after a failed delivery",
        _S,
        "a partition misses commands",
        ("partition", "error"),
    ),
    LogEvent(
        "loop_turn_long",
        _N,
        "One turn of the event loop held up everything else in the process (in dev)",
        _S,
        "a loop stalls",
        ("what", "duration_ms"),
    ),
    LogEvent(
        "outbox_gap",
        _E,
        "Commands of another partition are missing, and what came after them waits",
        _S,
        "a partition misses commands",
        ("partition", "source", "missing", "seen"),
    ),
    LogEvent(
        "worker_registered",
        _I,
        "Worker registered",
        (Role.SCHEDULER, Role.WORKER),
        "a job runs",
        ("worker_id", "incarnation"),
    ),
    LogEvent("worker_lost", _N, "Worker's lease expired", _S, "Kafka goes away", ("worker_id", "incarnation", "tasks")),
    LogEvent("worker_drained", _I, "Worker left", _W, "a worker is drained", ("worker_id", "incarnation")),
)

WORKER_EVENTS = (
    LogEvent("task_received", _I, "Task received", _W, "a job runs", (*_EXECUTION, "worker_id")),
    LogEvent("task_started", _I, "Task started", _W, "a job runs", _EXECUTION),
    LogEvent(
        "task_dropped",
        _N,
        "Task no longer wanted: the worker's lease is over",
        _W,
        "Kafka goes away",
        (*_EXECUTION, "reason"),
    ),
    LogEvent(
        "inbox_record_unreadable",
        _N,
        "A record of the worker's inbox can't be read",
        _W,
        "an inbox holds a broken record",
        ("reason",),
    ),
    LogEvent("task_refused", _N, "Task handed back", _W, "a worker is drained", (*_EXECUTION, "reason")),
    LogEvent("checkpoint_saved", _D, "Checkpoint saved", _W, "a handler logs", (*_EXECUTION, "progress")),
    LogEvent(
        "checkpoint_failed", _N, "Checkpoint refused or lost", _W, "a checkpoint is refused", (*_EXECUTION, "error")
    ),
    LogEvent("task_completed", _I, "Task completed", _W, "a job runs", (*_EXECUTION, "duration_ms", "status")),
    LogEvent(
        "task_timeout",
        _N,
        "Task ran into its limit",
        _W,
        "a handler takes too long",
        (*_EXECUTION, "duration_ms", "limit_ms"),
    ),
    LogEvent("task_failed", _E, "Task failed", _W, "a handler fails", (*_EXECUTION, "error", "attempt")),
    LogEvent("task_cancelled", _I, "Task cancelled", _W, "a job is cancelled", (*_EXECUTION, "reason")),
    LogEvent("handler_log", _I, "A line logged by a handler", _W, "a handler logs", _EXECUTION),
    LogEvent("handlers_loaded", _I, "Handlers loaded", _W, "a worker is started", ("handlers",)),
    LogEvent(
        "lease_uncertain",
        _N,
        "Heartbeats are not acknowledged; running handlers are cancelled",
        _W,
        "Kafka goes away",
        ("worker_id", "running"),
    ),
    LogEvent(
        "pool_process_died", _E, "A process of the handler pool died", _W, "a handler fails", (*_EXECUTION, "error")
    ),
    LogEvent(
        "pool_process_stuck",
        _E,
        "A process of the handler pool does not end after SIGKILL",
        _W,
        "a handler takes too long",
        ("pid",),
    ),
    LogEvent(
        "loop_blocked",
        _N,
        "A handler blocks the event loop",
        _W,
        "a handler harms its worker",
        (*_JOB, "handler", "seconds", "stack"),
    ),
    LogEvent(
        "worker_crashed",
        _E,
        "Worker died while it ran handlers",
        _W,
        "a handler harms its worker",
        ("worker_id", "running"),
    ),
    LogEvent(
        "keeper_lost",
        _E,
        "The process that would tell of the worker's death is gone",
        _W,
        "a handler harms its worker",
        ("error",),
    ),
    LogEvent(
        "worker_draining",
        _I,
        "Worker waits for handlers",
        _W,
        "a worker is drained",
        ("worker_id", "running", "count", "seconds"),
    ),
    LogEvent(
        "report_resent",
        _N,
        "Report to a job or a queue sent again",
        _W,
        "a report is not taken",
        ("tenant_id", "error"),
    ),
    LogEvent(
        "report_failed",
        _N,
        "Report could not be sent while the event loop stands",
        _W,
        "a report is not taken",
        ("tenant_id", "error"),
    ),
)

PROJECTOR_EVENTS = (
    LogEvent("projection_assigned", _I, "Partition is projected here", _P, "a projector runs", ("partition", "seq")),
    LogEvent(
        "projection_revoked", _I, "Partition is no longer projected here", _P, "a projector runs", ("partition", "seq")
    ),
    LogEvent(
        "projection_deposed",
        _N,
        "Another projector has applied these events",
        _P,
        "a projector can't go on",
        ("partition", "seq"),
    ),
    LogEvent(
        "projection_gap",
        _F,
        "An event is missing",
        _P,
        "a projector can't go on",
        ("partition", "expected_seq", "found_seq"),
    ),
    LogEvent(
        "projection_unknown_event",
        _F,
        "An event's type is not known to this release",
        _P,
        "a projector can't go on",
        ("partition", "seq", "event_type"),
    ),
    LogEvent(
        "projection_event_set_aside",
        _E,
        "An event changes no row: the stream of its job, which had ended, began a second time",
        _P,
        "the read models are rebuilt",
        ("partition", "seq", "event_type"),
    ),
    LogEvent(
        "projection_batch_retried",
        _N,
        "Batch applied again after an error",
        _P,
        "Postgres goes away",
        ("partition", "error"),
    ),
    LogEvent("migration_applied", _I, "Database migration applied", _P, "a projector runs", ("migration",)),
    LogEvent(
        "rebuild_started", _I, "Rebuild of the read models started", _P, "the read models are rebuilt", ("schema",)
    ),
    LogEvent("rebuild_switched", _I, "Rebuilt read models are live", _P, "the read models are rebuilt", ("schema",)),
)

API_EVENTS = (
    LogEvent(
        "api_request_failed",
        _E,
        "Request ended with an internal error",
        _A,
        "a request breaks",
        ("method", "endpoint", "error"),
    ),
    LogEvent(
        "mutation_pending",
        _N,
        "Mutation has no outcome in time",
        _A,
        "no scheduler answers",
        ("command_id", "tenant_id"),
    ),
    LogEvent("subscription_opened", _D, "Subscription opened", _A, "the api is asked"),
    LogEvent("subscription_closed", _D, "Subscription closed", _A, "the api is asked", ("reason",)),
    LogEvent(
        "request_counts_unsaved",
        _N,
        "Counts of requests can't be written to Postgres; they are kept and written later",
        _A,
        "Postgres goes away",
        ("error",),
    ),
    LogEvent("tail_restarted", _N, "Tail of the events starts again after an error", _A, "Kafka goes away", ("error",)),
)

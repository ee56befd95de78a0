"""The table of metrics. Add a metric by adding one row; registration, checks and the reference page follow from it."""

from __future__ import annotations

from jobledger.telemetry.declarations import ALL_ROLES, Kind, Label, Metric, Overflow, Role

_LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
# A job may wait for workers, and run, for minutes or hours; 60 and 300 are the bounds of the service level objectives.
_LONG = (0.005, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0, 43200.0)
_BATCH = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0)

_SCHEDULER = Label("scheduler_id", from_instance=True)
_WORKER = (Label("worker_id", from_instance=True), Label("pool", from_instance=True))
_PARTITION = Label("partition", bound=1024, collapses=False)
_PRIORITY = Label("priority", values=("1", "2", "3", "4", "5"))
_QUEUE = Label("queue_name", bound=1000)
_POOL = Label("pool", bound=100)
_METHOD = Label("method", values=("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "WEBSOCKET"))
_AUTH_METHOD = Label("method", values=("none", "api_key", "jwt"))
_ENDPOINT = Label("endpoint", bound=200)
_ATTEMPT_STATUS = Label("status", values=("SUCCESS", "FAILED", "TIMEOUT", "CANCELLED"))
_EXECUTION_STATUS = Label("status", values=("SUCCESS", "FAILED", "TIMEOUT", "CANCELLED", "LOST"))

_S = (Role.SCHEDULER,)
_W = (Role.WORKER,)
_A = (Role.API,)
_P = (Role.PROJECTOR,)


def _counter(
    name: str, labels: tuple[Label, ...], owners: tuple[Role, ...], scenario: str, meaning: str, max_series: int = 0
) -> Metric:
    return Metric(name, Kind.COUNTER, labels, owners, scenario, meaning, max_series=max_series)


def _gauge(
    name: str,
    labels: tuple[Label, ...],
    owners: tuple[Role, ...],
    scenario: str,
    meaning: str,
    unit: str = "",
    max_series: int = 0,
    overflow: Overflow = Overflow.SUM,
) -> Metric:
    return Metric(
        name, Kind.GAUGE, labels, owners, scenario, meaning, unit=unit, max_series=max_series, overflow=overflow
    )


def _seconds(
    name: str,
    labels: tuple[Label, ...],
    owners: tuple[Role, ...],
    scenario: str,
    meaning: str,
    buckets: tuple[float, ...] = _LATENCY,
) -> Metric:
    return Metric(name, Kind.HISTOGRAM, labels, owners, scenario, meaning, unit="seconds", buckets=buckets)


SCHEDULER_METRICS = (
    _seconds(
        "scheduler_polling_duration_seconds",
        (_SCHEDULER,),
        _S,
        "a job runs",
        "Per batch of a partition owner: from reading `now` until due timers and waiting commands are collected.",
        _BATCH,
    ),
    _counter(
        "scheduler_jobs_polled_total",
        (_SCHEDULER,),
        _S,
        "a job runs",
        "Jobs or fires whose start time a batch found reached: submitted for now, timer due, back-off over.",
    ),
    _counter(
        "scheduler_jobs_dispatched_total",
        (_SCHEDULER, _PRIORITY),
        _S,
        "a job runs",
        "Assignments committed, first and repeated.",
    ),
    _seconds(
        "scheduler_dispatch_latency_seconds",
        (_SCHEDULER,),
        _S,
        "a job runs",
        "Commit of the assignment acknowledged, minus the latest of ready, slot free and limit open.",
    ),
    _gauge(
        "scheduler_is_leader",
        (_SCHEDULER,),
        _S,
        "a scheduler serves",
        "1 while the instance serves at least one partition (fenced and recovered), else 0.",
    ),
    _counter(
        "scheduler_leadership_transitions_total",
        (_SCHEDULER,),
        _S,
        "a scheduler serves",
        "Partitions gained plus partitions lost.",
    ),
    _gauge(
        "scheduler_heartbeat_timestamp",
        (_SCHEDULER,),
        _S,
        "a job runs",
        "Unix time of the last completed turn of the batch loop; idle turns count, at least one a second.",
        "seconds",
    ),
    _counter(
        "scheduler_db_connection_errors_total",
        (_SCHEDULER,),
        (Role.SCHEDULER, Role.PROJECTOR),
        "Postgres goes away",
        "Failed attempts to connect to Postgres and connections lost; always 0 in schedulers, which have none.",
    ),
    _counter(
        "scheduler_queue_connection_errors_total",
        (_SCHEDULER,),
        _S,
        "Kafka goes away",
        "Transport errors of the broker's clients, and transactions aborted for a reason of the broker.",
    ),
    _gauge(
        "scheduler_overdue_jobs_count",
        (_SCHEDULER,),
        _S,
        "a scheduler serves",
        "Jobs due more than 5 s ago whose timer is not processed yet, in this instance's partitions.",
    ),
    _gauge(
        "scheduler_scheduling_lag_seconds",
        (_SCHEDULER,),
        _S,
        "a scheduler serves",
        "Now minus the due time of the oldest such job; 0 if there is none.",
        "seconds",
    ),
)

JOB_METRICS = (
    _counter("jobs_dispatched_total", (), _S, "a job runs", "Executions whose first assignment is committed."),
    _counter(
        "executions_completed_total",
        (_EXECUTION_STATUS,),
        _S,
        "a job runs",
        "Executions that ended, once each, by how the last attempt ended.",
    ),
    _seconds(
        "scheduling_latency_seconds",
        (),
        _S,
        "a job runs",
        "From due to the first assignment committed, all waiting included except pause.",
        _LONG,
    ),
    _seconds(
        "execution_duration_seconds",
        (),
        _S,
        "a job runs",
        "From the start of the attempt that ended the execution to its end.",
        _LONG,
    ),
    _counter(
        "dispatch_failures_total",
        (),
        _S,
        "a worker is drained",
        "Assignments that ended without a start: refused by the worker, or its lease lost before the start.",
    ),
)

QUEUE_METRICS = (
    _gauge(
        "queue_depth",
        (_QUEUE, _PARTITION),
        _S,
        "a scheduler serves",
        "Ready tasks not assigned; `partition` is the partition of commands that owns the queue.",
        max_series=4096,
    ),
    _gauge(
        "queue_depth_by_priority",
        (_QUEUE, _PRIORITY),
        _S,
        "a scheduler serves",
        "Ready tasks not assigned.",
        max_series=5000,
    ),
    _counter("queue_messages_enqueued_total", (_QUEUE,), _S, "a job runs", "Tasks that became ready."),
    _counter("queue_messages_dequeued_total", (_QUEUE,), _S, "a job runs", "Assignments committed."),
    _counter(
        "queue_messages_acknowledged_total",
        (_QUEUE,),
        _S,
        "a job runs",
        "Assignments that ended with an accepted end report.",
    ),
    _counter(
        "queue_messages_rejected_total",
        (_QUEUE,),
        _S,
        "a worker is drained",
        "Assignments that ended otherwise: refused, lease lost, cancelled before the start.",
    ),
    _gauge(
        "queue_message_age_seconds",
        (_QUEUE,),
        _S,
        "a scheduler serves",
        "Now minus the ready time of the oldest ready task not assigned; 0 if the queue is empty.",
        "seconds",
        overflow=Overflow.MAX,
    ),
    _gauge(
        "queue_consumer_lag_messages",
        (_QUEUE, Label("consumer_group", bound=1)),
        _S,
        "a scheduler serves",
        "Records of the queue's partition of commands that its owner has not decided: last stable offset minus "
        "checkpoint. The group's committed offset is not the truth. No series while the end can't be read.",
        max_series=1000,
        overflow=Overflow.MAX,
    ),
    _gauge(
        "queue_partitions_healthy",
        (_QUEUE,),
        _S,
        "a scheduler serves",
        "Shards of the queue whose partition has a leader and min.insync.replicas in sync (commands, events, state, "
        "outcomes) and is served here. No series where nobody serves it, or while the cluster can't be asked.",
    ),
    _gauge(
        "queue_replication_lag_bytes",
        (_QUEUE,),
        _S,
        "a scheduler serves",
        "Size of the leader's log minus that of the smallest replica, the largest of commands, events and state of the "
        "queue's partition (DescribeLogDirs); 0 with one replica. `state` is compacted by each replica for itself, "
        "which shows here too. No series while any of the sizes can't be read.",
        "bytes",
        overflow=Overflow.MAX,
    ),
)

WORKER_METRICS = (
    _counter(
        "worker_tasks_received_total", _WORKER, _W, "a job runs", "Tasks taken from the inbox for this incarnation."
    ),
    _counter(
        "worker_tasks_completed_total", (*_WORKER, _ATTEMPT_STATUS), _W, "a job runs", "Attempts that ended here."
    ),
    _seconds(
        "worker_execution_duration_seconds",
        (*_WORKER, Label("job_type", bound=500)),
        _W,
        "a job runs",
        "Run time of the handler, by registered handler.",
        _LONG,
    ),
    _gauge("worker_concurrent_executions", _WORKER, _W, "a job runs", "Handlers running now."),
    _gauge("worker_max_concurrent_executions", _WORKER, _W, "a job runs", "Slots configured."),
    _gauge("worker_utilization_percent", _WORKER, _W, "a job runs", "Busy slots of all slots, 0 to 100.", "percent"),
    _gauge(
        "worker_heartbeat_timestamp",
        _WORKER,
        _W,
        "a job runs",
        "Unix time of the last acknowledged heartbeat.",
        "seconds",
    ),
    _gauge(
        "worker_last_task_completed_timestamp",
        _WORKER,
        _W,
        "a job runs",
        "Unix time when the last attempt ended.",
        "seconds",
    ),
    _counter(
        "worker_checkpoint_success_total",
        _WORKER,
        _W,
        "a handler logs",
        "Checkpoints of handlers that the log acknowledged.",
    ),
    _counter(
        "worker_checkpoint_failures_total",
        _WORKER,
        _W,
        "a checkpoint is refused",
        "Checkpoints of handlers that were refused or lost.",
    ),
    _gauge(
        "worker_cpu_usage_percent",
        _WORKER,
        _W,
        "a worker is started",
        "Processor time of the worker and the processes of its pool in the last 5 s; 100 is one processor.",
        "percent",
    ),
    _gauge(
        "worker_memory_usage_bytes",
        _WORKER,
        _W,
        "a worker is started",
        "Resident memory of the worker and the processes of its pool, added up; pages that they share count in each.",
        "bytes",
    ),
    _gauge(
        "worker_utilization",
        (_POOL,),
        _P,
        "a projector runs",
        "Busy slots of all slots of a pool, 0 to 1, by the read models; workers that are lost or draining don't count. "
        "Every projector says it: take the maximum.",
        overflow=Overflow.MAX,
    ),
)

API_METRICS = (
    _counter(
        "api_requests_total",
        (_METHOD, _ENDPOINT, Label("status_code", bound=40)),
        _A,
        "the api is asked",
        "Requests; one per root field for GraphQL (`/graphql:<field>`), with the outcome mapped to an HTTP status.",
        max_series=2000,
    ),
    _seconds(
        "api_request_duration_seconds",
        (_METHOD, _ENDPOINT),
        _A,
        "the api is asked",
        "From the request read to the answer made.",
    ),
    _counter(
        "api_rate_limit_exceeded_total",
        (Label("tenant_id", bound=100), _ENDPOINT),
        _A,
        "a caller is refused",
        "Requests, and operations of a WebSocket, refused because they were one too many for the tenant or the peer.",
        max_series=100,
    ),
    _counter(
        "api_auth_success_total",
        (_AUTH_METHOD,),
        _A,
        "the api is asked",
        "Requests and WebSockets whose caller is known; `none`: the api asks for no key.",
    ),
    _counter(
        "api_auth_failure_total",
        (_AUTH_METHOD, Label("reason", values=("missing", "malformed", "unknown"))),
        _A,
        "a caller is refused",
        "Requests and WebSockets refused for want of a key that the api accepts.",
    ),
    _gauge("jobledger_subscriptions", (), _A, "the api is asked", "Subscriptions open now."),
    _counter(
        "jobledger_subscription_events_total",
        (),
        _A,
        "the api is asked",
        "Events handed to subscribers, once for each that gets one.",
    ),
    _counter(
        "jobledger_subscriptions_dropped_total",
        (),
        _A,
        "a subscriber is slow",
        "Subscriptions that the api ended with a Resync: too slow, the log was lost, the process stops.",
    ),
    _seconds(
        "jobledger_outcome_wait_seconds",
        (),
        _A,
        "the api is asked",
        "From the sending of commands until all their outcomes are here, or the mutation's time is over.",
    ),
    _gauge(
        "jobledger_database_pool_connections",
        (Label("state", values=("used", "idle")),),
        _A,
        "the api is asked",
        "Connections of this process to Postgres.",
    ),
    _gauge(
        "jobledger_database_pool_waiting", (), _A, "the api is asked", "Queries that wait for a connection of the pool."
    ),
)

OWN_METRICS = (
    _counter(
        "jobledger_trace_spans_dropped_total",
        (Label("reason", values=("held",)),),
        _A,
        "too many traces wait",
        "Spans of requests that had to go before the end of their work was known, since too many waited.",
    ),
    _gauge(
        "jobledger_partition_served",
        (_PARTITION,),
        _S,
        "a scheduler serves",
        "1 while this instance serves the partition; else no series.",
    ),
    _gauge(
        "jobledger_outbox_gaps",
        (_PARTITION,),
        _S,
        "a partition misses commands",
        "Partitions whose commands for this one have a gap that lasts longer than 30 s.",
    ),
    _gauge(
        "jobledger_partitions_unserved",
        (),
        _S,
        "a scheduler serves",
        "Partitions of the cell that no scheduler at all has served for 10 s; every scheduler says it.",
    ),
    _counter(
        "jobledger_commands_decided_total",
        (Label("outcome", values=("ACCEPTED", "REJECTED", "DUPLICATE", "QUERY", "QUARANTINED")),),
        _S,
        "a job runs",
        "Commands decided and committed.",
    ),
    _seconds(
        "jobledger_transaction_seconds",
        (),
        _S,
        "a job runs",
        "From begin of an owner's transaction to the commit acknowledged.",
    ),
    Metric(
        "jobledger_batch_commands",
        Kind.HISTOGRAM,
        (),
        _S,
        "a job runs",
        "Commands decided in one transaction, timers and what follows on the partition among them.",
        unit="commands",
        buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
    ),
    _counter(
        "jobledger_jobs_due_total",
        (Label("outcome", values=("on_time", "late", "excluded")),),
        _S,
        "a job runs",
        "Jobs that came due, counted when they are first handed out: `on_time` within 60 s of it, else `late`. "
        "One that is cancelled before is `excluded`, or late if its 60 s were over.",
    ),
    _counter(
        "jobledger_jobs_completed_within_total",
        (Label("outcome", values=("within", "over", "excluded")),),
        _S,
        "a job runs",
        "Jobs that ended: `within` 5 min of the due time, else `over`. `excluded`: cancelled, expected to take "
        "longer, or a further run of a dead letter.",
    ),
    _counter(
        "jobledger_dead_letters_total",
        (_QUEUE,),
        _S,
        "a handler fails",
        "Jobs given up after their last attempt, by the job's queue.",
    ),
    _counter(
        "jobledger_stale_reports_total",
        (),
        _S,
        "a command is refused",
        "Reports, releases and withdrawals rejected for an assignment that is over (STALE_ASSIGNMENT).",
    ),
    _counter(
        "jobledger_timers_late_total",
        (),
        _S,
        "a timer fires late",
        "Timers (start times, back-offs, limits of attempts) that fired more than 1 s after they were due.",
    ),
    _seconds(
        "jobledger_takeover_seconds",
        (),
        _S,
        "a scheduler serves",
        "From the start of the opening of a partition (fence, read, check) until it is served.",
        (*_LATENCY, 300.0),
    ),
    _counter(
        "jobledger_loop_stalls_total",
        (),
        ALL_ROLES,
        "a loop stalls",
        "Times that the event loop of the process came back more than 250 ms late to who had waited for it.",
    ),
    _counter(
        "jobledger_command_records_total",
        (),
        _S,
        "a scheduler serves",
        "Records of commands that the group has brought.",
    ),
    _seconds(
        "jobledger_rebalance_seconds",
        (),
        _S,
        "a scheduler serves",
        "From the start of a rebalance until records come in again.",
    ),
    _counter(
        "jobledger_owner_reopened_total",
        (Label("reason", values=("fenced", "clock", "log", "refused", "decide")),),
        _S,
        "Kafka goes away",
        "Times that an owner forgot its memory and read its state again.",
    ),
    _gauge(
        "jobledger_clock_skew_seconds",
        (),
        _S,
        "a job runs",
        "By how much this clock is surely ahead of the broker's; negative: behind. Beyond "
        "`JOBLEDGER_MAX_CLOCK_SKEW_SECONDS` nothing is decided here.",
        "seconds",
        overflow=Overflow.MAX,
    ),
    _gauge(
        "jobledger_partition_time_ahead_seconds",
        (_PARTITION,),
        _S,
        "the clock is wrong",
        "By how much the partition's time is ahead of the clock, when that is more than clocks may differ: a clock "
        "that was wrong has written it.",
        "seconds",
    ),
    _counter(
        "jobledger_quarantined_total",
        (),
        _S,
        "a record is broken",
        "Records and commands put aside because they can't be read or decided.",
    ),
    _counter(
        "jobledger_jobs_submitted_total", (), _S, "a job runs", "Jobs accepted, repeated submissions not counted."
    ),
    _gauge(
        "jobledger_projection_lag_events",
        (_PARTITION,),
        _P,
        "a projector runs",
        "Events committed to the log and not yet applied to the read models.",
    ),
    _gauge(
        "jobledger_projection_lag_seconds",
        (_PARTITION,),
        _P,
        "a projector runs",
        "Age of the oldest event not yet applied; 0 if all are.",
        "seconds",
    ),
    _gauge("jobledger_projection_position", (_PARTITION,), _P, "a projector runs", "`seq` of the last event applied."),
    _gauge(
        "jobledger_projection_set_aside_events",
        (_PARTITION,),
        _P,
        "a projector runs",
        "Events that change no row, since the stream of a job that had ended began a second time (table `set_aside`).",
    ),
    _counter("jobledger_projected_events_total", (), _P, "a projector runs", "Events applied to the read models."),
    _gauge(
        "jobledger_overdue_jobs",
        (),
        _P,
        "a projector runs",
        "Jobs due more than 5 s ago that are not ready yet, by the read models, so also when no scheduler lives; of "
        "the whole cell: every projector says it, take the maximum.",
    ),
    _gauge(
        "jobledger_workers_registered",
        (_POOL,),
        _P,
        "a projector runs",
        "Workers that live and don't drain, and those lost in the last hour that have not come back, by the read "
        "models. Every projector says it: take the maximum.",
    ),
    _gauge(
        "jobledger_workers_healthy",
        (_POOL,),
        _P,
        "a projector runs",
        "Those of `jobledger_workers_registered` whose lease is valid.",
    ),
    _gauge(
        "jobledger_database_connections",
        (),
        _P,
        "a projector runs",
        "Connections of clients that Postgres has (pg_stat_activity), looked at every 10 s over a connection made at "
        "the start. No series while it can't be looked at.",
    ),
    _gauge(
        "jobledger_database_connections_limit",
        (),
        _P,
        "a projector runs",
        "max_connections minus those reserved for superusers and pg_use_reserved_connections.",
    ),
    _gauge(
        "jobledger_build_info",
        (Label("version", bound=4), Label("role", values=tuple(ALL_ROLES))),
        ALL_ROLES,
        "a process starts and ends",
        "Always 1; the labels say what runs.",
    ),
)

-- The read models: a pure fold of the events, cut by partition. Times are milliseconds since the epoch.
-- Rows of a job come from the job's own stream only, rows of a queue from the queue's only, so that the
-- projectors of two partitions never write the same row. Ids compare bytewise: COLLATE "C".

CREATE TABLE positions (
    partition integer PRIMARY KEY,
    seq bigint NOT NULL DEFAULT 0,
    next_offset bigint NOT NULL DEFAULT 0,
    last_event_at_ms bigint NOT NULL DEFAULT 0,
    updated_at_ms bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

CREATE TABLE events (
    partition integer NOT NULL,
    seq bigint NOT NULL,
    stream text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    type text COLLATE "C" NOT NULL,
    at_ms bigint NOT NULL,
    command_id text COLLATE "C" NOT NULL,
    actor_kind text COLLATE "C" NOT NULL,
    data text NOT NULL, -- the record as it stands in Kafka: JSON text, which may hold what jsonb refuses
    PRIMARY KEY (partition, seq)
);
CREATE INDEX events_by_stream ON events (stream, version);
-- Only people look for what became of their command; workers and the scheduler cause most events.
CREATE INDEX events_by_command ON events (command_id) WHERE actor_kind = 'user';

CREATE TABLE jobs (
    tenant text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    handler text COLLATE "C" NOT NULL,
    queue text COLLATE "C" NOT NULL,
    priority smallint NOT NULL,
    status text COLLATE "C" NOT NULL,
    attempt integer NOT NULL,
    assignment integer NOT NULL,
    retry text NOT NULL,
    timeout_seconds double precision,
    submitted_at_ms bigint NOT NULL,
    due_at_ms bigint NOT NULL,
    ready_at_ms bigint,
    started_at_ms bigint,
    ended_at_ms bigint,
    retry_at_ms bigint,
    cancel_requested_at_ms bigint,
    worker text COLLATE "C",
    payload text NOT NULL,
    payload_encoding text NOT NULL,
    result text,
    result_encoding text,
    error_type text,
    error text,
    error_encoding text,
    cancel_reason text,
    cancel_reason_encoding text,
    checkpoint text,
    checkpoint_encoding text,
    checkpoint_at_ms bigint,
    dead_letter_cause text,
    tags jsonb NOT NULL,
    parent text COLLATE "C",
    root text COLLATE "C",
    retry_of text COLLATE "C",
    schedule text COLLATE "C",
    fire_at_ms bigint,
    workflow text COLLATE "C",
    workflow_version integer,
    key_digest text COLLATE "C",
    request_digest text COLLATE "C",
    command_id text COLLATE "C" NOT NULL,
    actor_kind text COLLATE "C" NOT NULL,
    actor_id text NOT NULL,
    correlation_id text,
    traceparent text,
    version bigint NOT NULL,
    partition integer NOT NULL,
    seq bigint NOT NULL,
    updated_at_ms bigint NOT NULL,
    PRIMARY KEY (tenant, id)
) WITH (fillfactor = 80);
CREATE INDEX jobs_by_submission ON jobs (tenant, submitted_at_ms, id);
-- Each change of a row writes to every index, so the rest hold only what is rare or asked for by name.
CREATE INDEX jobs_unfinished ON jobs (tenant, status, submitted_at_ms, id) WHERE status <> 'SUCCEEDED';
CREATE INDEX jobs_dead_lettered ON jobs (tenant, ended_at_ms, id) WHERE status = 'DEAD_LETTERED';
CREATE INDEX jobs_waiting_for_due ON jobs (due_at_ms) WHERE status = 'SCHEDULED';
CREATE INDEX jobs_by_key ON jobs (tenant, key_digest) WHERE key_digest IS NOT NULL;
CREATE INDEX jobs_by_tag ON jobs USING gin (tags jsonb_path_ops) WHERE tags <> '{}';
CREATE INDEX jobs_by_parent ON jobs (tenant, parent) WHERE parent IS NOT NULL;

CREATE TABLE attempts (
    tenant text COLLATE "C" NOT NULL,
    job_id text COLLATE "C" NOT NULL,
    task text COLLATE "C" NOT NULL,
    assignment integer NOT NULL,
    execution_id text COLLATE "C" NOT NULL,
    attempt integer NOT NULL,
    cause text NOT NULL,
    ready_at_ms bigint NOT NULL,
    worker text COLLATE "C",
    incarnation text COLLATE "C",
    assigned_at_ms bigint,
    started_at_ms bigint,
    ended_at_ms bigint,
    outcome text,
    error_type text,
    error text,
    error_encoding text,
    reason text,
    retry_at_ms bigint,
    PRIMARY KEY (tenant, job_id, task, assignment)
) WITH (fillfactor = 80);

CREATE TABLE queues (
    tenant text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    description text NOT NULL,
    max_waiting_bytes bigint NOT NULL,
    created_at_ms bigint NOT NULL,
    updated_at_ms bigint NOT NULL,
    enqueued bigint NOT NULL,
    assigned bigint NOT NULL,
    released bigint NOT NULL,
    withdrawn bigint NOT NULL,
    waiting bigint NOT NULL,
    waiting_bytes bigint NOT NULL,
    held bigint NOT NULL,
    version bigint NOT NULL,
    partition integer NOT NULL,
    seq bigint NOT NULL,
    PRIMARY KEY (tenant, name)
) WITH (fillfactor = 50);

-- What waits in a queue now; a row goes when the task is handed out or withdrawn.
CREATE TABLE waiting_tasks (
    tenant text COLLATE "C" NOT NULL,
    queue text COLLATE "C" NOT NULL,
    job text COLLATE "C" NOT NULL,
    task text COLLATE "C" NOT NULL,
    assignment integer NOT NULL,
    priority smallint NOT NULL,
    handler text COLLATE "C" NOT NULL,
    bytes bigint NOT NULL,
    ready_at_ms bigint NOT NULL,
    PRIMARY KEY (tenant, queue, job, task)
);

CREATE TABLE workers (
    tenant text COLLATE "C" NOT NULL,
    queue text COLLATE "C" NOT NULL,
    incarnation text COLLATE "C" NOT NULL,
    worker text COLLATE "C" NOT NULL,
    pool text COLLATE "C" NOT NULL,
    credits integer NOT NULL,
    handlers jsonb NOT NULL,
    held bigint NOT NULL,
    lost boolean NOT NULL,
    registered_at_ms bigint NOT NULL,
    lost_at_ms bigint,
    PRIMARY KEY (tenant, queue, incarnation)
) WITH (fillfactor = 50);

CREATE VIEW dead_letters AS
    SELECT tenant, id, handler, queue, attempt, dead_letter_cause AS cause, error_type, error, ended_at_ms
    FROM jobs WHERE status = 'DEAD_LETTERED';

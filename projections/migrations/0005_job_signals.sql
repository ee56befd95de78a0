-- additive: a projector of the release before goes on beside it.
-- What happened to jobs, by minute and by hour of the events: service levels and golden signals.
CREATE TABLE job_signals (
    partition integer NOT NULL,
    span_seconds integer NOT NULL,
    start_ms bigint NOT NULL,
    due_on_time bigint NOT NULL,
    due_late bigint NOT NULL,
    due_excluded bigint NOT NULL,
    completed_within bigint NOT NULL,
    completed_over bigint NOT NULL,
    completed_excluded bigint NOT NULL,
    ended_success bigint NOT NULL,
    ended_failed bigint NOT NULL,
    ended_timeout bigint NOT NULL,
    ended_cancelled bigint NOT NULL,
    ended_lost bigint NOT NULL,
    latency_5ms bigint NOT NULL,
    latency_25ms bigint NOT NULL,
    latency_50ms bigint NOT NULL,
    latency_100ms bigint NOT NULL,
    latency_250ms bigint NOT NULL,
    latency_500ms bigint NOT NULL,
    latency_1s bigint NOT NULL,
    latency_2500ms bigint NOT NULL,
    latency_5s bigint NOT NULL,
    latency_10s bigint NOT NULL,
    latency_30s bigint NOT NULL,
    latency_60s bigint NOT NULL,
    latency_5min bigint NOT NULL,
    latency_30min bigint NOT NULL,
    latency_2h bigint NOT NULL,
    latency_12h bigint NOT NULL,
    latency_longer bigint NOT NULL,
    PRIMARY KEY (partition, span_seconds, start_ms)
) WITH (fillfactor = 50);

ALTER TABLE jobs ADD COLUMN expected_duration_seconds double precision;

-- Events are counted from the migration on; a release that does not count leaves `counted_seq` behind `seq`, and what it
-- has applied is missing: spans that begin up to `counted_since_ms` are not whole. A rebuild counts all events.
ALTER TABLE positions ADD COLUMN counted_seq bigint NOT NULL DEFAULT 0;
ALTER TABLE positions ADD COLUMN counted_since_ms bigint NOT NULL DEFAULT 0;

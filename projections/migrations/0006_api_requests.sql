-- additive: a projector of the release before goes on beside it.
-- What apis have answered, by minute and by hour of their clocks. Apis write it; it is no fold of events, and a rebuild
-- takes it along as it is.
CREATE TABLE api_requests (
    api text COLLATE "C" NOT NULL,
    span_seconds integer NOT NULL,
    start_ms bigint NOT NULL,
    total bigint NOT NULL,
    failed bigint NOT NULL,
    PRIMARY KEY (api, span_seconds, start_ms)
) WITH (fillfactor = 50);

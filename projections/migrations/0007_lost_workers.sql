-- additive
-- Worker incarnations whose lease ran out in the last hour: `workers` forgets them once they hold no task any more, but
-- a pool that has died is to be seen. No read model: what is older is deleted.
CREATE TABLE lost_workers (
    tenant text COLLATE "C" NOT NULL,
    queue text COLLATE "C" NOT NULL,
    incarnation text COLLATE "C" NOT NULL,
    worker text COLLATE "C" NOT NULL,
    pool text COLLATE "C" NOT NULL,
    lost_at_ms bigint NOT NULL,
    PRIMARY KEY (tenant, queue, incarnation)
);

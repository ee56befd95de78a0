-- A dead-lettered job can be run again; `run` counts.
ALTER TABLE jobs ADD COLUMN run integer NOT NULL DEFAULT 1;
-- An error is the attempt's; a job has one only when it was given up.
UPDATE jobs SET error_type = NULL, error = NULL, error_encoding = NULL
    WHERE error IS NOT NULL AND status <> 'DEAD_LETTERED';

-- Events of a job that had ended when its stream began anew: they stand in `events`, and change no other row.
CREATE TABLE set_aside (
    partition integer NOT NULL,
    seq bigint NOT NULL,
    stream text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    type text COLLATE "C" NOT NULL,
    at_ms bigint NOT NULL,
    reason text NOT NULL,
    PRIMARY KEY (partition, seq)
);

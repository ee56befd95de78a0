-- The broker's id of the topic that a position counts in: one of another topic of that name means nothing.
ALTER TABLE positions ADD COLUMN topic_id text COLLATE "C" NOT NULL DEFAULT '';

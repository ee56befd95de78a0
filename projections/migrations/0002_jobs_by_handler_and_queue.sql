-- Filters by handler or queue that match little would read all jobs of a tenant by submission.
CREATE INDEX jobs_by_handler ON jobs (tenant, handler, submitted_at_ms, id);
CREATE INDEX jobs_by_queue ON jobs (tenant, queue, submitted_at_ms, id);

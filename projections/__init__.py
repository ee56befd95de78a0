"""Read models: consumers that fold the events into Postgres, and the queries that read them."""

"""The embedded stack: a real Kafka broker, a real Postgres and the supervisor behind `jobledger dev`."""

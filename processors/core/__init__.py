"""The batch loop, owner, timers and outbox of a partition, without Faust and without Kafka clients."""

"""Kafka clients of Jobledger and the checks on its topics."""

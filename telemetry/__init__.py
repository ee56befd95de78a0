"""Metrics, logs, traces and health of every role; imports nothing else of Jobledger."""

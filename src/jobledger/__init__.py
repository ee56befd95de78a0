"""Jobledger: a distributed job scheduler whose only truth is a log."""

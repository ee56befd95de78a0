"""Replaying the log: whether everything that is kept beside it is what it says."""

"""The asynchronous inline client."""

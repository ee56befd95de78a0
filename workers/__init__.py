"""What runs handlers: the handler API, the worker, the inline mode for tests, and the Python client."""

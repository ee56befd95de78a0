"""What runs handlers: the handler API and the worker."""

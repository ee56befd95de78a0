# Written by scripts/sync-client from client/asynchronous/__init__.py: change that, and run it again.
"""The synchronous client."""

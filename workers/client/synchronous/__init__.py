# Written by scripts/sync-client from workers/client/asynchronous/__init__.py: change that, and run it again.
"""The synchronous client."""

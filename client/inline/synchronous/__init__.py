# Written by scripts/sync-client from client/inline/asynchronous/__init__.py: change that, and run it again.
"""The synchronous inline client."""

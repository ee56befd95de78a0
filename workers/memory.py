"""What a worker has had already."""

from __future__ import annotations

from cachetools import FIFOCache

Key = tuple[str, str, int]
MAX_KEYS = 100_000


class RecentKeys:
    """The last 100,000 keys of tasks; a repeat comes within seconds of the first, after a resend of an outbox."""

    def __init__(self, limit: int = MAX_KEYS) -> None:
        self._keys: FIFOCache[Key, None] = FIFOCache(limit)

    def add(self, key: Key) -> bool:
        """Take in a key; False when it is known."""
        if key in self._keys:
            return False
        self._keys[key] = None
        return True

    def clear(self) -> None:
        """Forget all: a new incarnation has had nothing."""
        self._keys.clear()

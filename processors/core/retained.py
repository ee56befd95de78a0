"""Stubs and idempotency keys of a partition, kept off the heap until they expire.

They grow with the rate times the deduplication window, not with live jobs, so they live in a private
SQLite database: a cache of the `state` topic, thrown away with its owner, never synced.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

#: Memory for pages of the file, in KiB: while a takeover fills it, and afterwards.
LOADING_KIB = 16_384
SERVING_KIB = 4_096


class Retained:
    """Key to value bytes with an expiry time in ms (0: none yet)."""

    def __init__(self, path: str = "") -> None:
        """An empty store; `path` "" is a temporary file that the operating system removes."""
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        #: Nothing expires before; None: nothing at all.
        self._first_ms: int | None = None
        for pragma in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{LOADING_KIB}", "locking_mode=EXCLUSIVE"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.execute("CREATE TABLE kept (key BLOB PRIMARY KEY, value BLOB, expires INTEGER) WITHOUT ROWID")
        self._db.execute("CREATE INDEX kept_expires ON kept (expires) WHERE expires > 0")

    def loaded(self) -> None:
        """The many rows of a takeover are in: from now on less memory will do."""
        self._db.execute(f"PRAGMA cache_size=-{SERVING_KIB}")
        self._db.execute("PRAGMA shrink_memory")

    def get(self, key: bytes) -> bytes | None:
        """The value of a key."""
        row = self._db.execute("SELECT value FROM kept WHERE key = ?", (key,)).fetchone()
        return None if row is None else row[0]

    def put_many(self, rows: Sequence[tuple[bytes, bytes, int]]) -> None:
        """Set (key, value, expires_at_ms) rows."""
        first_ms = min((expires for _, _, expires in rows if expires > 0), default=None)
        if first_ms is not None and (self._first_ms is None or first_ms < self._first_ms):
            self._first_ms = first_ms
        self._db.execute("BEGIN")
        self._db.executemany("INSERT OR REPLACE INTO kept VALUES (?, ?, ?)", rows)
        self._db.execute("COMMIT")

    def expired(self, now_ms: int, limit: int) -> list[bytes]:
        """Up to `limit` keys whose time has passed."""
        if self._first_ms is None or now_ms < self._first_ms:
            return []
        rows = self._db.execute("SELECT key FROM kept WHERE expires > 0 AND expires <= ? LIMIT ?", (now_ms, limit))
        keys = [row[0] for row in rows]
        if not keys:
            (self._first_ms,) = self._db.execute("SELECT min(expires) FROM kept WHERE expires > 0").fetchone()
        return keys

    def remove_many(self, keys: Iterable[bytes]) -> None:
        """Forget keys."""
        self._db.executemany("DELETE FROM kept WHERE key = ?", ((key,) for key in keys))

    def items(self) -> Iterable[tuple[bytes, bytes]]:
        """Every (key, value)."""
        return self._db.execute("SELECT key, value FROM kept")

    def close(self) -> None:
        """Drop everything."""
        self._db.close()

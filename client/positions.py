"""How far a client has seen the log, so that what it reads is never older."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from jobledger.eventlog.positions import InvalidPositionError, Vector, encode_position, parse_position


class Positions:
    """The highest position that came in any answer, for each partition. May be shared by threads."""

    def __init__(self) -> None:
        self._cell = ""
        self._vector: Vector = {}
        self._lock = threading.Lock()

    def note(self, token: str | None) -> None:
        """Take in a position of an answer. One of another cell takes the place of all: that one answers now."""
        if not token:
            return
        try:
            cell, vector = parse_position(token)
        except InvalidPositionError:
            return  # of an API that writes them otherwise; its answers are then as old as it likes
        if not vector:
            return
        with self._lock:
            if cell != self._cell:
                self._cell, self._vector = cell, {}
            for partition, seq in vector.items():
                if seq > self._vector.get(partition, 0):
                    self._vector[partition] = seq

    def to_read(self, token: str | None = None) -> str | None:
        """The position to read at: what was seen and `token` too; None as long as nothing was seen."""
        self.note(token)
        with self._lock:
            return encode_position(self._cell, self._vector) if self._vector else token


def earliest(tokens: Iterable[str]) -> str | None:
    """The position of the first token, and of later ones for the partitions that are not in it."""
    cell, vector = "", Vector()
    for token in tokens:
        cell, one = parse_position(token)
        vector = {**one, **vector}
    return encode_position(cell, vector) if cell else None

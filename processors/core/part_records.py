"""The records of one part of a stream, which rest as they stand in `state` and are read when they are wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from typing import TypeVar

_Record = TypeVar("_Record")
#: Stands for a record that the batch has just made; its bytes follow when the batch is written.
_UNWRITTEN = b""


class UntoldChangeError(RuntimeError):
    """A kind has changed a record of a part without its `changed` naming it."""


class PartRecords(MutableMapping[str, _Record]):
    """Records by key. One that was read or set stays an object until `close`, so that a batch sees what it changed.

    The part's `changed` tells the batch which keys an event has touched. A change in place that it does not tell of is
    gone after `close`; a record that was set or deleted without its telling would be another one after a takeover, and
    `close` does not take that.
    """

    __slots__ = ("_decode", "_gone", "_open", "_replaced", "_resting")

    def __init__(self, decode: Callable[[bytes], _Record], resting: dict[str, bytes] | None = None) -> None:
        """`resting` is taken over: the values of `state` by key."""
        self._decode = decode
        self._resting = {} if resting is None else resting
        self._open: dict[str, _Record] = {}
        #: Stored ones that were deleted, and that were set anew, until the batch is written.
        self._gone: set[str] = set()
        self._replaced: set[str] = set()

    def __getitem__(self, key: str) -> _Record:
        record = self._open.get(key)
        if record is None:
            record = self._open[key] = self._decode(self._resting[key])
        return record

    def __setitem__(self, key: str, record: _Record) -> None:
        if self._resting.get(key) or key in self._gone:
            self._replaced.add(key)
            self._gone.discard(key)
        self._resting[key] = _UNWRITTEN
        self._open[key] = record

    def __delitem__(self, key: str) -> None:
        if self._resting.pop(key) or key in self._replaced:
            self._gone.add(key)
            self._replaced.discard(key)
        self._open.pop(key, None)

    def __contains__(self, key: object) -> bool:
        return key in self._resting

    def __iter__(self) -> Iterator[str]:
        return iter(self._resting)

    def __len__(self) -> int:
        return len(self._resting)

    def rest(self, key: str, data: bytes | None) -> None:
        """The record stands in `state` as `data` from now on, None: it is deleted there."""
        if data is None:
            self._gone.discard(key)
        else:
            self._replaced.discard(key)
            self._resting[key] = data

    def close(self) -> None:
        """Let go of what was read. Raises UntoldChangeError for a record that was set or deleted, and does not rest."""
        untold = self._gone.union(key for key in self._open if self._resting[key] is _UNWRITTEN)
        if untold:
            raise UntoldChangeError(f"No event told of records {', '.join(sorted(untold))[:200]}.")
        self._open.clear()

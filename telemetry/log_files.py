"""Reads the log files of several processes as one stream, oldest line first, in constant memory."""

from __future__ import annotations

import heapq
import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import orjson

Line = dict[str, Any]
SUFFIX = ".jsonl"


def read_line(data: bytes) -> Line | None:
    """A log line; None for what is none: what a process wrote to standard error, a line that was cut."""
    if not data.startswith(b"{"):
        return None
    try:
        line = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return line if isinstance(line, dict) and isinstance(line.get("timestamp"), str) else None


class _LogFile:
    """The lines of one process: those that it has put aside as `.1` when the file was full, then those of the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rest = b""
        parts = (path.with_name(f"{path.name}.1"), path)
        self._files: deque[BinaryIO] = deque(part.open("rb") for part in parts if part.exists())

    def new(self) -> Iterator[Line]:
        """The whole lines from where this was left to the end as it is now."""
        while self._files:
            yield from self._to_the_end(self._files[0])
            if len(self._files) > 1:
                self._files.popleft().close()
            elif self._began_anew():
                self._files.append(self._path.open("rb"))  # the old one is read once more before it
            else:
                return

    def _to_the_end(self, file: BinaryIO) -> Iterator[Line]:
        while data := file.readline():
            self._rest += data
            if not self._rest.endswith(b"\n"):
                return  # is still being written, or goes on in the next file
            line, self._rest = read_line(self._rest), b""
            if line is not None:
                yield line

    def _began_anew(self) -> bool:
        try:
            return self._path.stat().st_ino != os.fstat(self._files[0].fileno()).st_ino
        except FileNotFoundError:
            return False

    def close(self) -> None:
        for file in self._files:
            file.close()


class LogReader:
    """The lines of all files `<instance>.jsonl` of a directory; also of those that appear later."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: dict[Path, _LogFile] = {}

    def new(self) -> Iterator[Line]:
        """The lines since the last call, at first all, merged by time; those of one file in the order of the file."""
        for path in sorted(self._directory.glob(f"*{SUFFIX}")):
            if path not in self._files:
                self._files[path] = _LogFile(path)
        return heapq.merge(*(file.new() for file in self._files.values()), key=lambda line: line["timestamp"])

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()

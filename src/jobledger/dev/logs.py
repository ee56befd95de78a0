"""Log files of the stack: one older file is kept, so the space is bounded."""

from __future__ import annotations

from pathlib import Path


def rotate(path: Path, max_bytes: int) -> None:
    """Puts a non-empty log aside as `<name>.1` (the former `.1` goes); an oversized one keeps its last `max_bytes`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.stat().st_size == 0:
        return
    older = path.with_name(path.name + ".1")
    path.replace(older)
    size = older.stat().st_size
    if size > max_bytes:
        with older.open("rb") as log:
            log.seek(size - max_bytes)
            kept = log.read()
        older.write_bytes(kept)


class BoundedLog:
    """A log file that starts anew, with the former one kept as `.1`, whenever it would exceed `max_bytes`."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        rotate(path, max_bytes)
        self._file = path.open("ab", buffering=0)
        self._size = 0

    def write(self, data: bytes) -> None:
        """Appends the bytes at once."""
        if self._size and self._size + len(data) > self._max_bytes:
            self._file.close()
            rotate(self._path, self._max_bytes)
            self._file = self._path.open("ab", buffering=0)
            self._size = 0
        self._file.write(data)
        self._size += len(data)

    def close(self) -> None:
        """Closes the file; nothing more may be written."""
        self._file.close()

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

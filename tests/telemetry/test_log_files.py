"""Log files of several processes, read as one stream."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from jobledger.dev.logs import BoundedLog
from jobledger.telemetry.log_files import LogReader


def line(second: int, name: str) -> bytes:
    return orjson.dumps({"timestamp": f"2024-01-15T10:00:{second:02d}.000Z", "event": name}) + b"\n"


def events(reader: LogReader) -> list[str]:
    return [one["event"] for one in reader.new()]


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[LogReader]:
    one = LogReader(tmp_path)
    yield one
    one.close()


def test_lines_of_all_files_come_in_the_order_of_their_time(tmp_path: Path, reader: LogReader) -> None:
    (tmp_path / "a.jsonl").write_bytes(line(1, "a1") + line(4, "a4") + line(5, "a5"))
    (tmp_path / "b.jsonl").write_bytes(line(2, "b2") + b"Traceback (most recent call last):\n{broken\n" + line(3, "b3"))
    (tmp_path / "broker.log").write_bytes(line(1, "no"))
    assert events(reader) == ["a1", "b2", "b3", "a4", "a5"]


def test_what_is_written_later_is_read_once_also_in_files_that_begin_anew(tmp_path: Path, reader: LogReader) -> None:
    """As `jobledger dev` writes them: a bounded file with an older one beside it, filled by chunks that split lines."""
    log = BoundedLog(tmp_path / "a.jsonl", 150)
    assert events(reader) == []
    seen = []
    written = b"".join(line(n % 60, str(n)) for n in range(60))
    for start in range(0, len(written), 37):
        log.write(written[start : start + 37])
        seen += events(reader)
    assert seen == [str(n) for n in range(60)]
    (tmp_path / "b.jsonl").write_bytes(line(1, "new")[:-1])
    assert events(reader) == []
    with (tmp_path / "b.jsonl").open("ab") as file:
        file.write(b"\n")
    assert events(reader) == ["new"]
    log.close()


def test_the_older_part_comes_before_the_file(tmp_path: Path, reader: LogReader) -> None:
    (tmp_path / "a.jsonl.1").write_bytes(b'cut"}\n' + line(1, "old") + line(2, "split")[:20])
    (tmp_path / "a.jsonl").write_bytes(line(2, "split")[20:] + line(3, "young"))
    assert events(reader) == ["old", "split", "young"]

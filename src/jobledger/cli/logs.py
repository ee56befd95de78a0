"""`jobledger logs`: asks the log files of `jobledger dev`, or of any directory of log files."""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobledger.cli.exits import CliError, Exit
from jobledger.cli.output import print_json, print_line, say
from jobledger.workers.durations import seconds_of

if TYPE_CHECKING:
    from jobledger.telemetry.log_files import Line, LogReader
    from jobledger.telemetry.log_query import Query

POLL_SECONDS = 0.2
MAX_LIMIT = 100_000
#: Lines that may stand out of order in the files and still come in order.
WINDOW_LINES = 1_000
DEFAULT_DIRECTORY = Path(".jobledger/logs")


class LogFormat(StrEnum):
    """What `--output` takes."""

    TEXT = "text"
    JSON = "json"


def logs(
    query: Annotated[
        str,
        typer.Argument(help="Lucene: 'level:ERROR AND event:task_failed', 'execution_id:\"x\"'; without: all lines."),
    ] = "",
    *,
    directory: Annotated[Path, typer.Option("--dir", help="Directory of <instance>.jsonl files.")] = DEFAULT_DIRECTORY,
    since: Annotated[str | None, typer.Option(help="Only lines of this long until now: 90s, 15m, 1h, 2d.")] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            "-n",
            min=1,
            max=MAX_LIMIT,
            help=f"At most so many, the newest ({MAX_LIMIT} with `sort -@timestamp`).",
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with lines as they come, until Ctrl-C.")
    ] = False,
    output: Annotated[LogFormat, typer.Option("--output", "-o", help="text for people, json: an object a line.")] = (
        LogFormat.TEXT
    ),
) -> int:
    """Find log lines by their fields, the oldest first."""
    from jobledger.telemetry.log_files import LogReader  # noqa: PLC0415

    wanted = _read_query(query)
    if follow and wanted.newest_first:
        raise CliError("--follow shows lines as they come: leave out `sort -@timestamp`.")
    if not directory.is_dir():
        raise CliError(f"There is no directory {directory}: name one with --dir, or start `jobledger dev`.")
    oldest = "" if since is None else _time_ago(since)
    reader = LogReader(directory)
    try:
        found = 0
        for line in _chosen(reader, wanted, oldest, limit):
            _print(line, output)
            found += 1
        while follow:
            for line in _matching(reader, wanted, oldest):
                _print(line, output)
            time.sleep(POLL_SECONDS)
    finally:
        reader.close()
    if not found:
        say(f"No line in {directory} is like that.")
    return Exit.OK


def _read_query(text: str) -> Query:
    from jobledger.telemetry.log_query import QueryError, read_query  # noqa: PLC0415

    try:
        return read_query(text, time.time())
    except QueryError as error:
        raise CliError(str(error)) from error


def _time_ago(length: str) -> str:
    from jobledger.telemetry.log_line import timestamp  # noqa: PLC0415

    try:
        return timestamp(int((time.time() - seconds_of(length)) * 1000))
    except ValueError as error:
        raise CliError(f"--since: {error}") from error


def _matching(reader: LogReader, wanted: Query, oldest: str) -> Iterator[Line]:
    return (line for line in reader.new() if line["timestamp"] >= oldest and wanted.matches(line))


def _chosen(reader: LogReader, wanted: Query, oldest: str, limit: int | None) -> Iterator[Line]:
    """What is there already, the oldest first unless the query says otherwise."""
    lines = _matching(reader, wanted, oldest)
    if wanted.newest_first:
        return iter(heapq.nlargest(limit or MAX_LIMIT, lines, key=_when))
    if limit is not None:
        return iter(sorted(deque(lines, limit), key=_when))
    return _in_order(lines)


def _in_order(lines: Iterator[Line]) -> Iterator[Line]:
    """Puts right what threads and processes that share a file have written a little too late."""
    waiting: list[tuple[str, int, Line]] = []
    for number, line in enumerate(lines):
        heapq.heappush(waiting, (_when(line), number, line))
        if len(waiting) > WINDOW_LINES:
            yield heapq.heappop(waiting)[2]
    while waiting:
        yield heapq.heappop(waiting)[2]


def _when(line: Line) -> str:
    return str(line["timestamp"])


def _print(line: dict[str, Any], output: LogFormat) -> None:
    if output is LogFormat.JSON:
        print_json(line, one_line=True)
        return
    context = line.get("context") or {}
    shown = " ".join(f"{name}={_value(value)}" for name, value in context.items() if value is not None)
    head = f"{line['timestamp']} {line.get('level', ''):5} {line.get('instance_id', '')} {line.get('event', '')}"
    print_line(f"{head}: {_value(line.get('message', ''))} {shown}".rstrip())


def _value(value: object) -> str:
    text = value if isinstance(value, str) else str(value)
    return " ".join(text.split())


def register(app: typer.Typer) -> None:
    """Add `logs` to the program."""
    app.command(rich_help_panel="Operations")(logs)

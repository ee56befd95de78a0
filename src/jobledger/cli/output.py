"""How answers are shown: tables for people, JSON for programs, on standard output; talk goes to standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

MAX_CELL = 120
"""Longer texts are shortened in tables of many rows; JSON has all of them."""


class Format(StrEnum):
    """What `--output` takes where the answer is a thing with an id, or a list of them."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    ID = "id"


class ReportFormat(StrEnum):
    """What `--output` takes where the answer is a report."""

    TABLE = "table"
    JSON = "json"


Output = Annotated[
    Format,
    typer.Option(
        "--output", "-o", help="table for people, json for programs; jsonl: an object a line; id: an id or name a line."
    ),
]
ReportOutput = Annotated[ReportFormat, typer.Option("--output", "-o", help="table for people, json for programs.")]


def say(sentence: str) -> None:
    """One line of talk, on standard error."""
    sys.stderr.write(f"{clean(sentence)}\n")
    sys.stderr.flush()


def print_line(text: str) -> None:
    """One line of the answer, on standard output."""
    sys.stdout.write(f"{clean(text)}\n")
    sys.stdout.flush()


def print_json(value: Any, *, one_line: bool = False) -> None:
    """A JSON document on standard output; `one_line` for streams of them."""
    text = json.dumps(value, ensure_ascii=False, indent=None if one_line else 2, default=str)
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def print_thing(output: Format, identity: str, document: Mapping[str, Any], for_people: Callable[[], None]) -> None:
    """One thing, as `--output` says."""
    if output is Format.TABLE:
        for_people()
    elif output is Format.ID:
        print_line(identity)
    else:
        print_json(document, one_line=output is Format.JSONL)


def print_things(
    output: Format, identity: str, things: Sequence[Mapping[str, Any]], for_people: Callable[[], None]
) -> None:
    """A list of things, each with its id or name in the field `identity`, as `--output` says."""
    if output is Format.TABLE:
        for_people()
    elif output is Format.JSON:
        print_json(things)
    else:
        print_each(output, identity, things)


def print_each(output: Format, identity: str, things: Iterable[Mapping[str, Any]]) -> None:
    """A line for each: its id or name with `id`, else all of it as JSON."""
    for thing in things:
        if output is Format.ID:
            print_line(str(thing[identity]))
        else:
            print_json(thing, one_line=True)


def clean(text: str) -> str:
    """Text of others without the control characters that could drive a terminal."""
    return "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text)


def cell(value: Any) -> str:
    """A value as a cell of a table: one line, shortened."""
    if value is None or value in ("", [], {}):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = clean(" ".join(text.split()))
    return text if len(text) <= MAX_CELL else f"{text[: MAX_CELL - 1]}…"


def moment(text: str | None) -> str | None:
    """A time of the api, to the millisecond."""
    if text is None:
        return None
    whole, _, rest = text.partition(".")
    digits = rest.rstrip("Z").partition("+")[0]
    return f"{whole}.{digits[:3]}Z" if digits else text.replace("+00:00", "Z")


def print_rows(columns: Sequence[str], rows: Iterable[Sequence[Any]], nothing: str) -> None:
    """A table; `nothing` is said when it has no rows."""
    cells = [[cell(value) for value in row] for row in rows]
    if not cells:
        say(nothing)
        return
    if not sys.stdout.isatty():
        _print_plain([list(columns), *cells])
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in cells:
        table.add_row(*row)
    Console(markup=False, highlight=False).print(table)


def _print_plain(lines: Sequence[Sequence[str]]) -> None:
    """Whole cells in columns, whatever the width: for pipes and files."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        padded = "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True))
        sys.stdout.write(f"{padded.rstrip()}\n")


def print_fields(fields: Mapping[str, Any]) -> None:
    """Names and values of one thing, whole; those that are not set are left out."""
    shown = {name: value for name, value in fields.items() if value not in (None, "", [], {})}
    width = max((len(name) for name in shown), default=0)
    for name, value in shown.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        lines = clean(text).splitlines() or [""]
        sys.stdout.write(f"{name.ljust(width)}  {lines[0]}\n")
        sys.stdout.writelines(f"{' ' * width}  {line}\n" for line in lines[1:])


def quiet_logs() -> None:
    """Log lines would come between the lines for a person."""
    import logging  # noqa: PLC0415

    from jobledger.telemetry.logs import configure_logging  # noqa: PLC0415

    configure_logging("cli", "cli", level="ERROR", to_stream=sys.stderr.buffer)
    logging.getLogger().setLevel(logging.ERROR)

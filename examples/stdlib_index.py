"""Real work for `make demo`: index the source files of Python's standard library.

`index_module` reads the files of one package or module and counts what is in them; `write_report` reads all those
results back through the api and writes a table. Both are plain functions: each runs in a process of its own.
"""

from __future__ import annotations

import ast
import time
import warnings
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from jobledger import Client, Context, handler
from jobledger.client import JobView

PATIENCE_SECONDS = 60.0


class Module(BaseModel):
    """A package or module: its files, relative to the folder `root`."""

    name: str
    root: Path
    files: list[str]


class Counts(BaseModel):
    """What is in a module. `unparsable`: files that are wrong on purpose, such as test data."""

    name: str
    files: int = 0
    lines: int = 0
    functions: int = 0
    classes: int = 0
    longest_function: str = ""
    longest_lines: int = 0
    unparsable: int = 0


class Report(BaseModel):
    """Which results to collect, and the file to write."""

    run: str
    modules: int
    path: Path


@handler("index_module", timeout="2m")
def index_module(payload: Module, ctx: Context) -> Counts:
    """Parse every file and count."""
    counts = Counts(name=payload.name)
    for name in payload.files:
        ctx.raise_if_cancelled()
        _count(payload.root / name, counts)
    return counts


def _count(path: Path, counts: Counts) -> None:
    source = path.read_bytes()
    counts.files += 1
    counts.lines += source.count(b"\n")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old escapes in old files
            tree = ast.parse(source)
    except (SyntaxError, ValueError):
        counts.unparsable += 1
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            counts.classes += 1
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            counts.functions += 1
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > counts.longest_lines:
                counts.longest_lines, counts.longest_function = length, node.name


@handler("write_report", timeout="2m")
def write_report(payload: Report, ctx: Context) -> dict[str, Any]:
    """Read the results of a run back through the api and write them as a table."""
    with Client() as client:
        rows = _results(client, payload, ctx)
    text = _table(sorted(rows, key=lambda row: row.name))
    partial = payload.path.with_name(f"{payload.path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(payload.path)
    return {"rows": len(rows), "lines": sum(row.lines for row in rows)}


def _results(client: Client, wanted: Report, ctx: Context) -> list[Counts]:
    """Every result, as soon as the read models show them all."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        jobs = _jobs(client, wanted.run)
        if len(jobs) >= wanted.modules:
            return [Counts.model_validate(job.result) for job in jobs]
        if time.monotonic() > deadline:
            raise RuntimeError(f"Only {len(jobs)} of {wanted.modules} results are there.")
        if ctx.wait_cancelled(0.2):
            ctx.raise_if_cancelled()


def _jobs(client: Client, run: str) -> list[JobView]:
    jobs: list[JobView] = []
    cursor: str | None = None
    while True:
        page = client.jobs(handler="index_module", status=["SUCCEEDED"], tags={"run": run}, first=100, after=cursor)
        jobs += page.jobs
        if page.cursor is None:
            return jobs
        cursor = page.cursor


def _table(rows: list[Counts]) -> str:
    head = ("Module", "Files", "Lines", "Functions", "Classes", "Longest function", "Its lines")
    lines = ["# Python's standard library, indexed by Jobledger", "", f"{len(rows)} modules, one job each.", ""]
    lines.append(f"| {' | '.join(head)} |")
    lines.append("|---|--:|--:|--:|--:|---|--:|")
    for row in [*rows, _total(rows)]:
        longest = f"`{row.longest_function}`" if row.longest_function else ""
        cells = (row.name, row.files, row.lines, row.functions, row.classes, longest, row.longest_lines)
        lines.append(f"| {' | '.join(str(cell) for cell in cells)} |")
    unparsable = sum(row.unparsable for row in rows)
    lines += ["", f"{unparsable} files are not valid Python, most of them on purpose; of those only lines are counted."]
    return "\n".join(lines) + "\n"


def _total(rows: list[Counts]) -> Counts:
    total = Counts(name="**Total**")
    for row in rows:
        total.files += row.files
        total.lines += row.lines
        total.functions += row.functions
        total.classes += row.classes
        if row.longest_lines > total.longest_lines:
            total.longest_lines, total.longest_function = row.longest_lines, f"{row.name}.{row.longest_function}"
    return total

"""`jobledger replay`: work on the recorded history."""

from __future__ import annotations

import asyncio

import typer

from jobledger.cli.exits import Exit
from jobledger.cli.output import ReportFormat, ReportOutput, print_json, print_line, quiet_logs, say
from jobledger.cli.roles import settings_with

app = typer.Typer(help="Work on the recorded history.", no_args_is_help=True)


@app.command("verify")
def verify_history(output: ReportOutput = ReportFormat.TABLE) -> int:
    """Fold all events from the start and compare with the owners' state and the read models, row for row.

    Works while the system runs. Exit status 1 if something differs.
    """
    settings = settings_with()
    from jobledger.replay.verify import verify  # noqa: PLC0415

    def progress(events: int, done: int, partitions: int) -> None:
        say(f"{events} events folded, {done} of {partitions} partitions done")

    quiet_logs()
    report = asyncio.run(verify(settings, progress if output is ReportFormat.TABLE else None))
    if output is ReportFormat.JSON:
        document = {
            "ok": report.ok,
            "cell": report.cell,
            "events": report.events,
            "streams": report.streams,
            "rows": report.rows,
            "foreign": report.foreign,
            "differences": [str(difference) for difference in report.differences],
            "differenceCount": report.difference_count,
            "seconds": round(report.seconds, 3),
        }
        print_json(document)
    else:
        for line in report.lines():
            print_line(line)
    return Exit.OK if report.ok else Exit.NO


def register(program: typer.Typer) -> None:
    """Add `replay` to the program."""
    program.add_typer(app, name="replay", rich_help_panel="Operations")

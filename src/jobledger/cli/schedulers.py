"""`jobledger schedulers`: who serves the partitions of a cell."""

from __future__ import annotations

import typer

from jobledger.cli.exits import Exit
from jobledger.cli.output import ReportFormat, ReportOutput, print_json, print_rows, say
from jobledger.cli.roles import settings_with

#: A scheduler announces itself twice a second.
LISTEN_SECONDS = 2.0

app = typer.Typer(help="Look at schedulers.", no_args_is_help=True)


@app.command("list")
def list_schedulers(output: ReportOutput = ReportFormat.TABLE) -> int:
    """List the schedulers that live, with their partitions; exit status 1 if a partition is served by none."""
    settings = settings_with()
    from jobledger.processors.scheduler_list import listen  # noqa: PLC0415

    found = listen(settings.kafka, settings.cell, settings.partitions, LISTEN_SECONDS)
    unserved = sorted(set(range(settings.partitions)).difference(*(one.serves for one in found)))
    if output is ReportFormat.JSON:
        print_json({"schedulers": [one._asdict() for one in found], "unserved": unserved})
    else:
        rows = [(one.scheduler, _numbers(one.serves), _numbers(one.holds)) for one in found]
        print_rows(("SCHEDULER", "SERVES", "HOLDS"), rows, "No scheduler announces itself.")
        if unserved:
            say(f"Nobody serves partitions {_numbers(unserved)}.")
    return Exit.NO if unserved else Exit.OK


def _numbers(partitions: list[int]) -> str:
    return ", ".join(map(str, partitions))


def register(program: typer.Typer) -> None:
    """Add `schedulers` to the program."""
    program.add_typer(app, name="schedulers", rich_help_panel="Operations")

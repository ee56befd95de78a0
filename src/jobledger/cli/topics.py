"""`jobledger topics`: the topics in Kafka."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from jobledger.cli.exits import Exit
from jobledger.cli.output import ReportFormat, ReportOutput, print_json, print_line
from jobledger.cli.roles import settings_with

if TYPE_CHECKING:
    from jobledger.eventlog.topics import Durability
    from jobledger.settings import Settings

app = typer.Typer(help="The topics in Kafka.", no_args_is_help=True)


@app.command()
def check(
    create: Annotated[bool, typer.Option("--create", help="First create those that don't exist.")] = False,
    output: ReportOutput = ReportFormat.TABLE,
) -> int:
    """Check that no topic of the cell would lose or misplace records; exit status 1 if one would."""
    settings = settings_with()
    from jobledger.eventlog.topics import TopicError, check_topics, ensure_topics  # noqa: PLC0415

    work = ensure_topics if create else check_topics
    fault = None
    try:
        work(settings.kafka.client_config(), settings.cell, settings.partitions, _durability(settings))
    except TopicError as error:
        fault = str(error)
    if output is ReportFormat.JSON:
        print_json({"cell": settings.cell, "ok": fault is None, "fault": fault})
    else:
        print_line(fault or f"All topics of cell '{settings.cell}' are as the log protocol needs them.")
    return Exit.OK if fault is None else Exit.NO


def _durability(settings: Settings) -> Durability:
    from jobledger.eventlog.topics import Durability  # noqa: PLC0415

    return Durability(
        replication_factor=settings.kafka.replication_factor,
        min_insync_replicas=settings.kafka.min_insync_replicas,
        dev=settings.dev,
    )


def register(program: typer.Typer) -> None:
    """Add `topics` to the program."""
    program.add_typer(app, name="topics", rich_help_panel="Operations")

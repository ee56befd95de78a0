"""What an operator asks for: settings, topics, database, schemas, rebuild and verification."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobledger.cli.failure import Exit
from jobledger.cli.output import Format, Output, print_json, print_rows, say
from jobledger.cli.roles import settings_with

if TYPE_CHECKING:
    from jobledger.eventlog.topics import Durability
    from jobledger.settings import Settings

PANEL = "Operations"

config_app = typer.Typer(help="Look at the settings.", no_args_is_help=True)
database_app = typer.Typer(help="The database of the read models.", no_args_is_help=True)
topics_app = typer.Typer(help="The topics in Kafka.", no_args_is_help=True)
schema_app = typer.Typer(help="The exported schemas of the public contract.", no_args_is_help=True)
projection_app = typer.Typer(help="The read models.", no_args_is_help=True)
replay_app = typer.Typer(help="Work on the recorded history.", no_args_is_help=True)


@config_app.command("show")
def show_config(output: Output = Format.TABLE) -> int:
    """Show every setting, its variable and where its value is from; secrets are hidden."""
    from jobledger.cli.configuration import entries  # noqa: PLC0415

    found = entries(settings_with())
    if output is Format.JSON:
        print_json({entry.variable: {"value": entry.value, "source": entry.source} for entry in found})
    else:
        rows = [(entry.variable, entry.value, entry.source) for entry in found]
        print_rows(("VARIABLE", "VALUE", "SOURCE"), rows, "No settings.")
    return Exit.OK


@database_app.command()
def migrate(output: Output = Format.TABLE) -> int:
    """Bring the schema of the read models to this release; projectors do so themselves at their start."""
    settings = settings_with()
    _quiet_logs()
    from jobledger.projections.migrate import migrate as bring_up  # noqa: PLC0415

    number = bring_up(settings.postgres_dsn.get_secret_value(), settings.postgres_schema)
    if output is Format.JSON:
        print_json({"schema": settings.postgres_schema, "migration": number})
    else:
        say(f"Schema '{settings.postgres_schema}' is at migration {number}, the last one of this release.")
    return Exit.OK


@topics_app.command()
def check(
    create: Annotated[bool, typer.Option("--create", help="First create those that don't exist.")] = False,
    output: Output = Format.TABLE,
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
    if output is Format.JSON:
        print_json({"cell": settings.cell, "ok": fault is None, "fault": fault})
    else:
        say(fault or f"All topics of cell '{settings.cell}' are as the log protocol needs them.")
    return Exit.OK if fault is None else Exit.NO


def _durability(settings: Settings) -> Durability:
    from jobledger.eventlog.topics import Durability  # noqa: PLC0415

    return Durability(
        replication_factor=settings.kafka.replication_factor,
        min_insync_replicas=settings.kafka.min_insync_replicas,
        dev=settings.dev,
    )


Directory = Annotated[Path | None, typer.Option(help="Where the JSON Schema files are (default: in the package).")]


@schema_app.command("export")
def export_schemas(directory: Directory = None) -> int:
    """Write the JSON Schema files and the GraphQL schema."""
    from jobledger.graphql.export import default_path, export_schema  # noqa: PLC0415
    from jobledger.schemas.export import DEFAULT_DIRECTORY, documents, export  # noqa: PLC0415

    target = directory or DEFAULT_DIRECTORY
    export(target)
    sdl = default_path() if directory is None else directory / default_path().name
    sdl.write_text(export_schema(), encoding="utf-8")
    say(f"{len(documents())} JSON files in {target}, and {sdl}.")
    return Exit.OK


@schema_app.command("check")
def check_schemas(directory: Directory = None, output: Output = Format.TABLE) -> int:
    """Compare the exported files with the code; exit status 1 if one differs."""
    from jobledger.graphql.export import default_path, export_schema  # noqa: PLC0415
    from jobledger.schemas.export import DEFAULT_DIRECTORY  # noqa: PLC0415
    from jobledger.schemas.export import check as differences_of  # noqa: PLC0415

    differences = differences_of(directory or DEFAULT_DIRECTORY)
    sdl = default_path() if directory is None else directory / default_path().name
    if not sdl.exists() or sdl.read_text(encoding="utf-8") != export_schema():
        differences.append(f"{sdl.name} differs from the code; run `jobledger schema export` and look at the change.")
    if output is Format.JSON:
        print_json({"ok": not differences, "differences": differences})
    for difference in differences if output is Format.TABLE else []:
        say(difference)
    if output is Format.TABLE and not differences:
        say("The exported schemas are those of the code.")
    return Exit.NO if differences else Exit.OK


@projection_app.command()
def rebuild(
    keep_old: Annotated[bool, typer.Option("--keep-old", help="Keep the replaced schema.")] = False,
    accept_differences: Annotated[
        bool, typer.Option("--accept-differences", help="Switch although the live rows are not what the log says.")
    ] = False,
    output: Output = Format.TABLE,
) -> int:
    """Make the read models anew from the log beside the live ones, compare, then switch in one transaction.

    Exit status 1 if rows differ and --accept-differences is not given: then the live ones stay.
    """
    settings = settings_with()
    from jobledger.projections.rebuild import Progress, RebuildConfig  # noqa: PLC0415
    from jobledger.projections.rebuild import rebuild as make_anew  # noqa: PLC0415

    def report(progress: Progress) -> None:
        if output is Format.TABLE:
            say(f"{progress.step}: {progress.events} of {progress.of} events")

    _quiet_logs()
    config = RebuildConfig(
        kafka=settings.kafka,
        cell=settings.cell,
        dsn=settings.postgres_dsn.get_secret_value(),
        schema=settings.postgres_schema,
        keep_old=keep_old,
        accept_differences=accept_differences,
    )
    outcome = make_anew(config, report)
    differences = [str(difference) for difference in outcome.differences]
    if output is Format.JSON:
        document = {
            "switched": outcome.switched,
            "events": outcome.events,
            "differences": differences,
            "oldSchema": outcome.old_schema,
        }
        print_json(document)
        return Exit.OK if outcome.switched else Exit.NO
    for difference in differences:
        say(difference)
    if outcome.switched:
        say(f"The read models are made anew from {outcome.events} events and in use.")
        return Exit.OK
    say("The live read models stay in use; --accept-differences puts the new ones in their place.")
    return Exit.NO


@replay_app.command("verify")
def verify_history(output: Output = Format.TABLE) -> int:
    """Fold all events from the start and compare with the owners' state and the read models, row for row.

    Works while the system runs. Exit status 1 if something differs.
    """
    settings = settings_with()
    from jobledger.replay.verify import verify  # noqa: PLC0415

    def progress(events: int, done: int, partitions: int) -> None:
        say(f"{events} events folded, {done} of {partitions} partitions done")

    _quiet_logs()
    report = asyncio.run(verify(settings, progress if output is Format.TABLE else None))
    if output is Format.JSON:
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
            typer.echo(line)
    return Exit.OK if report.ok else Exit.NO


def _quiet_logs() -> None:
    """Log lines would come between the lines for a person."""
    import logging  # noqa: PLC0415
    import sys  # noqa: PLC0415

    from jobledger.telemetry.logs import configure_logging  # noqa: PLC0415

    configure_logging("cli", "cli", level="ERROR", to_stream=sys.stderr.buffer)
    logging.getLogger().setLevel(logging.ERROR)


def register(program: typer.Typer) -> None:
    """Add these groups to the program."""
    groups = (
        ("projection", projection_app),
        ("replay", replay_app),
        ("config", config_app),
        ("db", database_app),
        ("topics", topics_app),
        ("schema", schema_app),
    )
    for name, group in groups:
        program.add_typer(group, name=name, rich_help_panel=PANEL)

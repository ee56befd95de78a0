"""`jobledger dev`: the whole system on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

SAMPLE_HANDLERS = "jobledger.dev.sample_handlers"
"""What a worker serves when nobody has named handlers: a first job needs no file."""


def dev(  # noqa: PLR0913 - the options, each by its name
    *,
    handlers: Annotated[
        list[str] | None,
        typer.Option("--handlers", help="Python module with handlers; may be given again (default: sample handlers)."),
    ] = None,
    data_dir: Annotated[Path, typer.Option(help="Where everything is kept.")] = Path(".jobledger"),
    ephemeral: Annotated[bool, typer.Option("--ephemeral", help="Keep nothing.")] = False,
    port_base: Annotated[int, typer.Option(help="First port; all others are counted from it.")] = 8080,
    apis: Annotated[int, typer.Option(help="How many api processes.")] = 1,
    schedulers: Annotated[int, typer.Option(help="How many scheduler processes.")] = 1,
    projectors: Annotated[int, typer.Option(help="How many projector processes.")] = 1,
    workers: Annotated[int, typer.Option(help="How many worker processes.")] = 1,
    partitions: Annotated[
        int | None, typer.Option(help="Partitions of a new data directory, fixed for ever.", show_default="4")
    ] = None,
    ready_file: Annotated[Path | None, typer.Option(help="Write URLs and process ids as JSON when ready.")] = None,
    logs: Annotated[
        Path | None,
        typer.Option(help="Where each role's log lines go, as <instance>.jsonl (default: logs in --data-dir)."),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the roles' logs here too.")] = False,
    observe: Annotated[
        bool, typer.Option("--observe", help="Prometheus and Alertmanager with the rules too, if they are installed.")
    ] = False,
    restart: Annotated[bool, typer.Option("--restart/--no-restart", help="Start roles again that ended.")] = True,
    ready_timeout: Annotated[float, typer.Option(help="Seconds until all must be ready.")] = 120.0,
) -> int:
    """Run Kafka, Postgres and every role, until Ctrl-C."""
    from jobledger.dev.options import DevOptions  # noqa: PLC0415
    from jobledger.dev.supervisor import run_dev  # noqa: PLC0415

    chosen = tuple(handlers or ())
    if not chosen and not os.environ.get("JOBLEDGER_HANDLERS"):
        chosen = (SAMPLE_HANDLERS,)
    return run_dev(
        DevOptions(
            data_dir=data_dir,
            ephemeral=ephemeral,
            port_base=port_base,
            apis=apis,
            schedulers=schedulers,
            projectors=projectors,
            workers=workers,
            partitions=partitions,
            handlers=chosen,
            ready_file=ready_file,
            logs=logs,
            verbose=verbose,
            observe=observe,
            restart=restart,
            ready_timeout_seconds=ready_timeout,
        )
    )


def register(app: typer.Typer) -> None:
    """Add `dev` to the program."""
    app.command(rich_help_panel="Roles")(dev)

"""`jobledger workers`: look at workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobledger.cli import documents
from jobledger.cli.calls import ApiUrl, ask, call
from jobledger.cli.exits import Exit
from jobledger.cli.output import Format, Output, moment, print_rows, print_things

if TYPE_CHECKING:
    from jobledger.client import AsyncClient

app = typer.Typer(help="Look at workers.", no_args_is_help=True)


@app.command("list")
def list_workers(
    queue: Annotated[str | None, typer.Option(help="Only those that serve this queue.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Lost ones too.")] = False,
    output: Output = Format.TABLE,
    api_url: ApiUrl = None,
) -> int:
    """List workers with their slots, queues and handlers."""

    async def work(client: AsyncClient) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await ask(client, documents.WORKERS, {"queue": queue}))["workers"]
        return [worker for worker in found if every or not worker["lost"]]

    workers = call(api_url, work)
    print_things(output, "id", workers, lambda: _print_table(workers))
    return Exit.OK


def _print_table(workers: list[dict[str, Any]]) -> None:
    print_rows(
        ("WORKER", "POOL", "QUEUES (HELD/CREDITS)", "LOST", "REGISTERED", "HANDLERS"),
        [
            (
                worker["id"],
                worker["pool"],
                ", ".join(f"{one['queue']} {one['held']}/{one['credits']}" for one in worker["queues"]),
                worker["lost"],
                moment(worker["registeredAt"]),
                ", ".join(worker["handlers"]),
            )
            for worker in workers
        ],
        "No workers: `jobledger worker --handlers MODULE` starts one.",
    )


def register(program: typer.Typer) -> None:
    """Add `workers` to the program."""
    program.add_typer(app, name="workers", rich_help_panel="Jobs")

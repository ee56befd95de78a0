"""`jobledger queues`, `jobledger workers` and `jobledger command`."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

from jobledger.cli import documents
from jobledger.cli.calls import ApiUrl, ask, call
from jobledger.cli.failure import CliError, Exit
from jobledger.cli.jobs import moment
from jobledger.cli.output import Format, Output, print_fields, print_json, print_rows, say
from jobledger.workers.client import AsyncClient

app = typer.Typer(help="Create, change and look at queues.", no_args_is_help=True)
workers_app = typer.Typer(help="Look at workers.", no_args_is_help=True)
command_app = typer.Typer(help="Ask what became of a command.", no_args_is_help=True)

_SIZE = re.compile(r"(\d+)\s*(|B|KiB|MiB|GiB|TiB)", re.IGNORECASE)
_UNITS = {"": 1, "b": 1, "kib": 1024, "mib": 1024**2, "gib": 1024**3, "tib": 1024**4}

Name = Annotated[str, typer.Argument(help="Name of the queue.")]
MaxWaiting = Annotated[
    str | None, typer.Option("--max-waiting-bytes", help="Payload bytes that may wait in it: 500MiB, 1GiB (default).")
]


def parse_size(text: str | None) -> int | None:
    """Bytes of a size such as 500MiB; CliError when it is none."""
    if text is None:
        return None
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise CliError(f"--max-waiting-bytes is '{text}': write it like 1000000, 500MiB or 1GiB.")
    return int(found[1]) * _UNITS[found[2].lower()]


def size(count: int) -> str:
    """Bytes for a person."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"


@app.command("create")
def create_queue(
    name: Name,
    max_waiting_bytes: MaxWaiting = None,
    description: Annotated[str, typer.Option(help="For people.")] = "",
    output: Output = Format.TABLE,
    api_url: ApiUrl = None,
) -> int:
    """Create a queue."""
    limit = parse_size(max_waiting_bytes)
    position = call(api_url, lambda c: c.create_queue(name, max_waiting_bytes=limit, description=description))
    return _decided(name, "created", position, output)


@app.command("update")
def update_queue(
    name: Name,
    max_waiting_bytes: MaxWaiting = None,
    description: Annotated[str | None, typer.Option(help="For people.")] = None,
    output: Output = Format.TABLE,
    api_url: ApiUrl = None,
) -> int:
    """Change what is given; the rest stays as it is."""
    limit = parse_size(max_waiting_bytes)
    if limit is None and description is None:
        raise CliError("There is nothing to change: give --max-waiting-bytes or --description.")
    position = call(api_url, lambda c: c.update_queue(name, max_waiting_bytes=limit, description=description))
    return _decided(name, "changed", position, output)


def _decided(name: str, what: str, position: str, output: Format) -> int:
    if output is Format.JSON:
        print_json({"queue": name, "position": position})
    else:
        print_fields({"queue": name, "status": what})
    return Exit.OK


@app.command("list")
def list_queues(output: Output = Format.TABLE, api_url: ApiUrl = None) -> int:
    """List all queues and what waits in them."""
    queues = call(api_url, lambda client: ask(client, documents.QUEUES, {}))["queues"]
    if output is Format.JSON:
        print_json(queues)
        return Exit.OK
    print_rows(
        ("NAME", "WAITING", "BYTES", "LIMIT", "HELD", "DESCRIPTION"),
        [
            (q["name"], q["waiting"], size(q["waitingBytes"]), size(q["maxWaitingBytes"]), q["held"], q["description"])
            for q in queues
        ],
        "No queues yet: the first job, worker or `jobledger queues create` makes one.",
    )
    return Exit.OK


@app.command("show")
def show_queue(name: Name, output: Output = Format.TABLE, api_url: ApiUrl = None) -> int:
    """Show a queue, and what its owner knows right now: waiting jobs by priority, workers."""
    queue = call(api_url, lambda client: ask(client, documents.QUEUE, {"name": name}))["queue"]
    if queue is None:
        raise CliError(
            f"There is no queue '{name}'; `jobledger queues list` shows those that there are, "
            f"`jobledger queues create {name}` makes it.",
            Exit.REFUSED,
        )
    if output is Format.JSON:
        print_json(queue)
        return Exit.OK
    _print_queue(queue)
    return Exit.OK


def _print_queue(queue: dict[str, Any]) -> None:
    live = queue["live"] or {}
    by_priority = live.get("waitingByPriority", [])
    print_fields(
        {
            "queue": queue["name"],
            "description": queue["description"],
            "created": moment(queue["createdAt"]),
            "limit": size(queue["maxWaitingBytes"]),
            "waiting": live.get("waiting", queue["waiting"]),
            "by priority": ", ".join(f"{one['priority']}: {one['waiting']}" for one in by_priority if one["waiting"]),
            "bytes": size(live.get("waitingBytes", queue["waitingBytes"])),
            "held": live.get("held", queue["held"]),
        }
    )
    if queue["live"] is None:
        say("The owner of the queue did not answer in time; these are the figures of the read model.")
        return
    typer.echo()
    print_rows(
        ("WORKER", "POOL", "CREDITS", "HELD", "LOST", "INCARNATION"),
        [(w["worker"], w["pool"], w["credits"], w["held"], w["lost"], w["incarnation"]) for w in live["workers"]],
        "No worker serves it: `jobledger worker --queue " + queue["name"] + " --handlers MODULE` starts one.",
    )


@workers_app.command("list")
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
    if output is Format.JSON:
        print_json(workers)
        return Exit.OK
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
    return Exit.OK


@command_app.command("show")
def show_command(
    command_id: Annotated[str, typer.Argument(help="Id of the command.")],
    output: Output = Format.TABLE,
    api_url: ApiUrl = None,
) -> int:
    """Show what became of a command: ACCEPTED, REJECTED, or PENDING (nobody knows yet, exit status 4)."""
    command = call(api_url, lambda client: ask(client, documents.COMMAND, {"id": command_id}))["command"]
    if output is Format.JSON:
        print_json(command)
    else:
        error = command["error"] or {}
        print_fields(
            {
                "command": command["id"],
                "status": command["status"],
                "job": command["jobId"],
                "at": moment(command["at"]),
                "error": f"{error['code']}: {error['message']}" if error else None,
            }
        )
    if command["status"] != "PENDING":
        return Exit.OK
    say("No outcome is known: it is still to be decided, was never sent, or is longer ago than outcomes are kept.")
    return Exit.UNREACHABLE


def register(program: typer.Typer) -> None:
    """Add these groups to the program."""
    program.add_typer(app, name="queues", rich_help_panel="Jobs")
    program.add_typer(workers_app, name="workers", rich_help_panel="Jobs")
    program.add_typer(command_app, name="command", rich_help_panel="Jobs")

"""`jobledger queues`: create, change and look at queues."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

from jobledger.cli import documents
from jobledger.cli.calls import ApiUrl, ask, call
from jobledger.cli.exits import CliError, Exit
from jobledger.cli.output import Format, Output, moment, print_fields, print_rows, print_thing, print_things, say

app = typer.Typer(help="Create, change and look at queues.", no_args_is_help=True)

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
    document = {"queue": name, "position": position}
    print_thing(output, name, document, lambda: print_fields({"queue": name, "status": what}))
    return Exit.OK


@app.command("list")
def list_queues(output: Output = Format.TABLE, api_url: ApiUrl = None) -> int:
    """List all queues and what waits in them."""
    queues = call(api_url, lambda client: ask(client, documents.QUEUES, {}))["queues"]
    print_things(output, "name", queues, lambda: _print_table(queues))
    return Exit.OK


def _print_table(queues: list[dict[str, Any]]) -> None:
    print_rows(
        ("NAME", "WAITING", "BYTES", "LIMIT", "HELD", "DESCRIPTION"),
        [
            (q["name"], q["waiting"], size(q["waitingBytes"]), size(q["maxWaitingBytes"]), q["held"], q["description"])
            for q in queues
        ],
        "No queues yet: the first job, worker or `jobledger queues create` makes one.",
    )


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
    print_thing(output, queue["name"], queue, lambda: _print_queue(queue))
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


def register(program: typer.Typer) -> None:
    """Add `queues` to the program."""
    program.add_typer(app, name="queues", rich_help_panel="Jobs")

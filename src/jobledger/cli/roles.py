"""`jobledger api|scheduler|projector|worker`: one process of one role."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobledger.cli.exits import CliError, Exit
from jobledger.cli.failure import settings_failure

if TYPE_CHECKING:
    from jobledger.settings import Settings

PANEL = "Roles"

Instance = Annotated[str | None, typer.Option("--instance-id", help="Stable slot name, such as worker-1.")]
Host = Annotated[str | None, typer.Option(help="Address that every listener binds to (default: loopback).")]
Health = Annotated[int | None, typer.Option(help="Port of metrics and health.")]
Level = Annotated[str | None, typer.Option("--log-level", help="DEBUG, INFO, WARN or ERROR.")]


#: Options that are called otherwise than the setting that they stand for.
_OPTIONS = {"api_port": "--port", "worker_slots": "--slots", "worker_pool": "--pool", "worker_queues": "--queue"}


def settings_with(**given: Any) -> Settings:
    """The settings of the environment, and over them what was given on the command line.

    A setting given here goes to the environment too: a worker's child processes read it there. Raises CliError that
    names the option or the variable which is wrong.
    """
    from pydantic import ValidationError  # noqa: PLC0415

    from jobledger.settings import Settings  # noqa: PLC0415

    options: dict[str, str] = {}
    for name, value in given.items():
        if value is not None:
            text = ",".join(value) if isinstance(value, list) else str(value)
            os.environ[f"JOBLEDGER_{name.upper()}"] = text
            options[name] = _OPTIONS.get(name, f"--{name.replace('_', '-')}")
    try:
        return Settings()
    except ValidationError as error:
        raise settings_failure(error, options) from error


def named(role: str, given: str | None) -> str | None:
    """The slot name given, or one that no other process on this or another machine has."""
    if given is not None or os.environ.get("JOBLEDGER_INSTANCE_ID"):
        return given
    from jobledger.telemetry.instance import instance_name  # noqa: PLC0415

    return instance_name(role)


def check_free(host: str, port: int, setting: str) -> None:
    """Raise CliError when the port is taken: better one sentence now than a log line after the start."""
    from jobledger.telemetry.listening import taken_sentence  # noqa: PLC0415

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except socket.gaierror as error:
            raise CliError(
                f"JOBLEDGER_HOST is '{host}', which is no address of this machine: use 127.0.0.1."
            ) from error
        except OSError as error:
            raise CliError(taken_sentence(host, port, setting, error)) from error


def api(
    port: Annotated[int | None, typer.Option(help="Port of GraphQL over HTTP and WebSocket.")] = None,
    host: Host = None,
    health_port: Health = None,
    instance_id: Instance = None,
    log_level: Level = None,
) -> int:
    """Serve GraphQL."""
    settings = settings_with(
        api_port=port, host=host, health_port=health_port, instance_id=named("api", instance_id), log_level=log_level
    )
    check_free(settings.host, settings.api_port, "JOBLEDGER_API_PORT")
    check_free(settings.host, settings.health_port, "JOBLEDGER_HEALTH_PORT")
    from jobledger.bootstrap.api import main  # noqa: PLC0415

    return main(settings)


def scheduler(
    host: Host = None, health_port: Health = None, instance_id: Instance = None, log_level: Level = None
) -> int:
    """Own partitions: decide commands, write events, hand out tasks."""
    settings = settings_with(host=host, health_port=health_port, instance_id=instance_id, log_level=log_level)
    check_free(settings.host, settings.health_port, "JOBLEDGER_HEALTH_PORT")
    from jobledger.bootstrap.scheduler import main  # noqa: PLC0415

    return main(settings)


def projector(
    host: Host = None, health_port: Health = None, instance_id: Instance = None, log_level: Level = None
) -> int:
    """Keep the read models in Postgres up to date with the log."""
    settings = settings_with(host=host, health_port=health_port, instance_id=instance_id, log_level=log_level)
    check_free(settings.host, settings.health_port, "JOBLEDGER_HEALTH_PORT")
    from jobledger.bootstrap.projector import main  # noqa: PLC0415

    return main(settings)


def worker(  # noqa: PLR0913 - the options, each by its name
    *,
    handlers: Annotated[
        list[str] | None, typer.Option("--handlers", help="Python module with handlers; may be given again.")
    ] = None,
    queue: Annotated[
        list[str] | None, typer.Option("--queue", help="Queue to take tasks from; may be given again.")
    ] = None,
    slots: Annotated[int | None, typer.Option(help="Tasks that run at the same time.")] = None,
    pool: Annotated[str | None, typer.Option(help="Name of the group that this worker belongs to.")] = None,
    host: Host = None,
    health_port: Health = None,
    instance_id: Instance = None,
    log_level: Level = None,
    check: Annotated[bool, typer.Option("--check", help="Only import the handlers and print their names.")] = False,
) -> int:
    """Run handlers."""
    settings = settings_with(
        handlers=handlers or None,
        worker_queues=queue or None,
        worker_slots=slots,
        worker_pool=pool,
        host=host,
        health_port=health_port,
        instance_id=named("worker", instance_id),
        log_level=log_level,
    )
    if check:
        return _check_handlers(settings)
    check_free(settings.host, settings.health_port, "JOBLEDGER_HEALTH_PORT")
    from jobledger.bootstrap.worker import main  # noqa: PLC0415

    return main(settings)


def _check_handlers(settings: Settings) -> int:
    from jobledger.bootstrap.worker import load_registry  # noqa: PLC0415

    for name in load_registry(settings).names:
        typer.echo(name)
    return Exit.OK


def register(app: typer.Typer) -> None:
    """Add the roles to the program."""
    for command in (api, scheduler, projector, worker):
        app.command(rich_help_panel=PANEL)(command)

"""The reference pages of the documentation that are made from the code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic_settings import BaseSettings

from jobledger.cli.exits import MEANINGS
from jobledger.cli.program import build
from jobledger.cli.reference_errors import errors
from jobledger.schemas.topics import TOPICS
from jobledger.settings import Settings

_MADE = "<!-- Made from the code by scripts/reference-pages: do not edit. -->"

_CLI_INTRO = """\
Answers go to standard output, talk and errors to standard error. `--output json` is for programs and has the field
names of the GraphQL schema, `--output jsonl` prints an object a line as it comes, `--output id` only ids or names, such
as `JOB=$(jobledger submit echo --output id)`. An error is one sentence that says what to do. Colour and lines are drawn
on a terminal only, and without colour when `NO_COLOR` is set. `jobs watch --output json` prints one object a line.

`jobledger --version` prints the version, `jobledger --install-completion` teaches the shell to complete commands and
options. `python -m jobledger` is the same program."""

_CONFIGURATION_INTRO = """\
Every role reads its settings from the environment; lists are written with commas. `jobledger config show` prints what
holds, with secrets hidden. Flags of a command win over the environment."""

_TOPICS_INTRO = """\
Names on the cluster begin with the cell: `jobledger.events`. A scheduler creates what is missing at its start and
refuses to start when a topic would lose or misplace records; `jobledger topics check` does the same by hand. Only
`events` is an interface for others: see [consuming events](../how-to/consume-events.md)."""

_RECORDS = {
    "commands": ("[records/commands.json](../../schemas/json/records/commands.json)", "by the api, workers, outboxes"),
    "events": ("one file per type in [events/](../../schemas/json/events)", "by the owner of the partition"),
    "state": ("internal", "by the owner of the partition"),
    "outcomes": ("[records/outcomes.json](../../schemas/json/records/outcomes.json)", "by the owner of the partition"),
    "tasks": ("[records/tasks.json](../../schemas/json/records/tasks.json)", "from outboxes"),
    "heartbeats": ("[records/heartbeats.json](../../schemas/json/records/heartbeats.json)", "by workers, schedulers"),
    "quarantine": (
        "[records/quarantine.json](../../schemas/json/records/quarantine.json), "
        "[records/quarantine_resolution.json](../../schemas/json/records/quarantine_resolution.json)",
        "from outboxes, and by the api",
    ),
    "probes": ("internal", "by every process that is asked for its health"),
}


def pages() -> dict[str, str]:
    """Text by file name."""
    makers = {"cli.md": _cli, "configuration.md": _configuration, "errors.md": errors, "topics.md": _topics}
    return {name: "\n".join([_MADE, *make()]).rstrip() + "\n" for name, make in makers.items()}


# -- command line -------------------------------------------------------------------------------------------------


def _cli() -> Iterator[str]:
    yield from ("# Command line", "")
    yield _CLI_INTRO
    yield from ("", "| exit status | meaning |", "|--:|---|")
    yield from (f"| {status.value} | {meaning} |" for status, meaning in MEANINGS.items())
    for path, command in commands():
        yield from _command(path, command)


def commands() -> Iterator[tuple[str, Any]]:
    """Every command with its whole name, such as `jobledger jobs list`."""
    yield from _below("jobledger", build())


def _below(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", None)
    if children is None:
        yield path, command
        return
    for name, child in children.items():
        yield from _below(f"{path} {name}", child)


def _command(path: str, command: Any) -> Iterator[str]:
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and "--help" not in p.opts]
    usage = " ".join([path, *(argument.name.upper().replace("_ID", "-ID") for argument in arguments)])
    yield from ("", f"## `{usage}`", "", " ".join((command.help or "").split()))
    if options:
        yield from ("", "| option | meaning | default |", "|---|---|---|")
        for option in options:
            names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
            yield f"| {names} | {_cell(option.help or '')} | {_default(option)} |"


def _default(option: Any) -> str:
    shown = option.show_default if isinstance(option.show_default, str) else option.default
    if shown in (None, "", False, [], ()) or callable(shown):
        return ""
    text = str(getattr(shown, "value", shown))
    return f"`{text}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


# -- configuration ------------------------------------------------------------------------------------------------


def _configuration() -> Iterator[str]:
    yield from ("# Configuration", "")
    yield _CONFIGURATION_INTRO
    yield from ("", "| variable | type | default | meaning |", "|---|---|---|---|")
    yield from _settings(Settings, "JOBLEDGER_")
    yield from (
        "",
        "Outside `JOBLEDGER_`: `OTEL_EXPORTER_OTLP_ENDPOINT` switches the export of traces on, with the other",
    )
    yield "standard `OTEL_*` variables beside it; `OTEL_SDK_DISABLED=true` switches off that of `jobledger dev`."
    yield "`NO_COLOR` takes the colour away."


def _settings(cls: type[BaseSettings], prefix: str) -> Iterator[str]:
    for name, field in cls.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseSettings):
            yield from _settings(annotation, f"{prefix}{name.upper()}_")
            continue
        default = field.get_default(call_default_factory=True)
        secret = hasattr(default, "get_secret_value")
        value = default.get_secret_value() if secret else default
        text = ",".join(value) if isinstance(value, list) else "" if value == "" else str(value)
        kind = "secret" if secret else _kind(annotation)
        shown = f"`{text}`" if text else ""
        yield f"| `{prefix}{name.upper()}` | {kind} | {shown} | {_cell(field.description or '')} |"


def _kind(annotation: Any) -> str:
    choices = getattr(annotation, "__args__", None)
    if getattr(annotation, "__origin__", None) is list:
        return "list"
    if choices:
        return ", ".join(f"`{choice}`" for choice in choices)
    return {"str": "text", "int": "number", "float": "number", "bool": "yes/no"}.get(annotation.__name__, "text")


# -- topics -------------------------------------------------------------------------------------------------------


def _topics() -> Iterator[str]:
    yield from ("# Topics and records", "")
    yield _TOPICS_INTRO
    yield from ("", "| topic | partitions | written | record | what it is for |", "|---|---|---|---|---|")
    for spec in TOPICS.values():
        record, writer = _RECORDS[spec.topic.value]
        count = "as many as the cell has" if spec.partitions is None else str(spec.partitions)
        yield f"| `{spec.topic.value}` | {count} | {writer} | {record} | {_cell(spec.meaning)} |"
    yield from ("", "## Settings that the check insists on", "", "| topic | setting | value |", "|---|---|---|")
    for spec in TOPICS.values():
        yield from (f"| `{spec.topic.value}` | `{name}` | `{value}` |" for name, value in spec.config.items())
    yield from ("", "Every topic: `unclean.leader.election.enable=false`; outside `jobledger dev` also 3 replicas and")
    yield "`min.insync.replicas=2`. For retention and sizes more is as good."

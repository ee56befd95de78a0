"""Errors of libraries and of this project as the one sentence that a command ends with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from jobledger.cli.exits import CliError, Exit

if TYPE_CHECKING:
    from pydantic import ValidationError


def sentence_of(error: BaseException) -> CliError | None:
    """The sentence for an error that a person can do something about; None for one that is a bug of ours.

    Looks at the names of the classes' modules before it imports them: nobody pays for a library that did not fail.
    """
    if isinstance(error, CliError):
        return error
    for owner, translate in (
        ("pydantic", _settings),
        ("confluent_kafka", _kafka),
        ("cimpl", _kafka),
        ("psycopg", _postgres),
        ("jobledger", _ours),
    ):
        for cls in type(error).__mro__:
            if cls.__module__.split(".")[0].startswith(owner) and (found := translate(error)) is not None:
                return found
    return _system(error)


def _settings(error: BaseException) -> CliError | None:
    from pydantic import ValidationError  # noqa: PLC0415

    return settings_failure(error, {}) if isinstance(error, ValidationError) else None


def settings_failure(error: ValidationError, options: Mapping[str, str]) -> CliError:
    """What is wrong with settings, by their variables; `options` names those that were given as options."""
    faults = []
    prefixes = {"KafkaSettings": "JOBLEDGER_KAFKA_", "SecretStoreSettings": "JOBLEDGER_SECRET_STORE_"}
    prefix = prefixes.get(error.title, "JOBLEDGER_")
    ask = False
    for fault in error.errors():
        path = "__".join(str(part) for part in fault["loc"])
        name = options.get(path) or prefix + path.upper()
        ask = ask or path not in options
        hidden = any(word in name for word in ("PASSWORD", "DSN"))
        value = "" if hidden else f" is {fault['input']!r}"
        faults.append(f"{name}{value}: {plain(fault['msg'][:1].lower() + fault['msg'][1:])}.")
    if ask:
        faults.append("Set it in the environment; `jobledger config show` lists all settings.")
    return CliError(" ".join(faults))


def plain(message: str) -> str:
    """A message of pydantic without what only its authors need."""
    return (
        message.replace("Value error, ", "")
        .replace(", unable to parse string as an integer", "")
        .replace(", unable to parse string as a number", "")
    )


def _kafka(error: BaseException) -> CliError | None:
    from confluent_kafka import KafkaError, KafkaException  # noqa: PLC0415

    if not isinstance(error, KafkaException):
        return None
    cause = error.args[0] if error.args else None
    where = os.environ.get("JOBLEDGER_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092")
    unreachable = (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT, KafkaError._RESOLVE)
    if isinstance(cause, KafkaError) and cause.code() in unreachable:
        return CliError(
            f"Kafka at {where} can't be reached ({cause.str()}): is it running? Start it, or set "
            f"JOBLEDGER_KAFKA_BOOTSTRAP_SERVERS.",
            Exit.UNREACHABLE,
        )
    text = cause.str() if isinstance(cause, KafkaError) else str(error)
    return CliError(
        f"Kafka at {where} refused: {text.rstrip('.')}. Check the JOBLEDGER_KAFKA_ settings and its rights."
    )


def _postgres(error: BaseException) -> CliError | None:
    import psycopg  # noqa: PLC0415

    if isinstance(error, psycopg.OperationalError):
        first = str(error).strip().splitlines()[0].removeprefix("connection failed: ")
        return CliError(
            f"Postgres can't be used ({first}): is it running? Start it, or set JOBLEDGER_POSTGRES_DSN.",
            Exit.UNREACHABLE,
        )
    if isinstance(error, psycopg.Error):
        first = str(error).strip().splitlines()[0]
        return CliError(f"Postgres refused: {first}. Check the database and the rights of JOBLEDGER_POSTGRES_DSN.")
    return None


_START_ERRORS = {
    "TopicError": Exit.UNUSABLE,
    "MigrationError": Exit.UNUSABLE,
    "SilentLogError": Exit.UNREACHABLE,
    "UnreadableStateError": Exit.REFUSED,
    "ListenError": Exit.UNUSABLE,
    "BadOptionError": Exit.UNUSABLE,
    "HandlerLoadError": Exit.UNUSABLE,
    "WorkerConfigError": Exit.UNUSABLE,
    "RebuildError": Exit.NO,
    "ProjectionStoppedError": Exit.NO,
    "VerifyError": Exit.UNREACHABLE,
    "VerifySettingsError": Exit.UNUSABLE,
    "ReadModelUnavailableError": Exit.UNREACHABLE,
}


def _ours(error: BaseException) -> CliError | None:
    known = [_START_ERRORS[cls.__name__] for cls in type(error).__mro__ if cls.__name__ in _START_ERRORS]
    if known:
        return CliError(str(error), known[0])
    if type(error).__module__.startswith("jobledger.client"):
        from jobledger.cli.api_failure import api_failure  # noqa: PLC0415

        return api_failure(error)
    return None


#: What the extra `server` installs, by the names under which it is imported.
_SERVER = frozenset(
    [
        "cloudevents",
        "confluent_kafka",
        "eventsourcing",
        "faust",
        "graphql",
        "httptools",
        "luqum",
        "opentelemetry",
        "prometheus_client",
        "psutil",
        "psycopg",
        "pydantic_settings",
        "starlette",
        "strawberry",
        "uvicorn",
        "uvloop",
    ]
)


def _system(error: BaseException) -> CliError | None:
    if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] in _SERVER:
        return CliError(
            f"This command needs the extra 'server', of which {error.name} is not installed: "
            f"pip install 'jobledger[server]'."
        )
    if isinstance(error, OSError) and error.filename is not None:
        return CliError(f"{error.filename}: {(error.strerror or str(error)).lower()}; name another path.")
    return None

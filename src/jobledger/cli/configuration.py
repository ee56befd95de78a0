"""The settings one by one: their variables, values without secrets, and where each value is from."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import SecretStr
from pydantic_settings import BaseSettings

if TYPE_CHECKING:
    from jobledger.settings import Settings

HIDDEN = "********"


@dataclass(frozen=True, slots=True)
class Entry:
    """One setting."""

    variable: str
    value: object
    source: str
    """`environment` or `default`."""
    description: str


def entries(settings: Settings, environment: Mapping[str, str] | None = None) -> list[Entry]:
    """All settings, secrets hidden."""
    given = {name.upper() for name in (os.environ if environment is None else environment)}
    return list(_entries(settings, "JOBLEDGER_", given))


def _entries(settings: BaseSettings, prefix: str, given: set[str]) -> Iterator[Entry]:
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, BaseSettings):
            yield from _entries(value, f"{prefix}{name.upper()}_", given)
            continue
        variable = f"{prefix}{name.upper()}"
        source = "environment" if variable in given else "default"
        yield Entry(variable, _shown(name, value), source, field.description or "")


def _shown(name: str, value: object) -> object:
    if not isinstance(value, SecretStr):
        return value
    secret = value.get_secret_value()
    if name.endswith("dsn"):
        return redact_dsn(secret)
    return HIDDEN if secret else ""


def redact_dsn(dsn: str) -> str:
    """A connection string without its password, however it is written."""
    from psycopg.conninfo import conninfo_to_dict, make_conninfo  # noqa: PLC0415
    from psycopg.errors import ProgrammingError  # noqa: PLC0415

    try:
        parts = conninfo_to_dict(dsn)
    except ProgrammingError:
        return HIDDEN  # not readable, so nobody knows what of it is secret
    for key in ("password", "sslpassword"):
        if parts.get(key):
            parts[key] = HIDDEN
    return make_conninfo("", **parts)

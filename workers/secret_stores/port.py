"""The port of secrets: fetched by name, each time anew, with what went wrong as a value."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from pydantic import SecretStr

MAX_NAME = 512
_PART = r"[A-Za-z0-9_-][A-Za-z0-9._-]*"
_NAME = re.compile(rf"{_PART}(/{_PART})*")


class Reason(StrEnum):
    """Why there is no secret."""

    INVALID_NAME = "INVALID_NAME"
    NOT_FOUND = "NOT_FOUND"
    DENIED = "DENIED"
    UNAVAILABLE = "UNAVAILABLE"
    UNREADABLE = "UNREADABLE"


@dataclass(frozen=True, slots=True)
class NoSecret:
    """A secret that could not be fetched, and a sentence that says why; it never holds any part of a secret."""

    reason: Reason
    message: str


Fetched = SecretStr | NoSecret


class SecretStore(Protocol):
    """Gives secrets by name: `stripe/api-key`, parts of letters, digits, `-`, `_` and `.` with slashes between them."""

    async def fetch(self, name: str) -> Fetched:
        """The secret as it is now, or why there is none. Raises nothing."""

    async def close(self) -> None:
        """Let go of connections; idempotent."""


def refused_name(name: str) -> NoSecret | None:
    """What is wrong with a name; None: nothing. No part may begin with a dot, so that none leads out of a folder."""
    if len(name) <= MAX_NAME and _NAME.fullmatch(name):
        return None
    return NoSecret(
        Reason.INVALID_NAME,
        f"'{name[:80]}' can't name a secret: use parts of letters, digits, '-', '_' and '.', such as stripe/api-key.",
    )

"""Secrets from environment variables."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from pydantic import SecretStr

from jobledger.workers.secret_stores.port import Fetched, NoSecret, Reason, refused_name


class EnvironmentSecrets:
    """`stripe/api-key` is the variable `SECRET_STRIPE_API_KEY`, with `prefix` 'SECRET_'."""

    def __init__(self, prefix: str, environment: Mapping[str, str] = os.environ) -> None:
        self._prefix = prefix
        self._environment = environment

    async def fetch(self, name: str) -> Fetched:
        """The variable's value as it is."""
        if (refused := refused_name(name)) is not None:
            return refused
        variable = self._prefix + re.sub(r"[^A-Z0-9]", "_", name.upper())
        value = self._environment.get(variable)
        if value is None:
            return NoSecret(Reason.NOT_FOUND, f"Secret '{name}' does not exist: {variable} is not set.")
        return SecretStr(value)

    async def close(self) -> None:
        """Nothing to let go of."""

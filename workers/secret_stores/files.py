"""Secrets from files, as Kubernetes mounts them."""

from __future__ import annotations

import asyncio
from pathlib import Path

from pydantic import SecretStr

from jobledger.workers.secret_stores.port import Fetched, NoSecret, Reason, refused_name

#: What a Secret of Kubernetes can hold.
MAX_BYTES = 1024 * 1024


class FileSecrets:
    """`stripe/api-key` is the file `api-key` in the folder `stripe` of a directory, where a Secret is mounted.

    Each fetch opens the file by its path, through the link `..data` that Kubernetes turns when the Secret changes: so
    what is read is one whole version, and the newest. One newline at its end is not part of the secret.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def fetch(self, name: str) -> Fetched:
        """The file's text, read in a thread."""
        if (refused := refused_name(name)) is not None:
            return refused
        return await asyncio.to_thread(self._read, name)

    async def close(self) -> None:
        """Nothing to let go of."""

    def _read(self, name: str) -> Fetched:
        path = self._directory / name
        try:
            with path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError):
            return NoSecret(Reason.NOT_FOUND, f"Secret '{name}' does not exist: there is no file {path}.")
        except PermissionError:
            return NoSecret(Reason.DENIED, f"Secret '{name}' may not be read: {path} is closed to this process.")
        except OSError as error:
            return NoSecret(Reason.UNREADABLE, f"Secret '{name}' can't be read: {path}: {error.strerror}.")
        if len(data) > MAX_BYTES:
            return NoSecret(Reason.UNREADABLE, f"Secret '{name}' can't be read: {path} is larger than 1 MiB.")
        try:
            text = data.decode()
        except UnicodeDecodeError:
            return NoSecret(Reason.UNREADABLE, f"Secret '{name}' can't be read: {path} is not UTF-8.")
        return SecretStr(text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text)

"""The secret store that the settings name."""

from __future__ import annotations

from pathlib import Path

from jobledger.settings import SecretStoreSettings
from jobledger.workers.secret_stores.environment import EnvironmentSecrets
from jobledger.workers.secret_stores.files import FileSecrets
from jobledger.workers.secret_stores.port import SecretStore


class SecretStoreConfigError(ValueError):
    """The settings of the secret store can't work; the message says which and what to do."""


def open_secret_store(given: SecretStoreSettings) -> SecretStore | None:
    """The store, which nobody has asked yet; None: none is set. Raises SecretStoreConfigError."""
    match given.kind:
        case "environment":
            return EnvironmentSecrets(given.prefix)
        case "files":
            return FileSecrets(Path(given.directory))
        case "vault":
            return _vault(given)
        case _:
            return None


def _vault(given: SecretStoreSettings) -> SecretStore:
    # An HTTP client, for which workers without Vault have no use.
    from jobledger.workers.secret_stores.vault import VaultAccess, VaultSecrets  # noqa: PLC0415

    if not given.vault_url.startswith(("http://", "https://")):
        raise SecretStoreConfigError(
            "JOBLEDGER_SECRET_STORE_KIND is vault: set JOBLEDGER_SECRET_STORE_VAULT_URL, such as https://vault:8200."
        )
    if not given.vault_token.get_secret_value() and not given.vault_token_file:
        raise SecretStoreConfigError(
            "JOBLEDGER_SECRET_STORE_KIND is vault: set JOBLEDGER_SECRET_STORE_VAULT_TOKEN_FILE or …_VAULT_TOKEN."
        )
    try:
        return VaultSecrets(
            VaultAccess(
                url=given.vault_url,
                mount=given.vault_mount,
                namespace=given.vault_namespace,
                token=given.vault_token,
                token_file=Path(given.vault_token_file) if given.vault_token_file else None,
                ca_file=given.vault_ca_file,
                timeout_seconds=given.timeout_seconds,
            )
        )
    except OSError as error:
        raise SecretStoreConfigError(
            f"JOBLEDGER_SECRET_STORE_VAULT_CA_FILE is {given.vault_ca_file}, which can't be read: "
            f"{error.strerror or error}."
        ) from error

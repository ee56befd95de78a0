"""Secrets from the KV engine, version 2, of HashiCorp Vault (or OpenBao), by its HTTP API.

One documented GET, asynchronous and with a time-out: `hvac` would bring a second HTTP client that holds up a thread for
each read. See https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr

from jobledger.workers.secret_stores.port import Fetched, NoSecret, Reason, refused_name

#: The key of a secret whose name has one part.
ONLY_KEY = "value"
NO_TOKEN = SecretStr("")
_MOVED = (301, 302, 303, 307, 308)


@dataclass(frozen=True, kw_only=True, slots=True)
class VaultAccess:
    """Where Vault is and how to enter it. `token_file`, as an agent keeps it, is read at each fetch; it comes first."""

    url: str
    mount: str = "secret"
    namespace: str = ""
    token: SecretStr = NO_TOKEN
    token_file: Path | None = None
    ca_file: str = ""
    timeout_seconds: float = 2.0


class VaultSecrets:
    """`stripe/api-key` is the key `api-key` of the secret `stripe`; a name of one part is its key `value`.

    Reads the newest version, takes no lease, and keeps nothing. A standby's redirect to the active node is followed
    once, never from https to http.
    """

    def __init__(self, access: VaultAccess) -> None:
        self._access = access
        verify = ssl.create_default_context(cafile=access.ca_file) if access.ca_file else True
        self._http = httpx.AsyncClient(timeout=None, verify=verify)  # `fetch` has one time-out for all of it

    async def fetch(self, name: str) -> Fetched:
        """The value of the key, a string."""
        if (refused := refused_name(name)) is not None:
            return refused
        path, slash, key = name.rpartition("/")
        path, key = (path, key) if slash else (name, ONLY_KEY)
        url = f"{self._access.url.rstrip('/')}/v1/{self._access.mount.strip('/')}/data/{path}"
        try:
            headers = await self._headers()
            async with asyncio.timeout(self._access.timeout_seconds):
                response = await self._get(url, headers)
        except TimeoutError:
            return self._unavailable(name, f"no answer within {self._access.timeout_seconds:g} s")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return self._unavailable(name, type(error).__name__)
        except (OSError, ValueError):  # neither says what the token is
            where = self._access.token_file or "JOBLEDGER_SECRET_STORE_VAULT_TOKEN"
            return NoSecret(Reason.UNAVAILABLE, f"Secret '{name}' can't be asked for: there is no token in {where}.")
        return self._read(name, path, key, response)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _headers(self) -> dict[str, str]:
        access = self._access
        token = access.token.get_secret_value()
        if access.token_file is not None:
            token = (await asyncio.to_thread(access.token_file.read_text)).strip()
        headers = {"X-Vault-Token": token, "X-Vault-Request": "true"}
        return {**headers, "X-Vault-Namespace": access.namespace} if access.namespace else headers

    async def _get(self, url: str, headers: dict[str, str]) -> httpx.Response:
        response = await self._http.get(url, headers=headers)
        if response.status_code in _MOVED and response.next_request is not None:
            there = response.next_request.url
            if there.scheme == "https" or httpx.URL(url).scheme == "http":
                response = await self._http.get(there, headers=headers)
        return response

    def _read(self, name: str, path: str, key: str, response: httpx.Response) -> Fetched:
        status, body = response.status_code, _json(response)
        if status == 403:
            return NoSecret(Reason.DENIED, f"Secret '{name}' may not be read: Vault denies '{path}' to this token.")
        if status == 404:
            deleted = isinstance(body.get("data"), dict)  # a version that was deleted still has its metadata
            what = f"the newest version of '{path}' is deleted" if deleted else f"there is no '{path}'"
            return NoSecret(Reason.NOT_FOUND, f"Secret '{name}' does not exist in Vault: {_errors(body) or what}.")
        if status != 200:
            return self._unavailable(name, _errors(body) or f"HTTP {status}")
        try:
            values = body["data"]["data"]
            value = values.get(key)
        except (KeyError, TypeError, AttributeError):
            return NoSecret(
                Reason.UNREADABLE,
                f"Secret '{name}' can't be read: what answers is no KV engine of version 2 at '{self._access.mount}'.",
            )
        if value is None:
            return NoSecret(Reason.NOT_FOUND, f"Secret '{name}' does not exist: '{path}' has no key '{key}' in Vault.")
        if not isinstance(value, str):
            return NoSecret(Reason.UNREADABLE, f"Secret '{name}' can't be read: its value in Vault is no string.")
        return SecretStr(value)

    def _unavailable(self, name: str, why: str) -> NoSecret:
        return NoSecret(Reason.UNAVAILABLE, f"Secret '{name}' can't be asked for: Vault at {self._access.url}: {why}.")


def _json(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _errors(body: dict[str, Any]) -> str:
    """Vault's own words, such as `Vault is sealed`."""
    errors = body.get("errors")
    return "; ".join(map(str, errors))[:200] if isinstance(errors, list) else ""

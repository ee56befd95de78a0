"""The secret stores: environment, files as Kubernetes mounts them, and Vault's KV engine as its API is documented."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from jobledger.bootstrap.worker import add_secret_store
from jobledger.settings import SecretStoreSettings
from jobledger.telemetry.health import Health
from jobledger.telemetry.http_server import HttpServer
from jobledger.workers.secret_stores.choice import SecretStoreConfigError, open_secret_store
from jobledger.workers.secret_stores.environment import EnvironmentSecrets
from jobledger.workers.secret_stores.files import MAX_BYTES, FileSecrets
from jobledger.workers.secret_stores.port import Fetched, NoSecret, SecretStore
from jobledger.workers.secret_stores.vault import VaultAccess, VaultSecrets

TOKEN = "hvs.planted-token"
SECRET = "planted-secret"


def _value(found: Fetched) -> str:
    assert isinstance(found, SecretStr), found
    return found.get_secret_value()


def _reason(found: Fetched) -> str:
    assert isinstance(found, NoSecret), found
    assert SECRET not in found.message and TOKEN not in found.message and SECRET not in repr(found)
    return found.reason.value


# -- names ---------------------------------------------------------------------------------------------------------

BAD_NAMES = ("", "/", "a/", "/a", "a//b", "..", "../a", "a/../b", ".hidden", "..data/a", "a b", "a\n", "ä", "a" * 513)


async def test_no_name_leads_out_of_a_store(tmp_path: Path) -> None:
    stores: tuple[SecretStore, ...] = (
        EnvironmentSecrets("", {"": SECRET, "_": SECRET, "A_B": SECRET}),
        FileSecrets(tmp_path),
        VaultSecrets(VaultAccess(url="http://127.0.0.1:9", token=SecretStr(TOKEN))),
    )
    for store in stores:
        assert {_reason(await store.fetch(name)) for name in BAD_NAMES} == {"INVALID_NAME"}
        await store.close()


# -- environment ---------------------------------------------------------------------------------------------------


async def test_the_environment_has_a_variable_for_each_name() -> None:
    store = EnvironmentSecrets("SECRET_", {"SECRET_STRIPE_API_KEY": SECRET, "SECRET_EMPTY": "", "HOME": "/"})
    assert _value(await store.fetch("stripe/api-key")) == SECRET
    assert _value(await store.fetch("empty")) == ""
    missing = await store.fetch("home")
    assert _reason(missing) == "NOT_FOUND" and "SECRET_HOME is not set" in str(missing)


# -- files ---------------------------------------------------------------------------------------------------------


def _mount(folder: Path, version: str, **files: bytes) -> None:
    """Writes a version of a Secret and turns the link to it, as the kubelet does: `..data` in one step."""
    (folder / version).mkdir(parents=True)
    for name, data in files.items():
        (folder / version / name).write_bytes(data)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(Path("..data") / name)
    (folder / "..data_tmp").symlink_to(version)
    (folder / "..data_tmp").rename(folder / "..data")


async def test_a_mounted_secret_is_read_as_it_is_now(tmp_path: Path) -> None:
    """Through the links of Kubernetes; when the Secret changes the next fetch has the new one."""
    store = FileSecrets(tmp_path)
    _mount(tmp_path / "stripe", "..2026_11_25_01", key=b"first\n", pem=b"a\nb\n\n")
    assert _value(await store.fetch("stripe/key")) == "first"
    assert _value(await store.fetch("stripe/pem")) == "a\nb\n"
    _mount(tmp_path / "stripe", "..2026_11_25_02", key=b"second\r\n", pem=b"")
    assert _value(await store.fetch("stripe/key")) == "second"
    assert _value(await store.fetch("stripe/pem")) == ""


async def test_a_fetch_while_a_mount_turns_has_one_version_whole(tmp_path: Path) -> None:
    store = FileSecrets(tmp_path)
    _mount(tmp_path / "s", "..0", key=b"0" * 100_000)
    seen: set[str] = set()

    async def turn() -> None:
        for number in range(1, 30):
            _mount(tmp_path / "s", f"..{number}", key=str(number % 10).encode() * 100_000)
            await asyncio.sleep(0.002)

    turning = asyncio.ensure_future(turn())
    while not turning.done():
        text = _value(await store.fetch("s/key"))
        assert len(text) == 100_000 and len(set(text)) == 1
        seen.add(text[0])
    await turning
    assert len(seen) > 1


async def test_what_is_no_secret_is_said(tmp_path: Path) -> None:
    store = FileSecrets(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "large").write_bytes(b"x" * (MAX_BYTES + 1))
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    wanted = {"folder": "UNREADABLE", "large": "UNREADABLE", "binary": "UNREADABLE", "none": "NOT_FOUND"}
    assert {name: _reason(await store.fetch(name)) for name in wanted} == wanted
    assert _reason(await store.fetch("large/key")) == "NOT_FOUND"


# -- Vault ---------------------------------------------------------------------------------------------------------


def _kv(data: dict[str, Any] | None, **metadata: Any) -> dict[str, Any]:
    """The answer to a read, field for field as the documentation has it."""
    about = {"created_time": "2018-03-22T02:24:06.945319214Z", "custom_metadata": None, "deletion_time": ""}
    return {
        "request_id": "5b2a3f5c-0000-4c3e-9d5e-000000000000",
        "lease_id": "",
        "renewable": False,
        "lease_duration": 0,
        "data": {"data": data, "metadata": {**about, "destroyed": False, "version": 2, **metadata}},
        "wrap_info": None,
        "warnings": None,
        "auth": None,
        "mount_type": "kv",
    }


class Vault:
    """Speaks the part of Vault's API that is used, with Vault's own words when it can't."""

    def __init__(self) -> None:
        self.secrets: dict[str, dict[str, Any]] = {"stripe": {"api-key": SECRET, "count": 3}, "health": {"value": "ok"}}
        self.sealed = False
        self.delay_seconds = 0.0
        self.token = TOKEN
        self.redirect = ""
        self.asked: list[dict[str, str]] = []
        self.server = HttpServer(Starlette(routes=[Route("/v1/{path:path}", self._answer)]), "127.0.0.1", 0, "-")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    async def _answer(self, request: Request) -> Response:
        self.asked.append(dict(request.headers))
        await asyncio.sleep(self.delay_seconds)
        if self.sealed:
            return JSONResponse({"errors": ["Vault is sealed"]}, 503)
        if self.redirect:
            there, self.redirect = self.redirect, ""
            return RedirectResponse(there + request.url.path, 307)
        if request.headers.get("x-vault-token") != self.token:
            return JSONResponse({"errors": ["1 error occurred:\n\t* permission denied\n\n"]}, 403)
        mount, _, path = request.path_params["path"].partition("/data/")
        if mount != "secret":
            route = request.path_params["path"]
            return JSONResponse({"errors": [f'no handler for route "{route}". route entry not found.']}, 404)
        if path == "deleted":
            return JSONResponse(_kv(None, deletion_time="2018-03-22T02:36:43.986212308Z"), 404)
        if path not in self.secrets:
            return JSONResponse({"errors": []}, 404)
        return JSONResponse(_kv(self.secrets[path]))


@pytest_asyncio.fixture(loop_scope="module")
async def vault(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Vault]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    one = Vault()
    await one.server.start()
    yield one
    await one.server.stop()


def _store(vault: Vault, **given: Any) -> VaultSecrets:
    return VaultSecrets(VaultAccess(url=vault.url, **{"token": SecretStr(TOKEN), "timeout_seconds": 0.5, **given}))


async def test_vault_gives_the_key_of_a_secret(vault: Vault) -> None:
    store = _store(vault, namespace="team-a")
    assert _value(await store.fetch("stripe/api-key")) == SECRET
    assert _value(await store.fetch("health")) == "ok"
    assert vault.asked[0]["x-vault-namespace"] == "team-a" and vault.asked[0]["x-vault-request"] == "true"
    vault.secrets["stripe"]["api-key"] = "rotated"
    assert _value(await store.fetch("stripe/api-key")) == "rotated"
    await store.close()
    await store.close()


async def test_what_vault_does_not_give_is_a_value(vault: Vault) -> None:
    store, other = _store(vault), _store(vault, mount="kv")
    wanted = {
        "stripe/none": ("NOT_FOUND", "'stripe' has no key 'none'"),
        "none/key": ("NOT_FOUND", "there is no 'none'"),
        "deleted/key": ("NOT_FOUND", "the newest version of 'deleted' is deleted"),
        "stripe/count": ("UNREADABLE", "is no string"),
    }
    for name, (reason, words) in wanted.items():
        found = await store.fetch(name)
        assert _reason(found) == reason and words in str(found), found
    found = await other.fetch("stripe/api-key")
    assert _reason(found) == "NOT_FOUND" and "no handler for route" in str(found)
    vault.token = "another"
    assert _reason(await store.fetch("stripe/api-key")) == "DENIED"
    vault.sealed = True
    found = await store.fetch("stripe/api-key")
    assert _reason(found) == "UNAVAILABLE" and "Vault is sealed" in str(found)
    vault.sealed, vault.delay_seconds = False, 2.0
    found = await store.fetch("stripe/api-key")
    assert _reason(found) == "UNAVAILABLE" and "no answer within 0.5 s" in str(found)
    await vault.server.stop()
    assert _reason(await store.fetch("stripe/api-key")) == "UNAVAILABLE"
    await store.close()
    await other.close()


async def test_a_standby_sends_to_the_active_node_once(vault: Vault) -> None:
    store = _store(vault)
    vault.redirect = vault.url
    assert _value(await store.fetch("stripe/api-key")) == SECRET
    assert len(vault.asked) == 2 and vault.asked[1]["x-vault-token"] == TOKEN
    await store.close()


async def test_the_token_of_an_agent_is_read_each_time(vault: Vault, tmp_path: Path) -> None:
    file = tmp_path / "token"
    store = _store(vault, token=SecretStr(""), token_file=file)
    assert _reason(await store.fetch("stripe/api-key")) == "UNAVAILABLE"
    file.write_text("old\n")
    assert _reason(await store.fetch("stripe/api-key")) == "DENIED"
    file.write_bytes(b"\xff")
    assert _reason(await store.fetch("stripe/api-key")) == "UNAVAILABLE"
    file.write_text("hvs.ä\n")
    assert _reason(await store.fetch("stripe/api-key")) == "UNAVAILABLE"
    file.write_text(f"{TOKEN}\n")
    assert _value(await store.fetch("stripe/api-key")) == SECRET
    await store.close()


# -- settings, health, and what is shown -----------------------------------------------------------------------------


async def test_a_setting_picks_the_store(tmp_path: Path) -> None:
    token = tmp_path / "token"
    given: dict[str, dict[str, Any]] = {
        "environment": {},
        "files": {"directory": str(tmp_path)},
        "vault": {"vault_url": "https://vault:8200", "vault_token_file": str(token)},
    }
    kinds = {"environment": EnvironmentSecrets, "files": FileSecrets, "vault": VaultSecrets}
    for kind, options in given.items():
        store = open_secret_store(SecretStoreSettings(kind=kind, **options))  # type: ignore[arg-type]
        assert type(store) is kinds[kind]
        await store.close()
    assert open_secret_store(SecretStoreSettings()) is None
    for wrong, name in (
        ({}, "VAULT_URL"),
        ({"vault_url": "https://v"}, "VAULT_TOKEN"),
        ({**given["vault"], "vault_ca_file": str(tmp_path / "none.pem")}, "CA_FILE"),
    ):
        with pytest.raises(SecretStoreConfigError, match=f"JOBLEDGER_SECRET_STORE_.*{name}"):
            open_secret_store(SecretStoreSettings(kind="vault", **wrong))


async def test_health_fetches_a_test_secret(
    vault: Vault, log_lines: io.BytesIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slow: DEGRADED. Sealed, or without an answer: UNHEALTHY, and a worker is ready all the same."""
    monkeypatch.setattr("jobledger.bootstrap.worker.KEEP_SECONDS", 0.0)
    health, store = Health("1"), _store(vault)
    add_secret_store(health, store, "health")
    health.set_ready(True)

    async def found() -> dict[str, Any]:
        assert (await health.ready())[0] == 200
        page = (await health.status())[1]
        shown.append(json.dumps(page))
        return dict(page["components"]["secret_store"])

    shown: list[str] = []
    vault.secrets["health"]["value"] = SECRET
    await found()
    well = await found()
    assert well["status"] == "HEALTHY" and well["latency_ms"] < 200
    vault.delay_seconds = 0.25
    assert (await found())["status"] == "DEGRADED"
    vault.delay_seconds = 3.0
    assert "no answer" in (await found())["error"]
    vault.delay_seconds, vault.sealed = 0.0, True
    sealed = await found()
    assert (sealed["status"], sealed["reason"]) == ("UNHEALTHY", "UNAVAILABLE") and "sealed" in sealed["error"]
    vault.sealed = False
    assert (await found())["status"] == "HEALTHY"
    await store.close()
    settings = SecretStoreSettings(kind="vault", vault_url=vault.url, vault_token=SecretStr(TOKEN))
    everything = "".join(shown) + repr(store) + repr(settings) + log_lines.getvalue().decode()
    assert SECRET not in everything and TOKEN not in everything

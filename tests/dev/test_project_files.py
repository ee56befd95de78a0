"""The lock, the Makefile's helpers and the compose file say what they promise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The compose file as podman-compose reads it; --dry-run needs no podman."""
    program = Path(sys.executable).with_name("podman-compose")
    command = [str(program), "--dry-run", "-f", str(ROOT / "docker-compose.yml"), "config"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert result.returncode == 0, result.stderr
    document: dict[str, Any] = yaml.safe_load(result.stdout)
    return document


def test_compose_starts_every_role_once_the_servers_that_it_uses_are_healthy(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert set(services) == {"kafka", "postgres", "api", "scheduler", "projector", "worker"}
    uses = {
        "api": {"kafka", "postgres"},
        "scheduler": {"kafka"},
        "projector": {"kafka", "postgres"},
        "worker": {"kafka"},
    }
    for role, servers in uses.items():
        assert services[role]["command"] == [role]
        assert services[role]["healthcheck"]["test"]
        waits = {name: how["condition"] for name, how in services[role]["depends_on"].items()}
        assert waits == dict.fromkeys(servers, "service_healthy"), role
        assert services[role]["user"] == "10001:10001"


def test_compose_starts_with_handlers_that_a_worker_can_load(
    compose: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nothing set; a worker without any would end, and be started again for ever."""
    from jobledger.bootstrap.worker import load_registry
    from jobledger.settings import Settings

    monkeypatch.setenv("JOBLEDGER_HANDLERS", compose["services"]["worker"]["environment"]["JOBLEDGER_HANDLERS"])
    assert load_registry(Settings()).names == ["echo", "fail", "sleep"]


def test_compose_gives_every_role_longer_to_stop_than_it_takes(compose: dict[str, Any]) -> None:
    """Else a kill -9 would end what was promised its time."""
    from jobledger.dev.supervisor import ROLE_GRACE_SECONDS, WORKER_GRACE_SECONDS

    def grace(role: str) -> int:
        return int(compose["services"][role]["stop_grace_period"].removesuffix("s"))

    assert grace("worker") > WORKER_GRACE_SECONDS
    assert all(grace(role) > ROLE_GRACE_SECONDS for role in ("api", "scheduler", "projector"))


def test_compose_keeps_the_schedulers_cache_on_disk(compose: dict[str, Any]) -> None:
    """In a volume that the role's user may write, not in the memory that /tmp is."""
    scheduler = compose["services"]["scheduler"]
    folder = scheduler["environment"]["SQLITE_TMPDIR"]
    mounts = [volume.split(":") if isinstance(volume, str) else volume for volume in scheduler["volumes"]]
    assert ["scheduler-cache", folder] in [mount[:2] for mount in mounts]
    assert "scheduler-cache" in compose["volumes"]
    assert folder not in scheduler["tmpfs"]
    assert f"install -d -o 10001 -g 10001 -m 0700 {folder}" in (ROOT / "deploy/images/Dockerfile").read_text()


def test_the_scheduler_puts_its_cache_where_compose_says(tmp_path: Path) -> None:
    """SQLite's own variable names the folder of a store without a path; its file is in there once it is large."""
    code = (
        "import os; from jobledger.processors.core.retained import Retained; store = Retained()\n"
        "for n in range(60): store.put_many([(b'%d-%d' % (n, i), b'x' * 300, 0) for i in range(1000)])\n"
        "links = [os.readlink(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd') if fd.isdigit() "
        "and os.path.islink(f'/proc/self/fd/{fd}')]\n"
        "print([link for link in links if 'etilqs' in link][0])"
    )
    env = {**os.environ, "SQLITE_TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.stdout.startswith(str(tmp_path)), done.stderr


def test_compose_pins_its_images_and_publishes_on_loopback_only(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert re.search(r":\d+\.\d+[\w.-]*$", service["image"]), service["image"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_compose_uses_only_settings_that_exist(compose: dict[str, Any]) -> None:
    from jobledger.settings import KafkaSettings, Settings

    known = {f"JOBLEDGER_{name.upper()}" for name in Settings.model_fields}
    known |= {f"JOBLEDGER_KAFKA_{name.upper()}" for name in KafkaSettings.model_fields}
    for role in ("api", "scheduler", "projector", "worker"):
        environment = compose["services"][role]["environment"]
        assert {name for name in environment if name.startswith("JOBLEDGER_")} <= known


@pytest.mark.parametrize("name", ["dev.txt", "run.txt"])
def test_every_locked_dependency_has_hashes_and_no_address(name: str) -> None:
    text = (ROOT / "requirements" / name).read_text()
    assert "://" not in text
    assert "--index-url" not in text
    assert "--find-links" not in text
    entries = [line for line in text.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
    assert len(entries) > 30
    for entry in entries:
        assert re.match(r"[\w.-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", entry), entry


def test_the_lock_covers_every_dependency_that_the_project_names() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["project"]["optional-dependencies"]
    named = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    named += [entry for group in groups.values() for entry in group]
    wanted = {re.split(r"[^\w.-]", entry)[0].lower().replace("_", "-") for entry in named}
    locked = set(re.findall(r"^([\w.-]+)==", (ROOT / "requirements" / "dev.txt").read_text(), re.MULTILINE))
    assert wanted - {"jobledger"} <= locked, "run scripts/lock"


def test_without_a_fitting_python_make_says_what_to_install(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    command = ["/bin/sh", str(ROOT / "scripts" / "find-python")]
    result = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "needs Python 3.11 or newer" in result.stderr


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ('<testcase name="a"/>', 0),
        ('<testcase name="a"><skipped type="pytest.skip" message="no Chromium"/></testcase>', 1),
        ('<testcase name="a"><skipped type="pytest.xfail" message=""/></testcase>', 0),
        ("", 1),
    ],
)
def test_continuous_integration_fails_on_a_skipped_test_or_none_at_all(tmp_path: Path, body: str, status: int) -> None:
    report = tmp_path / "junit.xml"
    report.write_text(f"<testsuites><testsuite>{body}</testsuite></testsuites>")
    command = [sys.executable, str(ROOT / "scripts" / "no-skips"), str(report)]
    assert subprocess.run(command, check=False, capture_output=True).returncode == status


@pytest.mark.parametrize(
    "name",
    [
        ".ci/run",
        "scripts/lock",
        "scripts/find-python",
        "scripts/no-skips",
        "scripts/prometheus-tools",
        "scripts/slo-rules",
    ],
)
def test_scripts_may_be_executed(name: str) -> None:
    assert os.access(ROOT / name, os.X_OK)

"""`jobledger observability export` writes what the repository has, for those who have the package alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobledger.cli.program import run

ROOT = Path(__file__).parents[2]


def exported(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_rules_escalation_and_runbooks_are_written_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Over what an earlier release has written; other files stay."""
    (tmp_path / "prometheus/rules").mkdir(parents=True)
    (tmp_path / "prometheus/rules/scheduler.yml").write_text("old")
    (tmp_path / "mine.yml").write_text("mine")
    assert run(["observability", "export", str(tmp_path), "--output", "json"]) == 0
    told = json.loads(capsys.readouterr().out)["files"]
    found = exported(tmp_path)
    assert found.pop("mine.yml") == b"mine"
    assert sorted(found) == sorted(told)
    for name in ("prometheus/rules/scheduler.yml", "prometheus/rules/slo.yml", "alertmanager/alertmanager.yml"):
        assert found[name] == (ROOT / "deploy" / name).read_bytes()
    assert found["runbooks/SchedulerDown.md"] == (ROOT / "docs/how-to/runbooks/SchedulerDown.md").read_bytes()
    assert not [name for name in found if name.startswith("images/")]


def test_alerts_link_to_where_the_runbooks_are_read(tmp_path: Path) -> None:
    assert run(["observability", "export", str(tmp_path), "--runbooks-url", "https://wiki.example.com/jobs"]) == 0
    rules = "".join(path.read_text() for path in (tmp_path / "prometheus").rglob("*.yml"))
    assert "runbook_url: https://wiki.example.com/jobs/SchedulerDown.md\n" in rules
    assert "jobledger.io" not in rules


def test_a_file_is_no_place_for_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert run(["observability", "export", str(file)]) == 2
    assert "which is no directory" in capsys.readouterr().err
    assert file.read_text() == ""

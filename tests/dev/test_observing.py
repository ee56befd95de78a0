"""`jobledger dev --observe` where the programs are not installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobledger.dev.datadir import data_dir
from jobledger.dev.options import DevOptions
from jobledger.dev.supervisor import Supervisor


def test_what_is_not_installed_is_named_with_the_line_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the rest goes on."""
    monkeypatch.setenv("PATH", str(tmp_path))
    said: list[str] = []
    with data_dir(tmp_path / "data", ephemeral=False) as directory:
        Supervisor(DevOptions(observe=True), directory, said.append)._start_watchers()
    assert said == [
        "Alertmanager and Prometheus can't be found: apt-get install prometheus prometheus-alertmanager."
        " Going on without."
    ]

"""The one download: done by one process, whole or not at all."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jobledger.dev import jars


def test_of_two_at_once_one_downloads_and_the_other_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began: list[Path] = []

    def slow(staging: Path) -> list[Path]:
        began.append(staging)
        time.sleep(0.3)
        (staging / "a.jar").write_text("jar")
        return [staging / "a.jar"]

    monkeypatch.setattr(jars, "_resolve", slow)
    together = threading.Barrier(2)

    def fetch(_: int) -> Path:
        together.wait()
        return jars.kafka_jars(tmp_path / "cache")

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(fetch, range(2)))
    assert len(began) == 1
    assert found[0] == found[1]
    assert [path.name for path in found[0].iterdir()] == ["a.jar"]
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["download.lock", found[0].name]


def test_a_failed_download_says_what_to_do_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Path) -> list[Path]:
        raise OSError("no route to host")

    monkeypatch.setattr(jars, "_resolve", fail)
    with pytest.raises(jars.DownloadFailedError, match=r"\(no route to host\): check the network"):
        jars.kafka_jars(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["download.lock"]


def test_the_cache_is_where_the_user_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("JOBLEDGER_CACHE_DIR", raising=False)
    assert jars.default_cache_dir() == tmp_path / "jobledger"
    monkeypatch.setenv("JOBLEDGER_CACHE_DIR", str(tmp_path / "mine"))
    assert jars.default_cache_dir() == tmp_path / "mine"

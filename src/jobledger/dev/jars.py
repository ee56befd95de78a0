"""The broker's Java libraries: fetched once from Maven Central into the user's cache, offline from then on."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn

from jobledger.dev.extra import require_extra

KAFKA_VERSION = "4.4.0"
# kafka-clients is named beside the broker because the resolver otherwise settles on an older one. slf4j-simple is
# the one logging backend without a bill of materials that would drag other versions in.
_ARTIFACTS = (
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
    f"org.apache.kafka:kafka-clients:{KAFKA_VERSION}",
    "org.slf4j:slf4j-simple:1.7.36",
)
_EXPECTED_MEGABYTES = 40


class DownloadFailedError(RuntimeError):
    """The Java libraries could not be fetched; the text says what to do."""


def default_cache_dir() -> Path:
    """`$JOBLEDGER_CACHE_DIR`, else the user's cache directory."""
    if chosen := os.environ.get("JOBLEDGER_CACHE_DIR"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "jobledger"


def kafka_jars(cache_dir: Path) -> Path:
    """The directory with the broker's jars, downloaded first if need be (one process at a time).

    Raises DownloadFailedError when the download fails, ExtraMissingError when what downloads is not installed;
    nothing half-made stays behind.
    """
    # One directory for each set of artifacts: a change of the set is a new download, never a mixture.
    target = cache_dir / f"kafka-{KAFKA_VERSION}-1"
    if target.is_dir():
        return target
    require_extra()
    cache_dir.mkdir(parents=True, exist_ok=True)
    with only_one_process(cache_dir / "download.lock"):
        if not target.is_dir():
            _download(target)
    return target


@contextlib.contextmanager
def only_one_process(lock_path: Path) -> Iterator[None]:
    """One process at a time, whoever waits; for work that is done once for a machine."""
    with lock_path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _download(target: Path) -> None:
    staging = target.with_name(target.name + ".partial")
    shutil.rmtree(staging, ignore_errors=True)
    jars = staging / "lib"
    jars.mkdir(parents=True)
    try:
        for source in _resolve(staging):
            shutil.copyfile(source, jars / source.name)
    except Exception as error:
        shutil.rmtree(staging, ignore_errors=True)
        raise DownloadFailedError(
            f"Kafka {KAFKA_VERSION} could not be downloaded into {target.parent} ({error}): check the network and "
            "the proxy settings, then start again; the download happens only once."
        ) from error
    # The rename makes the whole set appear at once, so a directory that exists is complete.
    jars.rename(target)
    shutil.rmtree(staging, ignore_errors=True)


def _resolve(staging: Path) -> list[Path]:
    import jgo  # noqa: PLC0415 - slow to import and only needed for the one download
    from jgo.maven import PythonResolver  # noqa: PLC0415

    logging.getLogger("jgo").setLevel(logging.ERROR)
    with _progress() as callback:
        environment = jgo.build(
            "+".join(_ARTIFACTS), cache_dir=staging / "jgo", resolver=PythonResolver(progress_callback=callback)
        )
    found = sorted(Path(environment.path).rglob("*.jar"))
    if not any(jar.name == f"kafka-clients-{KAFKA_VERSION}.jar" for jar in found):
        raise DownloadFailedError(f"kafka-clients {KAFKA_VERSION} is not among the {len(found)} resolved artifacts")
    return found


_ReportBytes = Callable[[int], None]
_ReportFile = Callable[[str, int], contextlib.AbstractContextManager[_ReportBytes]]


@contextlib.contextmanager
def _progress() -> Iterator[_ReportFile]:
    """One bar for the whole download, on standard error; plain lines where that is no terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        console.print(f"Downloading Kafka {KAFKA_VERSION} (about {_EXPECTED_MEGABYTES} MB, only this once) …")
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"Kafka {KAFKA_VERSION} (only this once)", total=_EXPECTED_MEGABYTES * 1_000_000)
        yield lambda _name, _size: _one_file(progress, task)


@contextlib.contextmanager
def _one_file(progress: Progress, task: TaskID) -> Iterator[_ReportBytes]:
    yield lambda count: progress.advance(task, count)

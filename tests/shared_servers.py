"""One broker and one Postgres for all workers of a parallel run (pytest-xdist): started when the first test asks.

The controller of the run starts and stops them, since it outlives every worker. A worker asks with a file in a folder
that both know (`kafka.wanted`) and reads the answer from another (`kafka.address`, or `kafka.failed` with the reason).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from jobledger.dev.jars import default_cache_dir
from jobledger.dev.kafka import KafkaBroker
from jobledger.dev.ports import free_port
from jobledger.dev.postgres import EmbeddedPostgres

KAFKA, POSTGRES = "kafka", "postgres"
START_SECONDS = 120.0
LOOK_SECONDS = 0.05

Server = KafkaBroker | EmbeddedPostgres


class SharedServers:
    """The controller's side: starts what workers ask for, until `stop()`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._servers: dict[str, Server] = {}
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._serve, args=(name, make), daemon=True)
            for name, make in ((KAFKA, self._kafka), (POSTGRES, self._postgres))
        ]

    def start(self) -> None:
        """Begin to look for workers that ask."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop what was started."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()
        for server in self._servers.values():
            server.stop()

    def _kafka(self) -> tuple[Server, str]:
        broker = KafkaBroker(self._folder / KAFKA, free_port(), free_port(), default_cache_dir())
        broker.start()
        return broker, broker.bootstrap_servers

    def _postgres(self) -> tuple[Server, str]:
        postgres = EmbeddedPostgres(self._folder / POSTGRES, free_port())
        postgres.start()
        return postgres, postgres.dsn_of("postgres")

    def _serve(self, name: str, make: Callable[[], tuple[Server, str]]) -> None:
        while not (self._folder / f"{name}.wanted").exists():
            if self._stopped.wait(LOOK_SECONDS):
                return
        try:
            self._servers[name], address = make()
            _tell(self._folder / f"{name}.address", address)
        except Exception as error:  # noqa: BLE001 - told to the workers, whose tests fail with it
            _tell(self._folder / f"{name}.failed", f"{type(error).__name__}: {error}")


def _tell(path: Path, text: str) -> None:
    """Whole or not at all."""
    written = path.with_suffix(".partial")
    written.write_text(text)
    written.rename(path)


def shared_address(folder: Path, name: str) -> str:
    """A worker's side: the address of a shared server; raises RuntimeError when it cannot be started."""
    (folder / f"{name}.wanted").touch()
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if (address := folder / f"{name}.address").exists():
            return address.read_text()
        if (failed := folder / f"{name}.failed").exists():
            raise RuntimeError(failed.read_text())
        time.sleep(LOOK_SECONDS)
    raise RuntimeError(f"The shared {name} was not there within {START_SECONDS:.0f} s.")

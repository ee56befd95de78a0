"""`python -m jobledger.dev.stack`: a broker and a Postgres in the foreground, for development and tests."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from jobledger.dev.child import ChildFailedError
from jobledger.dev.extra import ExtraMissingError
from jobledger.dev.jars import DownloadFailedError, default_cache_dir
from jobledger.dev.kafka import KafkaBroker, prepare_kafka
from jobledger.dev.ports import is_free
from jobledger.dev.postgres import EmbeddedPostgres


@dataclass(frozen=True, slots=True)
class Stack:
    """Broker and Postgres that start and stop together."""

    broker: KafkaBroker
    postgres: EmbeddedPostgres

    @property
    def running(self) -> bool:
        """Whether both live."""
        return self.broker.running and self.postgres.running

    def start(self, timeout_seconds: float = 60.0) -> None:
        """Starts both at once; when one fails, the other is stopped too and the error raised."""
        with ThreadPoolExecutor(max_workers=2) as pool:
            starts = [pool.submit(server.start, timeout_seconds) for server in (self.broker, self.postgres)]
        try:
            for start in starts:
                start.result()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stops both at once."""
        with ThreadPoolExecutor(max_workers=2) as pool:
            stops = [pool.submit(self.broker.stop), pool.submit(self.postgres.stop)]
        for stop in stops:
            stop.result()

    def kill(self) -> None:
        """`kill -9` of both: the next start repairs what they were in the middle of."""
        self.broker.kill()
        self.postgres.kill()


def make_stack(data_dir: Path, kafka_port: int, controller_port: int, postgres_port: int) -> Stack:
    """The stack below one directory; what a broker needs is downloaded at its start if need be."""
    cache_dir = default_cache_dir()
    return Stack(
        KafkaBroker(data_dir / "kafka", kafka_port, controller_port, cache_dir),
        EmbeddedPostgres(data_dir / "postgres", postgres_port),
    )


def main() -> int:
    """Runs until SIGINT or SIGTERM; exit status 2 when a port is taken, 1 when a server ends by itself."""
    parser = argparse.ArgumentParser(prog="python -m jobledger.dev.stack", description=__doc__)
    parser.add_argument("--port-base", type=int, default=9092, help="Kafka; + 1 its controller; + 2 Postgres")
    parser.add_argument("--postgres-port", type=int, default=0, help="instead of port base + 2")
    parser.add_argument("--data-dir", type=Path, default=Path(".jobledger/stack"))
    arguments = parser.parse_args()
    ports = [arguments.port_base, arguments.port_base + 1, arguments.postgres_port or arguments.port_base + 2]
    if taken := [port for port in ports if not is_free(port)]:
        sys.stderr.write(f"Port {taken[0]} is taken: stop its owner or choose another --port-base.\n")
        return 2
    try:
        prepare_kafka(default_cache_dir())  # before signals are caught: Ctrl-C ends a download at once
    except (DownloadFailedError, ExtraMissingError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    done = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: done.set())
    try:
        stack = make_stack(arguments.data_dir, *ports)
        stack.start()
    except ChildFailedError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"Kafka    {stack.broker.bootstrap_servers}\nPostgres {stack.postgres.dsn}\n")
    sys.stdout.flush()
    while not done.wait(0.5) and stack.running:
        pass
    stack.stop()
    return 0 if done.is_set() else 1


if __name__ == "__main__":
    sys.exit(main())

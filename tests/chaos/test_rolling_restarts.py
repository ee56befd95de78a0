"""Schedulers that are told to end at any moment of their lives, the start included, end; and others serve."""

from __future__ import annotations

import os
import random
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from chaos_stack import PARTITIONS, Probe, Role
from confluent_kafka import Producer
from log_cell import DURABILITY, USER, submit
from role_forks import RoleForks
from uuid_utils.compat import uuid7

from jobledger.domain.identity import job_stream, partition_of
from jobledger.eventlog.topics import ensure_topics
from jobledger.schemas.commands import Command, CommandRecord, encode_record
from jobledger.settings import KafkaSettings

pytestmark = [pytest.mark.chaos, pytest.mark.kafka, pytest.mark.timeout(400)]

RESTARTS = 60
#: How long a scheduler lives after its first part has started: from "not joined yet" over "joining" to "serving".
LIFE_SECONDS = (0.0, 1.5)
#: What a role promises, and what a busy machine may add.
END_SECONDS = 10.0 + 5.0
SERVED_SECONDS = 15.0


class Load(threading.Thread):
    """Submits jobs without an end: it writes to the log directly, so that no other role is needed."""

    def __init__(self, bootstrap: str, cell: str) -> None:
        super().__init__(daemon=True)
        self._cell = cell
        self._producer = Producer({"bootstrap.servers": bootstrap, "log_level": 0})
        self._closing = threading.Event()
        self.sent = 0

    def run(self) -> None:
        while not self._closing.wait(0.05):
            for _ in range(3):
                stream = job_stream("default", str(uuid7()))
                command = Command(id=str(uuid7()), stream=stream, actor=USER, body=submit(), reply=False)
                value = encode_record(CommandRecord(commands=[command]))
                self._producer.produce(f"{self._cell}.commands", value, partition=partition_of(stream, PARTITIONS))
                self.sent += 1
            self._producer.poll(0)

    def close(self) -> None:
        self._closing.set()
        self.join(10)


class Restarts(threading.Thread):
    """Restarts one scheduler again and again; notes how each life ended and how long the end took."""

    def __init__(self, role: Role, seed: int) -> None:
        super().__init__(daemon=True)
        self._role = role
        self._random = random.Random(seed)
        self.codes: Counter[int] = Counter()
        self.took: list[float] = []
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            for _ in range(RESTARTS // 2):
                self._role.start()
                self._begins()
                time.sleep(self._random.uniform(*LIFE_SECONDS))
                self._end()
            self._role.start()
        except BaseException as error:  # noqa: BLE001 - told to the test
            self.failure = error

    def _begins(self) -> None:
        """Wait for the health page, the first part to start: what is told to end before it just ends."""
        deadline = time.monotonic() + 30
        while self._role.get("/health/live")[0] != 200:
            assert time.monotonic() < deadline and not self._role.ended, self._role.log_tail()
            time.sleep(0.02)

    def _end(self) -> None:
        process = self._role._process
        assert process is not None
        begun = time.monotonic()
        self._role.send(signal.SIGTERM)
        self.codes[process.wait(60)] += 1
        self.took.append(time.monotonic() - begun)


@pytest.fixture
def schedulers(bootstrap_servers: str, cell: str) -> Iterator[list[Role]]:
    environment = {
        **os.environ,
        "JOBLEDGER_CELL": cell,
        "JOBLEDGER_PARTITIONS": str(PARTITIONS),
        "JOBLEDGER_DEV": "1",
        "JOBLEDGER_SESSION_TIMEOUT_SECONDS": "6",
        "JOBLEDGER_LOG_LEVEL": "WARN",
        "JOBLEDGER_KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
        "JOBLEDGER_KAFKA_REPLICATION_FACTOR": "1",
        "JOBLEDGER_KAFKA_MIN_INSYNC_REPLICAS": "1",
    }
    kafka = KafkaSettings(bootstrap_servers=bootstrap_servers, replication_factor=1, min_insync_replicas=1)
    ensure_topics(kafka.client_config(), cell, PARTITIONS, DURABILITY)
    pipe = os.pipe()
    with tempfile.TemporaryDirectory(prefix="jobledger-restarts-") as folder:
        forks = RoleForks(environment, pipe[0])
        roles = [Role(f"scheduler-{n}", environment, Path(folder), pipe[0], forks) for n in (1, 2)]
        yield roles
        for role in roles:
            role.stop()
        for role in roles:
            role.end()
        forks.close()
    for end in pipe:
        os.close(end)


def test_sixty_restarts_at_random_moments_leave_a_cell_that_serves(
    schedulers: list[Role], bootstrap_servers: str, cell: str
) -> None:
    """Each scheduler ends in its grace whenever it is asked to, and each partition is served soon after the last."""
    seed = int(os.environ.get("JOBLEDGER_CHAOS_SEED", random.randrange(2**32)))
    print(f"seed {seed} (JOBLEDGER_CHAOS_SEED)")
    streams: dict[int, str] = {}
    while len(streams) < PARTITIONS:
        stream = job_stream("default", str(uuid7()))
        streams.setdefault(partition_of(stream, PARTITIONS), stream)
    probe, load = Probe(bootstrap_servers, cell, streams, every=0.5), Load(bootstrap_servers, cell)
    restarts = [Restarts(role, seed + n) for n, role in enumerate(schedulers)]
    try:
        for thread in (probe, load, *restarts):
            thread.start()
        for thread in restarts:
            thread.join(300)
            assert thread.failure is None and not thread.is_alive(), schedulers[0].log_tail()
        last = time.monotonic()
        took = sorted(seconds for thread in restarts for seconds in thread.took)
        print(f"ends: {sum((thread.codes for thread in restarts), Counter())}, longest {took[-1]:.1f} s, {took[-5:]}")
        served = {p: probe.answered_after(p, last, 60) for p in range(PARTITIONS)}
        print(f"served again after {max(served.values()):.1f} s; {load.sent} jobs were submitted")
        assert took[-1] < END_SECONDS, "\n".join(role.log_tail() for role in schedulers)
        assert max(served.values()) < SERVED_SECONDS, served
        assert all(not role.ended for role in schedulers)
    finally:
        load.close()
        probe.close()

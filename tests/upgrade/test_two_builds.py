"""A cell goes from the last build before this one's formats to this build and back, role by role, under load."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from chaos_stack import Client
from confluent_kafka import Consumer, TopicPartition
from two_builds import NEW, OLD, PARTITIONS, ROLES, TESTS, MixedStack

from jobledger.domain.levels import NEWEST, OLDEST
from jobledger.processors.cell_levels import read_levels, unready
from jobledger.replay.verify import verify
from jobledger.settings import KafkaSettings, Settings

pytestmark = [pytest.mark.kafka, pytest.mark.postgres, pytest.mark.slow, pytest.mark.timeout(240)]

#: Jobs that end in each mixture of builds before the next role moves.
ENDED_IN_EACH = 5


class Load(threading.Thread):
    """Submits jobs of several kinds, without an end."""

    def __init__(self, client: Client) -> None:
        super().__init__(daemon=True)
        self._client = client
        self._closing = threading.Event()
        self.failure: BaseException | None = None

    def run(self) -> None:
        retry = {"maxAttempts": 20, "initialSeconds": 0.2, "maxSeconds": 1}
        number = 0
        try:
            while not self._closing.wait(0.15):
                jobs: list[dict[str, Any]] = [
                    {"handler": "work", "payload": {"seconds": 0.1 * (number % 3)}, "retry": retry},
                    {"handler": "work", "payload": {"fail": 1}, "retry": retry, "idempotencyKey": f"key-{number}"},
                    {"handler": "work", "payload": {}, "delaySeconds": 1},
                ]
                made = self._client.submit(jobs)
                if number % 5 == 0:
                    self._client.cancel(made[2])
                number += 1
        except BaseException as error:  # noqa: BLE001 - told to the test
            self.failure = error

    def close(self) -> None:
        self._closing.set()
        self.join(60)
        assert self.failure is None and not self.is_alive(), self.failure


class Cell:
    """The roles, and what tells how far they are."""

    def __init__(self, bootstrap: str, cell: str, dsn: str, folder: Path) -> None:
        self.bootstrap, self.cell, self.dsn, self.folder = bootstrap, cell, dsn, folder
        self.stack = MixedStack(bootstrap, cell, dsn, folder)
        self.client = Client(self.stack)  # type: ignore[arg-type]  # it wants the folder and the port
        self.load = Load(self.client)

    def ended(self) -> int:
        """Jobs that have ended, as the read model shows them."""
        with psycopg.connect(self.dsn, options="-c search_path=jobledger") as connection:
            done = "SELECT count(*) FROM jobs WHERE status IN ('SUCCEEDED', 'CANCELLED', 'DEAD_LETTERED')"
            row = connection.execute(done).fetchone()
        assert row is not None
        return int(row[0])

    def wait_ended(self, wanted: int, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while (found := self.ended()) < wanted:
            tails = "\n".join(role.log_tail() for role in self.stack.roles.values())
            assert self.load.failure is None, self.load.failure
            assert time.monotonic() < deadline, f"{found} of {wanted} have ended with {self.stack.builds}\n{tails}"
            time.sleep(0.1)

    def roll(self, build: str) -> None:
        """Each role in turn; what runs goes on in each mixture."""
        for name in ROLES:
            before = self.ended()
            self.stack.move(name, build)
            self.wait_ended(before + ENDED_IN_EACH)

    def quarantined(self) -> int:
        """Records on the topic of what was set aside."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": f"{self.cell}-upgrade", "log_level": 0})
        topic = f"{self.cell}.quarantine"
        try:
            count = len(consumer.list_topics(topic, timeout=10).topics[topic].partitions)
            ends = [consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=10)[1] for p in range(count)]
        finally:
            consumer.close()
        return sum(ends)

    def judge(self) -> str:
        """What the history checker says, as a program of its own."""
        command = [sys.executable, str(TESTS / "chaos" / "history.py"), "--bootstrap", self.bootstrap]
        command += ["--cell", self.cell, "--dsn", self.dsn, "--journal", str(self.folder / "journal.jsonl")]
        command += ["--acks", str(self.folder / "acks.jsonl")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        print(done.stdout)
        return "" if done.returncode == 0 else done.stdout + done.stderr

    def difference(self) -> list[str]:
        """What `replay verify` finds."""
        kafka = KafkaSettings(bootstrap_servers=self.bootstrap)
        settings = Settings(cell=self.cell, partitions=PARTITIONS, postgres_dsn=self.dsn, kafka=kafka)
        report = asyncio.run(verify(settings))
        return [str(difference) for difference in report.differences]

    def stop(self) -> None:
        self.client.give_up()
        self.stack.stop()
        self.client.close()


@pytest.fixture
def old_cell(bootstrap_servers: str, cell: str, postgres_dsn: str) -> Iterator[Cell]:
    with tempfile.TemporaryDirectory(prefix="jobledger-upgrade-") as folder:
        one = Cell(bootstrap_servers, cell, postgres_dsn, Path(folder))
        yield one
        one.stop()


def test_a_rolling_upgrade_and_back_loses_nothing(old_cell: Cell) -> None:
    """Old and new roles work side by side in every mixture; the way back is open as long as nothing was enabled."""
    begun = time.monotonic()
    old_cell.stack.start(OLD)
    print(f"{time.monotonic() - begun:.1f} s: all roles are old")
    old_cell.load.start()
    old_cell.wait_ended(ENDED_IN_EACH)
    for build in (NEW, OLD):
        old_cell.roll(build)
        print(f"{time.monotonic() - begun:.1f} s: all roles are {build}")
    old_cell.load.close()
    old_cell.wait_ended(len(set(old_cell.client.accepted)))
    print(f"{time.monotonic() - begun:.1f} s: {old_cell.ended()} jobs have ended")
    levels = read_levels(KafkaSettings(bootstrap_servers=old_cell.bootstrap), old_cell.cell, PARTITIONS)
    assert [(one.level, one.reads) for one in levels] == [(OLDEST, OLDEST)] * PARTITIONS
    assert unready(levels, NEWEST) == list(range(PARTITIONS))
    assert not any(role.starts > 1 for role in old_cell.stack.roles.values())
    assert old_cell.quarantined() == 0
    assert old_cell.judge() == ""
    assert old_cell.difference() == []

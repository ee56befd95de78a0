"""Two thousand jobs while everything dies in turn; then the history checker and `replay verify` judge."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import signal
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
from chaos_stack import PARTITIONS, SESSION_SECONDS, Client, Probe, Stack
from confluent_kafka import Producer
from uuid_utils.compat import uuid7

from jobledger.dev.kafka import KafkaBroker
from jobledger.dev.postgres import EmbeddedPostgres
from jobledger.domain.identity import job_stream, partition_of, queue_stream
from jobledger.replay.verify import verify
from jobledger.settings import KafkaSettings, Settings

pytestmark = [pytest.mark.chaos, pytest.mark.kafka, pytest.mark.postgres, pytest.mark.timeout(600)]

JOBS = 2_000
HELD = 1_000
HOLD_SECONDS = 14


class World:
    """The stack, somebody who asks it, and those who give it work."""

    def __init__(self, broker: KafkaBroker, postgres: EmbeddedPostgres, cell: str, dsn: str, folder: Path) -> None:
        self.broker, self.postgres, self.cell, self.dsn, self.folder = broker, postgres, cell, dsn, folder
        self.stack = Stack(broker.bootstrap_servers, cell, dsn, folder)
        self.client = Client(self.stack)
        streams: dict[int, str] = {}
        while len(streams) < PARTITIONS:
            stream = job_stream("default", str(uuid7()))
            streams.setdefault(partition_of(stream, PARTITIONS), stream)
        self.probe = Probe(broker.bootstrap_servers, cell, streams)
        self.figures: dict[str, float] = {}
        self.random = random.Random(7)
        self._drip = threading.Thread(target=self._submit_drip, daemon=True)
        self._calm = threading.Event()
        self._failure: BaseException | None = None
        self._begun = time.monotonic()
        self.judged_well = False

    def start(self) -> None:
        self.stack.start()
        self.probe.start()
        self._drip.start()
        self.figures["start"] = time.monotonic() - self._begun

    def step(self, name: str) -> None:
        print(f"{time.monotonic() - self._begun:6.1f} s  {name}; {len(self.client.accepted)} jobs accepted", flush=True)

    # -- work -----------------------------------------------------------------------------------------------------

    def _submit_drip(self) -> None:
        try:
            left = JOBS - HELD
            while left > 0:
                jobs = self.client.submit([self._any_job() for _ in range(min(10, left))])
                left -= len(jobs)
                for job in self.random.sample(jobs, 1):
                    self.client.cancel(job)
                self._calm.wait(0.6)
        except BaseException as error:  # noqa: BLE001 - told to the test when it waits
            self._failure = error

    def _any_job(self) -> dict[str, Any]:
        roll = self.random.random()
        payload: dict[str, Any] = {"seconds": self.random.choice([0, 0, 0.2, 1.5]), "tick": 0.1}
        job: dict[str, Any] = {"handler": "work", "payload": payload, "priority": self.random.randint(1, 5)}
        # Losing its worker costs a started job an attempt: there must be enough of them for this test.
        job["retry"] = {"maxAttempts": 20, "initialSeconds": 0.5, "maxSeconds": 2}
        if roll < 0.15:
            job["delaySeconds"] = self.random.randint(1, 12)
        elif roll < 0.3:
            payload["fail"] = 1
        elif roll < 0.4:
            job["idempotencyKey"] = str(uuid7())
        elif roll < 0.45:
            job["handler"] = "work_in_process"
        return job

    def hold(self) -> None:
        """A thousand jobs that all run at once for a while."""
        job = {
            "handler": "work",
            "payload": {"seconds": HOLD_SECONDS, "tick": 1.0},
            "retry": {"maxAttempts": 20, "initialSeconds": 0.5, "maxSeconds": 2},
        }
        for _ in range(HELD // 250):
            self.client.submit([job] * 250)

    def running(self) -> int:
        with psycopg.connect(self.dsn, options="-c search_path=jobledger") as connection:
            row = connection.execute("SELECT count(*) FROM jobs WHERE status = 'RUNNING'").fetchone()
        return int(row[0]) if row else 0

    def ended(self, seconds: float) -> None:
        """Wait until all work is given and everything accepted has ended and is shown."""
        self._calm.set()
        self._drip.join(seconds)
        assert self._failure is None, self._failure
        assert not self._drip.is_alive()
        deadline = time.monotonic() + seconds
        wanted = len(set(self.client.accepted))
        while True:
            with (
                contextlib.suppress(psycopg.OperationalError),
                psycopg.connect(self.dsn, options="-c search_path=jobledger") as connection,
            ):
                found = dict(connection.execute("SELECT status, count(*) FROM jobs GROUP BY status").fetchall())
                done = sum(found.get(s, 0) for s in ("SUCCEEDED", "CANCELLED", "DEAD_LETTERED"))
                if done == sum(found.values()) >= wanted:
                    print(f"ended: {found}")
                    return
            assert time.monotonic() < deadline, f"{found} of {wanted}"
            time.sleep(0.3)

    # -- faults ---------------------------------------------------------------------------------------------------

    def kill_owner(self, partition: int, figure: str) -> None:
        """kill -9 of a scheduler; its partitions are served by the other one; then it comes back."""
        role = self.stack.owner_of(partition)
        served = role.served()
        at = role.kill()
        self.figures[figure] = max(self.probe.answered_after(p, at) for p in served)
        role.start()

    def repeat_and_break(self) -> None:
        """Repeats of commands and keys, and bytes that are nothing on every topic."""
        five = {"handler": "work", "payload": {}, "commandId": str(uuid7())}
        for _ in range(5):
            self.client.submit([five])
        key = str(uuid7())
        for _ in range(3):
            self.client.submit([{"handler": "work", "payload": {}, "idempotencyKey": key}])
        producer = Producer({"bootstrap.servers": self.broker.bootstrap_servers})
        for topic in ("commands", "events", "state", "outcomes", "tasks", "heartbeats", "quarantine"):
            for value in (b"\xff\x00", b"{", b"", None, b"[" * 5_000):
                producer.produce(f"{self.cell}.{topic}", value, b"", 0)
        good = '{"id":"x","stream":"job:default:y","actor":{"kind":"user","id":"u"},"body":{"type":"job.query.v1"}}'
        for broken in ("7", '{"id":"z"}', good.replace("job.query.v1", "job.explode.v1")):
            record = f'{{"commands":[{good},{broken},{good}]}}'
            producer.produce(f"{self.cell}.commands", record.encode(), partition=0)
        assert producer.flush(10) == 0

    def stop_a_scheduler(self) -> None:
        """SIGSTOP for longer than its session: others take over, are not held up meanwhile, and it comes back."""
        role = self.stack["scheduler-1"]
        starts = role.starts
        stopped, others = role.served(), self.stack["scheduler-2"].served()
        assert stopped and others
        begin = time.monotonic()
        role.send(signal.SIGSTOP)
        time.sleep(SESSION_SECONDS + 4)
        end = time.monotonic()
        self.figures["served_again_after_stop"] = max(self.probe.answered_after(p, begin) for p in stopped)
        role.send(signal.SIGCONT)
        self.stack.balanced()  # it has learnt that its time is over, and got its share of the partitions anew
        assert role.starts == starts, "it should not have had to end for that"
        for partition in others:
            latencies = self.probe.latencies(partition, begin, end)
            assert len(latencies) > 30
            p99 = latencies[int(len(latencies) * 0.99)]
            self.figures["p99_of_others"] = max(self.figures.get("p99_of_others", 0.0), p99)

    # -- judgement ------------------------------------------------------------------------------------------------

    def judge(self) -> str:
        """What the history checker says, as a program of its own."""
        program = Path(__file__).with_name("history.py")
        command = [sys.executable, str(program), "--bootstrap", self.broker.bootstrap_servers, "--cell", self.cell]
        command += ["--dsn", self.dsn, "--journal", str(self.folder / "journal.jsonl")]
        command += ["--acks", str(self.folder / "acks.jsonl")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        print(done.stdout[-2_000:], done.stderr[-2_000:])
        return "" if done.returncode == 0 else done.stdout + done.stderr

    def difference(self) -> list[str]:
        """What `replay verify` finds."""
        settings = Settings(
            cell=self.cell,
            partitions=PARTITIONS,
            postgres_dsn=self.dsn,
            kafka=KafkaSettings(bootstrap_servers=self.broker.bootstrap_servers),
        )
        report = asyncio.run(verify(settings))
        print(*report.lines(), sep="\n")
        return [str(difference) for difference in report.differences]

    def stop(self) -> None:
        self._calm.set()
        self.client.give_up()
        try:
            self.stack.stop()
        finally:
            self.probe.close()
            if self._drip.ident is not None:
                self._drip.join(30)
            self.client.close()


@pytest.fixture
def world(kafka_broker: KafkaBroker, postgres: EmbeddedPostgres, cell: str, postgres_dsn: str) -> Iterator[World]:
    folder = Path(tempfile.mkdtemp(prefix="jobledger-chaos-"))
    one = World(kafka_broker, postgres, cell, postgres_dsn, folder)
    try:
        one.start()
        yield one
    finally:
        one.stop()
    if one.judged_well:
        shutil.rmtree(folder)
    else:
        # The log is what tells what went wrong, and the broker takes it along.
        kept = [path for path in kafka_broker.data_dir.glob(f"log/{cell}.*") if path.is_dir()]
        kept += kafka_broker.data_dir.glob("log/__transaction_state-*")
        for path in kept:
            shutil.copytree(path, folder / "kafka" / path.name)
        shutil.copy(kafka_broker.log_path, folder / "broker.log")
        print(f"journal, acks, logs and the topics are in {folder}")


def kill_each_in_turn(world: World) -> None:
    stack = world.stack
    world.step("kill -9 of a scheduler")
    world.kill_owner(0, "served_again_after_kill")
    world.step("kill -9 of a worker with tasks")
    stack["worker-2"].kill()
    stack["worker-2"].start()
    world.step("kill -9 of a projector")
    stack["projector-1"].kill()
    stack["projector-1"].start()
    world.step("kill -9 of the api")
    stack["api-1"].kill()
    stack["api-1"].start()
    stack.ready()


def kill_the_queue_s_owner_under_load(world: World) -> None:
    world.step(f"kill -9 of the queue's owner with {HELD} running tasks")
    world.hold()
    deadline = time.monotonic() + 40
    while (most := world.running()) < HELD * 0.95:
        assert time.monotonic() < deadline, f"only {most} run"
        time.sleep(0.2)
    world.figures["running_at_the_kill"] = most
    world.kill_owner(partition_of(queue_stream("default", "default"), PARTITIONS), "served_again_queue_owner")
    world.stack.ready()
    world.stack.balanced()


def stop_and_kill_at_any_moment(world: World) -> None:
    stack = world.stack
    world.step("SIGSTOP of a scheduler")
    world.stop_a_scheduler()
    world.step("SIGSTOP of a worker, longer than its lease; kill -9 of schedulers at any moment meanwhile")
    stack["worker-1"].send(signal.SIGSTOP)
    for _ in range(6):
        role = world.random.choice(stack.schedulers)
        if not role.ended:
            role.kill()
        role.start()
        time.sleep(world.random.uniform(0.3, 3))
    stack["worker-1"].send(signal.SIGCONT)


def restart_the_servers(world: World) -> None:
    stack = world.stack
    world.step("restart of the broker")
    world.broker.stop()
    world.broker.start()
    world.step("kill -9 of Postgres")
    world.postgres.kill()
    world.postgres.start()
    world.step("kill -9 of a worker, a projector and a scheduler at once")
    for name in ("worker-3", "projector-2", "scheduler-2"):
        stack[name].kill()
        stack[name].start()
    stack.ready()


def test_every_job_ends_once_whatever_dies(world: World) -> None:
    world.step("started")
    world.repeat_and_break()
    world.stack.balanced()
    kill_each_in_turn(world)
    kill_the_queue_s_owner_under_load(world)
    stop_and_kill_at_any_moment(world)
    restart_the_servers(world)
    world.step("waiting for the end")
    world.ended(90)
    world.step("all ended")
    violations, differences = world.judge(), world.difference()
    world.step(f"judged; figures {world.figures}")
    assert violations == "" and differences == []
    world.judged_well = True
    assert world.figures["served_again_after_kill"] < 15
    assert world.figures["served_again_queue_owner"] < 15
    assert world.figures["p99_of_others"] < 1

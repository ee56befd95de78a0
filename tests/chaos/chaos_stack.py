"""The roles of a cell as processes that tests kill and stop, with somebody who starts again what has ended."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import httpx
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from role_forks import ForkedRole, RoleForks
from uuid_utils.compat import uuid7

from jobledger.dev.descendants import Descendants
from jobledger.dev.parent import PARENT_FD_VARIABLE
from jobledger.dev.ports import free_port

SESSION_SECONDS = 6.0
LEASE_SECONDS = 6.0
PARTITIONS = 4
LEFT_SECONDS = 10.0


class Role:
    """One process of one role; `wanted` ones are started again when they end."""

    def __init__(
        self, name: str, environment: dict[str, str], folder: Path, parent_pipe: int, forks: RoleForks
    ) -> None:
        self.name = name
        self._forks = forks
        self.role = name.rpartition("-")[0]
        self.port = free_port()
        self.starts = 0
        self.wanted = False
        self._starting = threading.Lock()
        self._environment = {
            **environment,
            PARENT_FD_VARIABLE: str(parent_pipe),
            "JOBLEDGER_INSTANCE_ID": name,
            "JOBLEDGER_HEALTH_PORT": str(self.port),
        }
        self._log = folder / f"{name}.log"
        self._process: ForkedRole | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def start(self) -> None:
        """Start it unless it runs: both the test and the supervisor may want to."""
        with self._starting:
            if self.ended:
                self._start()
            self.wanted = True

    def _start(self) -> None:
        self.starts += 1
        # It ends when this process does: the parent's pipe is with it.
        self._process = self._forks.start(self.role, self._environment, self._log)

    def kill(self) -> float:
        """kill -9 of the role alone, not of what it has started; it stays down. Gives the moment."""
        self.wanted = False
        at = time.monotonic()
        os.kill(self.pid, signal.SIGKILL)
        assert self._process is not None
        self._process.wait()
        return at

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def stop(self) -> None:
        self.wanted = False
        if not self.ended:
            self.send(signal.SIGCONT)
            self.send(signal.SIGTERM)

    def end(self) -> None:
        """Wait for the end; kill what is left of its session."""
        if self._process is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()

    @property
    def ready(self) -> bool:
        return not self.ended and self.get("/health/ready")[0] == 200

    def served(self) -> list[int]:
        """Partitions that a scheduler serves."""
        _, body = self.get("/health/status")
        try:
            components = json.loads(body)["components"]
        except (ValueError, KeyError):
            return []
        found: list[int] = components["coordination"].get("partitions", [])
        return found

    def log_tail(self) -> str:
        return self._log.read_text(errors="replace")[-3_000:]


class Stack:
    """All roles of a cell."""

    def __init__(self, bootstrap: str, cell: str, dsn: str, folder: Path) -> None:
        self.folder = folder
        self._pipe = os.pipe()
        self.api_port = free_port()
        here = str(Path(__file__).parent)
        self.descendants = Descendants()
        environment = {
            **os.environ,
            **self.descendants.environment,
            "PYTHONPATH": here,
            "CHAOS_JOURNAL": str(folder / "journal.jsonl"),
            "JOBLEDGER_CELL": cell,
            "JOBLEDGER_PARTITIONS": str(PARTITIONS),
            "JOBLEDGER_DEV": "1",
            "JOBLEDGER_POSTGRES_DSN": dsn,
            "JOBLEDGER_API_PORT": str(self.api_port),
            "JOBLEDGER_HANDLERS": "chaos_handlers",
            "JOBLEDGER_WORKER_SLOTS": "400",
            "JOBLEDGER_SESSION_TIMEOUT_SECONDS": str(SESSION_SECONDS),
            "JOBLEDGER_LEASE_SECONDS": str(LEASE_SECONDS),
            "JOBLEDGER_HEARTBEAT_INTERVAL_SECONDS": "1",
            "JOBLEDGER_LOG_LEVEL": "WARN",
            "JOBLEDGER_KAFKA_BOOTSTRAP_SERVERS": bootstrap,
            "JOBLEDGER_KAFKA_REPLICATION_FACTOR": "1",
            "JOBLEDGER_KAFKA_MIN_INSYNC_REPLICAS": "1",
        }
        self._forks = RoleForks(environment, self._pipe[0])
        counts = {"scheduler": 2, "projector": 2, "api": 1, "worker": 3}
        self.roles = {
            name: Role(name, environment, folder, self._pipe[0], self._forks)
            for role, count in counts.items()
            for name in (f"{role}-{number + 1}" for number in range(count))
        }
        self._closing = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, daemon=True)

    def __getitem__(self, name: str) -> Role:
        return self.roles[name]

    @property
    def schedulers(self) -> list[Role]:
        return [role for role in self.roles.values() if role.role == "scheduler"]

    def start(self) -> None:
        for role in self.roles.values():
            role.start()
        self.ready(90)
        self._supervisor.start()

    def ready(self, seconds: float = 60) -> None:
        """Wait until every role is."""
        begun = time.monotonic()
        for role in self.roles.values():
            while not role.ready:
                assert time.monotonic() < begun + seconds, f"{role.name} is not ready: {role.log_tail()}"
                time.sleep(0.1)
            if time.monotonic() - begun > 10:
                print(f"         {role.name} was ready after {time.monotonic() - begun:.1f} s")

    def owner_of(self, partition: int, seconds: float = 30) -> Role:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for role in self.schedulers:
                if partition in role.served():
                    return role
            time.sleep(0.1)
        raise AssertionError(f"nobody serves partition {partition}")

    def balanced(self, seconds: float = 40) -> None:
        """Wait until both schedulers serve two partitions."""
        deadline = time.monotonic() + seconds
        while not all(len(role.served()) == PARTITIONS // 2 for role in self.schedulers):
            assert time.monotonic() < deadline, {role.name: role.served() for role in self.schedulers}
            time.sleep(0.1)

    def _supervise(self) -> None:
        while not self._closing.wait(0.3):
            for role in self.roles.values():
                if role.wanted and role.ended:
                    role.start()

    def stop(self) -> None:
        """Stop all roles; fails when one of them, or anything that they have started, outlives it."""
        self._closing.set()
        for role in self.roles.values():
            role.stop()
        for role in self.roles.values():
            role.end()
        self._forks.close()
        left = self.descendants.left_after(LEFT_SECONDS)
        self.descendants.kill()
        for end in self._pipe:
            os.close(end)
        assert left == []


class Client:
    """Submits and cancels over GraphQL, again and again until it is told what became of it; writes down the answers."""

    def __init__(self, stack: Stack) -> None:
        self._url = f"http://127.0.0.1:{stack.api_port}/graphql"
        self._acks = (stack.folder / "acks.jsonl").open("a", buffering=1)
        self._http = httpx.Client(timeout=15)
        self._closing = threading.Event()
        self.accepted: list[str] = []
        self._lock = threading.Lock()

    def submit(self, jobs: list[dict[str, Any]]) -> list[str]:
        """Accepted when this returns. Each job gets a command id unless it brings one."""
        given = [{"commandId": str(uuid7()), **job} for job in jobs]
        query = (
            "mutation($input: [SubmitJobInput!]!) { submitJobs(input: $input) { __typename ... on SubmitJobsSuccess {"
            " results { __typename ... on SubmitJobSuccess { job { id } } ... on UserError { code message } } } } }"
        )
        left = list(range(len(given)))
        ids: dict[int, str] = {}
        while left:
            answer = self._post(query, {"input": [given[n] for n in left]})
            for n, result in zip(left, (answer.get("submitJobs") or {}).get("results") or [], strict=False):
                assert result["__typename"] in ("SubmitJobSuccess", "Pending"), result
                if result["__typename"] == "SubmitJobSuccess":
                    ids[n] = result["job"]["id"]
                    job = given[n]
                    self._note({"job": ids[n], "command": job["commandId"], "key": job.get("idempotencyKey")}, ids[n])
            left = [n for n in left if n not in ids]
        return [ids[n] for n in range(len(given))]

    def cancel(self, job: str) -> None:
        query = (
            "mutation($input: CancelJobInput!) { cancelJob(input: $input) { __typename"
            " ... on CancelJobSuccess { job { id status } } ... on UserError { code } } }"
        )
        answer: dict[str, Any] = {}
        command = str(uuid7())
        while answer.get("__typename") in (None, "Pending"):
            answer = self._post(query, {"input": {"id": job, "commandId": command}}).get("cancelJob") or {}
        if answer["__typename"] == "CancelJobSuccess":
            self._note({"cancel": job, "status": answer["job"]["status"]})

    def _post(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """The data of an answer; empty when there was none, so that it is unknown what happened."""
        if self._closing.is_set():
            raise RuntimeError("the client is closed")
        try:
            answer = self._http.post(self._url, json={"query": query, "variables": variables})
            body = answer.json()
        except (httpx.HTTPError, ValueError):
            time.sleep(0.2)
            return {}
        unavailable = [e for e in body.get("errors") or [] if e.get("extensions", {}).get("code") != "UNAVAILABLE"]
        assert not unavailable, unavailable
        return body.get("data") or {}

    def _note(self, ack: dict[str, Any], job: str | None = None) -> None:
        with self._lock:
            self._acks.write(json.dumps(ack) + "\n")
            if job is not None:
                self.accepted.append(job)

    def give_up(self) -> None:
        """Nothing is tried again from now on."""
        self._closing.set()

    def close(self) -> None:
        self._http.close()
        self._acks.close()


class Probe(threading.Thread):
    """Asks every partition's owner something, `every` so many seconds, and notes how long the answer takes."""

    def __init__(self, bootstrap: str, cell: str, streams: dict[int, str], every: float = 0.1) -> None:
        super().__init__(daemon=True)
        self._every = every
        self._cell = cell
        self._streams = streams
        self._closing = threading.Event()
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0, "log_level": 0})
        self._consumer = Consumer(
            {"bootstrap.servers": bootstrap, "group.id": f"{cell}-probe", "isolation.level": "read_committed",
             "fetch.wait.max.ms": 100, "log_level": 0}
        )  # fmt: skip
        self._sent: dict[str, tuple[int, float]] = {}
        #: (partition, sent, answered) in seconds of the monotonic clock.
        self.answers: list[tuple[int, float, float]] = []

    def run(self) -> None:
        topic = f"{self._cell}.outcomes"
        starts = []
        for partition in range(PARTITIONS):
            at = TopicPartition(topic, partition)
            at.offset = self._end(at)
            starts.append(at)
        self._consumer.assign(starts)
        turn = 0.0
        while not self._closing.is_set():
            if time.monotonic() > turn:
                turn = time.monotonic() + self._every
                self._ask()
            message = self._consumer.poll(0.02)
            if message is None or message.error() is not None:
                if message is not None and message.error().code() != KafkaError._PARTITION_EOF:
                    time.sleep(0.02)
                continue
            sent = self._sent.pop((message.key() or b"").decode(), None)
            if sent is not None:
                self.answers.append((*sent, time.monotonic()))
        self._consumer.close()

    def _end(self, at: TopicPartition) -> int:
        """The end of a partition, which may be so new that its leader does not know it yet."""
        deadline = time.monotonic() + 10
        while True:
            try:
                return int(self._consumer.get_watermark_offsets(at, timeout=10)[1])
            except KafkaException:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def _ask(self) -> None:
        for partition, stream in self._streams.items():
            command = {
                "id": str(uuid7()),
                "stream": stream,
                "actor": {"kind": "user", "id": "probe"},
                "body": {"type": "job.query.v1"},
                "reply": True,
            }
            self._sent[command["id"]] = (partition, time.monotonic())  # type: ignore[index]
            with contextlib.suppress(BufferError):
                value = json.dumps({"commands": [command]}).encode()
                self._producer.produce(f"{self._cell}.commands", value, partition=partition)
        self._producer.poll(0)

    def answered_after(self, partition: int, moment: float, seconds: float = 30) -> float:
        """Seconds from a moment to the first answer to a question asked after it."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = [done for p, sent, done in list(self.answers) if p == partition and sent > moment]
            if found:
                return min(found) - moment
            time.sleep(0.02)
        raise AssertionError(f"partition {partition} gave no answer for {seconds} s")

    def latencies(self, partition: int, begin: float, end: float) -> list[float]:
        """How long answers took to questions asked in a span of time; unanswered ones count as endless."""
        found = [done - sent for p, sent, done in list(self.answers) if p == partition and begin <= sent < end]
        open_ones = [1e9 for p, sent in list(self._sent.values()) if p == partition and begin <= sent < end]
        return sorted(found + open_ones)

    def close(self) -> None:
        self._closing.set()
        if self.ident is not None:
            self.join(10)

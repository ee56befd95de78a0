"""A stand-in for the partition owners: one thread that decides commands and writes events and outcomes."""

from __future__ import annotations

import threading
import time
import uuid
from collections import deque
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

from jobledger.domain.aggregates import AGGREGATES, State, head, mutate
from jobledger.domain.commands import CREATING
from jobledger.domain.effects import FollowUp
from jobledger.domain.identity import partition_of, split_stream
from jobledger.domain.job_commands import SubmitJob
from jobledger.domain.job_state import Job
from jobledger.domain.queue import DISPATCH_AFTER
from jobledger.domain.queue_commands import DispatchTasks
from jobledger.domain.values import SYSTEM, Answer, Code, Lineage, Rejection
from jobledger.schemas.commands import Command, read_record
from jobledger.schemas.events import EventMapper, EventRecord, cloudevents_headers
from jobledger.schemas.outcomes import Outcome, OutcomeStatus, encode_outcome


class StandinOwner:
    """Owns all partitions of a cell. `paused`: commands stay in the log."""

    def __init__(self, bootstrap: str, cell: str, partitions: int) -> None:
        self._cell, self._partitions = cell, partitions
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0, "acks": "all"})
        self._consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": f"{cell}.owner"})
        self._consumer.assign([TopicPartition(f"{cell}.commands", p, 0) for p in range(partitions)])
        self.states: dict[str, State] = {}
        self.seq = dict.fromkeys(range(partitions), 0)
        self.commands: list[Command] = []
        self._first: dict[str, Outcome] = {}
        self._keys: dict[str, tuple[str, str | None]] = {}
        self._mapper = EventMapper()
        self._stopping = threading.Event()
        self.paused = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()
        self._producer.flush(5)
        self._consumer.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            if self.paused.is_set():
                time.sleep(0.02)
                continue
            for message in self._consumer.consume(500, 0.02):
                if message.error() is None:
                    self.take(read_record(message.value() or b"").commands)
            self._producer.poll(0)

    def take(self, commands: Any) -> None:
        """Decide commands and what follows from them, in order."""
        left = deque(commands)
        while left:
            command = left.popleft()
            self.commands.append(command)
            left.extend(self._decide(command))
        self._producer.flush(5)

    def _decide(self, command: Command) -> list[Command]:
        now = time.time_ns() // 1_000_000
        stream, body, duplicate = command.stream, command.body, False
        if isinstance(body, SubmitJob) and body.key_digest in self._keys:
            stream, request = self._keys[body.key_digest]
            if request != body.request_digest:
                problem = Rejection(code=Code.IDEMPOTENCY_KEY_REUSED, message="The key was used.", field="key")
                self._answer(command, stream, problem, duplicate=False)
                return []
            duplicate = True
        if isinstance(body, CREATING) and (
            duplicate or (stream in self._first and self._first[stream].command_id == command.id)
        ):
            first = self._first[stream]
            self._send("outcomes", stream, encode_outcome(_as(first, command.id)))
            return []
        decided = AGGREGATES[split_stream(stream)[0]].decide(stream, self.states.get(stream), body, now)
        follow = self._apply(command, stream, decided, now) if isinstance(decided, list) else []
        if isinstance(body, SubmitJob) and body.key_digest:
            self._keys[body.key_digest] = (stream, body.request_digest)
        self._answer(command, stream, decided, duplicate=False)
        return follow

    def _apply(self, command: Command, stream: str, events: list[Any], now: int) -> list[Command]:
        follow, dispatch = [], False
        lineage = command.body.lineage if isinstance(command.body, SubmitJob) else self._lineage(stream)
        for event in events:
            state = self.states.get(stream)
            version = head(state).version + 1 if state else 1
            record = self._write(command, stream, version, event, lineage, now)
            state = self.states[stream] = mutate(state, record)
            dispatch |= isinstance(event, DISPATCH_AFTER)
            for effect in AGGREGATES[split_stream(stream)[0]].react(state, event):
                if isinstance(effect, FollowUp):
                    follow.append(Command(id=str(uuid.uuid4()), stream=effect.stream, actor=SYSTEM, body=effect.body))
        if dispatch:
            follow.append(Command(id=str(uuid.uuid4()), stream=stream, actor=SYSTEM, body=DispatchTasks()))
        return follow

    def _lineage(self, stream: str) -> Lineage:
        state = self.states.get(stream)
        return state.lineage if isinstance(state, Job) else Lineage()

    def _write(
        self, command: Command, stream: str, version: int, event: Any, lineage: Lineage, now: int
    ) -> EventRecord:
        partition = partition_of(stream, self._partitions)
        self.seq[partition] += 1
        record = EventRecord(
            id=str(uuid.uuid4()),
            originator_id=stream,
            originator_version=version,
            seq=self.seq[partition],
            tenant=split_stream(stream)[1],
            at_ms=now,
            command_id=command.id,
            actor=command.actor,
            data=event,
            correlation_id=command.correlation_id,
            traceparent=command.traceparent,
            lineage=lineage,
        )
        state = self._mapper.to_stored_event(record).state
        headers = cloudevents_headers(record, f"/cells/{self._cell}/tenants/default".encode())
        self._producer.produce(f"{self._cell}.events", state, stream.encode(), partition, headers=headers)
        return record

    def _answer(self, command: Command, stream: str, decided: Any, *, duplicate: bool) -> None:
        if not command.reply:
            return
        partition = partition_of(stream, self._partitions)
        state = self.states.get(stream)
        outcome = Outcome(
            command_id=command.id,
            stream=stream,
            status=OutcomeStatus.REJECTED if isinstance(decided, Rejection) else OutcomeStatus.ACCEPTED,
            partition=partition,
            seq=self.seq[partition],
            at_ms=time.time_ns() // 1_000_000,
            version=head(state).version if state else 0,
            duplicate=duplicate,
            status_after=state.status.value if isinstance(state, Job) else None,
            rejection=decided if isinstance(decided, Rejection) else None,
            answer=decided.data if isinstance(decided, Answer) else None,
        )
        if isinstance(command.body, CREATING) and outcome.status is OutcomeStatus.ACCEPTED:
            self._first.setdefault(stream, outcome)
        self._send("outcomes", stream, encode_outcome(outcome))

    def _send(self, role: str, stream: str, value: bytes) -> None:
        self._producer.produce(f"{self._cell}.{role}", value, stream.encode(), partition_of(stream, self._partitions))


def _as(first: Outcome, command_id: str) -> Outcome:
    import msgspec

    return msgspec.structs.replace(first, command_id=command_id, duplicate=True)

"""Judges a history: reads the topics of a cell, Postgres, the workers' journal and what clients were told.

    python tests/chaos/history.py --bootstrap HOST:PORT --cell CELL --dsn DSN --journal FILE --acks FILE

It knows the public form of the events and nothing of the code that wrote them. The journal holds a JSON line for
each moment of a handler: {"what": "start" | "tick" | "end", "job", "execution", "attempt", "assignment", "pid",
"mono" (seconds, one clock for all), "wall_ms"}. The acks: {"job", "command", "key" | null} for each accepted
submission, {"cancel": job, "status"} for each accepted cancel. Exit status 1 when a rule was broken.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from confluent_kafka import Consumer, KafkaError, TopicPartition

TERMINAL = {
    "job.succeeded.v1": "SUCCEEDED",
    "job.cancelled.v1": "CANCELLED",
    "job.dead_lettered.v1": "DEAD_LETTERED",
}
CLOSING = {"task.succeeded.v1", "task.failed.v1", "task.lost.v1", "task.returned.v1", "task.cancelled.v1"}


@dataclass(frozen=True)
class Event:
    """An event as it stands in the log."""

    partition: int
    seq: int
    stream: str
    version: int
    at_ms: int
    command_id: str
    data: dict[str, Any]

    @property
    def type(self) -> str:
        return str(self.data["type"])


@dataclass
class History:
    """Everything there is to judge by. Events of a partition stand in the order of the log."""

    events: list[Event] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    journal: list[dict[str, Any]] = field(default_factory=list)
    acks: list[dict[str, Any]] = field(default_factory=list)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    event_rows: dict[int, tuple[int, int]] = field(default_factory=dict)
    positions: dict[int, int] = field(default_factory=dict)

    def streams(self, kind: str) -> dict[str, list[Event]]:
        """The events by stream, in the order of the log."""
        found: dict[str, list[Event]] = defaultdict(list)
        for event in self.events:
            if event.stream.startswith(kind + ":"):
                found[event.stream].append(event)
        return found

    def attempts(self) -> dict[str, dict[int, list[dict[str, Any]]]]:
        """The journal's lines by job and assignment."""
        found: dict[str, dict[int, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
        for line in self.journal:
            found[line["job"]][line["assignment"]].append(line)
        return found


Found = Iterator[str]


def gapless(history: History) -> Found:
    """seq counts 1, 2, 3 … per partition, version per stream, and a stream lives on one partition."""
    seqs: dict[int, int] = defaultdict(int)
    versions: dict[str, int] = defaultdict(int)
    homes: dict[str, int] = {}
    for event in history.events:
        if event.seq != seqs[event.partition] + 1:
            yield f"partition {event.partition} goes from seq {seqs[event.partition]} to {event.seq}"
        if event.version != versions[event.stream] + 1:
            yield f"{event.stream} goes from version {versions[event.stream]} to {event.version}"
        if homes.setdefault(event.stream, event.partition) != event.partition:
            yield f"{event.stream} stands on partitions {homes[event.stream]} and {event.partition}"
        seqs[event.partition], versions[event.stream] = event.seq, event.version


def accepted_is_there(history: History) -> Found:
    """Every accepted submission is a job, one command or key stands for one job."""
    jobs = {stream.rpartition(":")[2] for stream in history.streams("job")}
    by_key: dict[str, set[str]] = defaultdict(set)
    for ack in history.acks:
        if "job" not in ack:
            continue
        if ack["job"] not in jobs:
            yield f"job {ack['job']} was accepted and is not in the log"
        for name in ("command", "key"):
            if ack.get(name):
                by_key[f"{name} {ack[name]}"].add(ack["job"])
    for name, known in by_key.items():
        if len(known) > 1:
            yield f"{name} stands for {len(known)} jobs: {sorted(known)}"
    submitted = Counter(event.command_id for event in history.events if event.type == "job.submitted.v1")
    for command, count in submitted.items():
        if count > 1:
            yield f"command {command} submitted {count} jobs"


def ended_once(history: History) -> Found:
    """Every job has exactly one end, and nothing comes after it."""
    for stream, events in history.streams("job").items():
        ends = [place for place, event in enumerate(events) if event.type in TERMINAL]
        if len(ends) != 1:
            yield f"{stream} ended {len(ends)} times"
        elif ends[0] != len(events) - 1:
            yield f"{stream} goes on after its end with {events[ends[0] + 1].type}"


def assigned_once(history: History) -> Found:
    """An assignment is made once: ready once, given to one worker once, in the log and in the inboxes."""
    ready: Counter[tuple[str, int]] = Counter()
    given: Counter[tuple[str, int]] = Counter()
    receivers: dict[tuple[str, int], set[str]] = defaultdict(set)
    for event in history.events:
        if event.type == "task.ready.v1":
            ready[event.stream, event.data["assignment"]] += 1
        elif event.type == "queue.task_assigned.v1":
            given[event.data["job"], event.data["assignment"]] += 1
            receivers[event.data["job"], event.data["assignment"]].add(event.data["incarnation"])
    for message in history.messages:
        if message["type"] == "worker.run_task.v1":
            receivers[message["job"], message["assignment"]].add(message["incarnation"])
    for name, counted in (("ready", ready), ("given out", given)):
        for (job, assignment), count in counted.items():
            if count > 1:
                yield f"assignment {assignment} of {job} was {name} {count} times"
    for (job, assignment), workers in receivers.items():
        if len(workers) > 1:
            yield f"assignment {assignment} of {job} went to {len(workers)} workers"
        if not given[job, assignment]:
            yield f"assignment {assignment} of {job} was sent and is not in the log"


def accepted_once(history: History) -> Found:
    """An assignment starts once and ends once, one after the other, and only after it was given out."""
    for stream, events in history.streams("job").items():
        open_assignment, started = 0, False
        for event in events:
            assignment = event.data.get("assignment")
            if event.type == "task.ready.v1":
                if open_assignment:
                    yield f"assignment {assignment} of {stream} began while {open_assignment} was out"
                open_assignment, started = event.data["assignment"], False
            elif event.type == "task.started.v1":
                if started or assignment != open_assignment:
                    yield f"assignment {assignment} of {stream} started while {open_assignment} was out"
                started = True
            elif event.type in CLOSING:
                if assignment != open_assignment:
                    yield f"assignment {assignment} of {stream} ended ({event.type}) while {open_assignment} was out"
                open_assignment = 0


def alone(history: History) -> Found:
    """No attempt of a job runs beside another: from its first to its last line in the journal."""
    for job, attempts in history.attempts().items():
        spans = sorted(
            (min(line["mono"] for line in lines), max(line["mono"] for line in lines), assignment)
            for assignment, lines in attempts.items()
        )
        for (_, last, one), (first, _, other) in itertools.pairwise(spans):
            if first < last:
                yield f"job {job}: assignment {other} began {last - first:.3f} s before the last sign of {one}"
        for assignment, lines in attempts.items():
            starts = [line for line in lines if line["what"] == "start"]
            if len(starts) > 1 or len({line["pid"] for line in lines}) > 1:
                yield f"job {job}: assignment {assignment} ran {max(len(starts), 2)} times"


def not_before_time(history: History) -> Found:
    """Nothing starts before it is due, and no retry before its back-off is over."""
    starts = {(line["job"], line["assignment"]): line["wall_ms"] for line in history.journal if line["what"] == "start"}
    for stream, events in history.streams("job").items():
        job, earliest = stream.rpartition(":")[2], 0
        for event in events:
            if event.type == "job.submitted.v1":
                earliest = event.data["due_at_ms"]
            elif event.data.get("retry_at_ms"):
                earliest = event.data["retry_at_ms"]
            elif event.type == "task.ready.v1":
                at = min(event.at_ms, starts.get((job, event.data["assignment"]), event.at_ms))
                if at < earliest:
                    yield f"{stream}: assignment {event.data['assignment']} began {earliest - at} ms early"


def cancel_holds(history: History) -> Found:
    """After its cancel a job doesn't start, and a cancel that was told to somebody is one."""
    ends = {e.stream.rpartition(":")[2]: e for e in history.events if e.type in TERMINAL}
    for line in history.journal:
        end = ends.get(line["job"])
        late = end is not None and end.type == "job.cancelled.v1" and line["wall_ms"] > end.at_ms
        if end is not None and late and line["what"] == "start":
            yield f"job {line['job']} started {line['wall_ms'] - end.at_ms} ms after it was cancelled"
    for ack in history.acks:
        if ack.get("status") == "CANCELLED":
            end = ends.get(ack["cancel"])
            if end is None or end.type != "job.cancelled.v1":
                yield f"job {ack['cancel']} was said to be cancelled, but it has {end.type if end else 'not ended'}"


def work_was_done(history: History) -> Found:
    """A success that was accepted is one that a handler finished, with the assignment that was out."""
    finished = {(line["job"], line["assignment"]) for line in history.journal if line["what"] == "end"}
    for event in history.events:
        if event.type == "task.succeeded.v1":
            job = event.stream.rpartition(":")[2]
            if (job, event.data["assignment"]) not in finished:
                yield f"job {job} succeeded with assignment {event.data['assignment']}, which no handler finished"


def read_models_agree(history: History) -> Found:
    """The rows of jobs and events and the positions are what the log says."""
    last = {event.partition: event.seq for event in history.events}
    for partition, seq in last.items():
        if history.positions.get(partition) != seq:
            yield f"partition {partition} is read up to {history.positions.get(partition)}, but has {seq} events"
        if history.event_rows.get(partition) != (seq, seq):
            yield f"partition {partition} has {seq} events, but (rows, last) are {history.event_rows.get(partition)}"
    streams = history.streams("job")
    for stream, events in streams.items():
        job = stream.rpartition(":")[2]
        row = history.jobs.get(job)
        if row is None:
            yield f"job {job} has no row"
            continue
        ready = [e.data for e in events if e.type == "task.ready.v1"]
        expected = {
            "status": TERMINAL.get(events[-1].type, row["status"]),
            "version": events[-1].version,
            "seq": events[-1].seq,
            "assignment": ready[-1]["assignment"] if ready else 0,
            "attempt": ready[-1]["attempt"] if ready else 0,
        }
        found = {name: row[name] for name in expected}
        if found != expected:
            yield f"the row of job {job} says {found}, the log {expected}"
    known = {stream.rpartition(":")[2] for stream in streams}
    for job in history.jobs.keys() - known:
        yield f"job {job} has a row and is not in the log"


RULES: tuple[Callable[[History], Found], ...] = (
    gapless,
    accepted_is_there,
    ended_once,
    assigned_once,
    accepted_once,
    alone,
    not_before_time,
    cancel_holds,
    work_was_done,
    read_models_agree,
)


def check(history: History) -> dict[str, list[str]]:
    """What each broken rule has found; empty when all hold."""
    found = {rule.__name__: list(rule(history)) for rule in RULES}
    return {rule: violations for rule, violations in found.items() if violations}


# -- reading ----------------------------------------------------------------------------------------------------------


def read_topic(bootstrap: str, topic: str) -> Iterator[tuple[int, bytes]]:
    """(partition, value) of every committed record, partition by partition."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "history",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 10,  # a fetch that waits at the end of a partition would hold the next one up
        }
    )
    try:
        for partition in sorted(consumer.list_topics(topic, timeout=10).topics[topic].partitions):
            consumer.assign([TopicPartition(topic, partition, 0)])
            while True:
                message = consumer.poll(30)
                if message is None:
                    raise SystemExit(f"{topic} [{partition}] gave nothing for 30 s")
                error = message.error()
                if error is not None and error.code() == KafkaError._PARTITION_EOF:
                    break
                if error is None:
                    yield partition, message.value() or b""
    finally:
        consumer.close()


def decoded(records: Iterable[tuple[int, bytes]], name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Those that are JSON objects with a certain field; broken ones were put there by the test."""
    for partition, value in records:
        try:
            record = json.loads(value)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and name in record:
            yield partition, record


def json_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file; the last may be cut off where its writer was killed."""
    lines = []
    for text in path.read_text().splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines


def read_history(bootstrap: str, cell: str, dsn: str, schema: str, journal: Path, acks: Path) -> History:
    """The history of a cell at rest."""
    history = History(journal=json_lines(journal), acks=json_lines(acks))
    for partition, record in decoded(read_topic(bootstrap, f"{cell}.events"), "stream"):
        names = ("seq", "stream", "version", "at_ms", "command_id", "data")
        history.events.append(Event(partition, *(record[name] for name in names)))
    for _, record in decoded(read_topic(bootstrap, f"{cell}.tasks"), "messages"):
        history.messages += record["messages"]
    with psycopg.connect(dsn, options=f"-c search_path={schema}") as connection:
        for row in connection.execute("SELECT id, status, version, seq, assignment, attempt FROM jobs"):
            names = ("status", "version", "seq", "assignment", "attempt")
            history.jobs[row[0]] = dict(zip(names, row[1:], strict=True))
        rows = connection.execute("SELECT partition, count(*), max(seq) FROM events GROUP BY partition")
        history.event_rows = {partition: (count, last) for partition, count, last in rows}
        history.positions = dict(connection.execute("SELECT partition, seq FROM positions").fetchall())
    return history


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    for name in ("bootstrap", "cell", "dsn", "journal", "acks"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--schema", default="jobledger")
    given = parser.parse_args()
    history = read_history(given.bootstrap, given.cell, given.dsn, given.schema, Path(given.journal), Path(given.acks))
    broken = check(history)
    for rule, violations in broken.items():
        for violation in violations[:20]:
            print(f"{rule}: {violation}")
        if len(violations) > 20:
            print(f"{rule}: … and {len(violations) - 20} more")
    jobs, attempts = len(history.streams("job")), len(history.attempts())
    count = sum(map(len, broken.values()))
    print(f"{len(history.events)} events of {jobs} jobs, {attempts} of them run by handlers: {count} violation(s)")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())

"""The history checker finds what it is there to find: a good history, and one planted fault for each of its eyes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from history import RULES, Event, History, check

JOB = "job:default:a"
QUEUE = "queue:default:q"


def good() -> History:
    """Job a fails once and succeeds with its second assignment; job b is scheduled and cancelled; job c loses one."""
    history = History()
    seqs = {0: 0, 1: 0}
    versions: dict[str, int] = {}

    def add(stream: str, at_ms: int, kind: str, **data: Any) -> None:
        partition = 1 if stream == QUEUE else 0
        seqs[partition] += 1
        versions[stream] = versions.get(stream, 0) + 1
        command = f"{stream}/{versions[stream]}"
        history.events.append(
            Event(partition, seqs[partition], stream, versions[stream], at_ms, command, {"type": kind, **data})
        )

    def run(stream: str, assignment: int, at_ms: int, end: str, until: int, **given: Any) -> None:
        job = stream.rpartition(":")[2]
        add(stream, at_ms, "task.ready.v1", assignment=assignment, attempt=assignment)
        add(QUEUE, at_ms, "queue.task_assigned.v1", job=stream, assignment=assignment, incarnation="w1")
        message = {"type": "worker.run_task.v1", "job": stream, "assignment": assignment, "incarnation": "w1"}
        history.messages += [message, message]
        add(stream, at_ms + 1, "task.started.v1", assignment=assignment)
        lines = ["start", "tick"] + ([] if end == "task.lost.v1" else ["end"])
        for number, what in enumerate(lines):
            moment = at_ms + 1 + number * (until - at_ms - 1) // 2
            line = {"what": what, "job": job, "assignment": assignment, "pid": 7}
            history.journal.append({**line, "mono": moment / 1000, "wall_ms": moment})
        add(stream, until, end, assignment=assignment, **given)

    add(QUEUE, 1, "queue.created.v1")
    add(JOB, 10, "job.submitted.v1", due_at_ms=10)
    run(JOB, 1, 10, "task.failed.v1", 20, retry_at_ms=50)
    run(JOB, 2, 50, "task.succeeded.v1", 60)
    add(JOB, 60, "job.succeeded.v1")
    add("job:default:b", 60, "job.submitted.v1", due_at_ms=900)
    add("job:default:b", 70, "job.cancelled.v1")
    add("job:default:c", 70, "job.submitted.v1", due_at_ms=70)
    run("job:default:c", 1, 70, "task.lost.v1", 90, retry_at_ms=100)
    run("job:default:c", 2, 100, "task.succeeded.v1", 110)
    add("job:default:c", 110, "job.succeeded.v1")
    history.acks = [
        {"job": "a", "command": "1", "key": "k"},
        {"job": "a", "command": "1", "key": "k"},
        {"job": "b", "command": "2", "key": None},
        {"job": "c", "command": "3", "key": None},
        {"cancel": "b", "status": "CANCELLED"},
    ]
    for stream, events in history.streams("job").items():
        tries = max((e.data.get("assignment", 0) for e in events), default=0)
        row = {"version": events[-1].version, "seq": events[-1].seq, "assignment": tries, "attempt": tries}
        status = "CANCELLED" if stream.endswith("b") else "SUCCEEDED"
        history.jobs[stream.rpartition(":")[2]] = {"status": status, **row}
    history.positions = dict(seqs)
    history.event_rows = {partition: (seq, seq) for partition, seq in seqs.items()}
    return history


def test_a_good_history_breaks_no_rule() -> None:
    assert check(good()) == {}


def at(history: History, kind: str, place: int = 0, stream: str = "") -> int:
    """Where the event of a type stands."""
    return [n for n, e in enumerate(history.events) if e.type == kind and e.stream.endswith(stream)][place]


def change(
    kind: str, place: int = 0, *, fields: dict[str, Any] | None = None, **data: Any
) -> Callable[[History], None]:
    def plant(history: History) -> None:
        number = at(history, kind, place)
        event = history.events[number]
        history.events[number] = replace(event, **(fields or {}), data={**event.data, **data})

    return plant


def drop(kind: str, place: int = 0) -> Callable[[History], None]:
    return lambda history: history.events.__delitem__(at(history, kind, place))


def repeat(kind: str, place: int = 0) -> Callable[[History], None]:
    """The same event once more, properly numbered, at the end of its partition."""

    def plant(history: History) -> None:
        event = history.events[at(history, kind, place)]
        last = max(e.seq for e in history.events if e.partition == event.partition)
        version = max(e.version for e in history.events if e.stream == event.stream)
        history.events.append(replace(event, seq=last + 1, version=version + 1))

    return plant


def line(job: str, assignment: int, what: str, **given: Any) -> Callable[[History], None]:
    def plant(history: History) -> None:
        found = next(
            entry
            for entry in history.journal
            if (entry["job"], entry["assignment"], entry["what"]) == (job, assignment, what)
        )
        history.journal.append({**copy.deepcopy(found), **given})

    return plant


def do(action: Callable[[History], Any]) -> Callable[[History], None]:
    return lambda history: action(history) and None


PLANTED = [
    ("gapless", drop("task.started.v1")),
    ("gapless", change("job.succeeded.v1", fields={"seq": 99})),
    ("gapless", change("job.succeeded.v1", fields={"version": 3})),
    ("gapless", change("job.succeeded.v1", 1, fields={"partition": 1})),
    ("accepted_is_there", do(lambda h: h.acks.append({"job": "lost", "command": "9", "key": None}))),
    ("accepted_is_there", do(lambda h: h.acks.append({"job": "b", "command": "1", "key": None}))),
    ("accepted_is_there", do(lambda h: h.acks.append({"job": "b", "command": "2", "key": "k"}))),
    ("accepted_is_there", change("job.submitted.v1", 1, fields={"command_id": "job:default:a/1"})),
    ("ended_once", drop("job.succeeded.v1")),
    ("ended_once", repeat("job.succeeded.v1")),
    ("ended_once", repeat("task.succeeded.v1")),
    ("assigned_once", repeat("task.ready.v1")),
    ("assigned_once", repeat("queue.task_assigned.v1")),
    ("assigned_once", do(lambda h: h.messages.append({**h.messages[0], "incarnation": "w2"}))),
    ("assigned_once", do(lambda h: h.messages.append({**h.messages[0], "assignment": 5}))),
    ("accepted_once", repeat("task.started.v1")),
    ("accepted_once", change("task.succeeded.v1", assignment=1)),
    ("accepted_once", drop("task.failed.v1")),
    ("accepted_once", repeat("task.lost.v1")),
    ("alone", line("a", 1, "tick", mono=0.055)),
    ("alone", line("c", 1, "tick", mono=0.1015)),
    ("alone", line("a", 2, "start", mono=0.052, pid=8)),
    ("not_before_time", change("task.ready.v1", 1, fields={"at_ms": 49})),
    ("not_before_time", change("job.submitted.v1", due_at_ms=500)),
    ("not_before_time", line("c", 2, "start", wall_ms=99, mono=0.099)),
    ("cancel_holds", do(lambda h: h.journal.append({**h.journal[0], "job": "b", "wall_ms": 71}))),
    ("cancel_holds", do(lambda h: h.acks.append({"cancel": "a", "status": "CANCELLED"}))),
    ("work_was_done", do(lambda h: [h.journal.remove(e) for e in h.journal[:] if e["what"] == "end"])),
    ("read_models_agree", do(lambda h: h.jobs.pop("a"))),
    ("read_models_agree", do(lambda h: h.jobs.__setitem__("z", h.jobs["a"]))),
    ("read_models_agree", do(lambda h: h.jobs["c"].__setitem__("status", "RUNNING"))),
    ("read_models_agree", do(lambda h: h.jobs["c"].__setitem__("version", 2))),
    ("read_models_agree", do(lambda h: h.positions.__setitem__(0, 3))),
    ("read_models_agree", do(lambda h: h.event_rows.__setitem__(0, (3, 9)))),
]


@pytest.mark.parametrize(("rule", "plant"), PLANTED)
def test_a_planted_fault_is_found_by_its_rule(rule: str, plant: Callable[[History], None]) -> None:
    history = good()
    plant(history)
    assert rule in check(history)


def test_every_rule_has_a_planted_fault() -> None:
    assert {rule for rule, _ in PLANTED} == {rule.__name__ for rule in RULES}

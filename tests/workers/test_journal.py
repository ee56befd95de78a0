from __future__ import annotations

import socket
import time

import msgspec

from jobledger.domain.job.commands import ReportCrashed
from jobledger.domain.queue.commands import SetCredits
from jobledger.workers.crash_report import commands_of, send
from jobledger.workers.journal import Head, Journal, Running, read_journal

HEAD = Head(
    worker="w-1",
    pool="default",
    handlers=[f"handler_{number:0100d}" for number in range(500)],
    queues=["queue:t:a", "queue:t:b"],
    topic="c.commands",
    partitions=4,
    kafka={"bootstrap.servers": "x:1"},
)


def _running(number: int, job: str = "job:t:{}") -> Running:
    return Running(
        job=job.format(number),
        task="main",
        assignment=number,
        handler="h",
        incarnation="i-1",
        assigned_at_ms=1,
        started_at_ms=2,
    )


def test_what_has_begun_and_not_ended_is_read_from_the_memory_alone() -> None:
    """A reader that has the descriptor finds the head, however long, and the places that are filled."""
    journal = Journal(HEAD, slots=2)
    places = [journal.begin(_running(number)) for number in range(4)]
    journal.end(places[1])
    journal.begin(_running(9))
    head, running = read_journal(journal.descriptor, journal.first_place)
    assert head == HEAD
    assert sorted(one.assignment for one in running) == [0, 2, 3, 9]
    for place in [places[0], *places[2:]]:
        journal.end(place)
    journal.close()


def test_a_full_journal_and_a_long_name_hold_nobody_up() -> None:
    """Such a handler runs all the same; it has no place, and its end is not looked for."""
    journal = Journal(HEAD, slots=1)
    places = [journal.begin(_running(number)) for number in range(100)]
    taken = [place for place in places if place is not None]
    assert places[: len(taken)] == taken
    assert 2 <= len(taken) < 100
    journal.end(None)
    journal.end(taken[0])
    assert journal.begin(_running(1, "job:t:" + "x" * 2_000)) is None
    assert journal.begin(_running(7)) == taken[0]
    journal.close()


def test_the_crash_report_is_to_each_queue_and_each_job() -> None:
    said = commands_of(HEAD, [_running(1), _running(2)])
    assert [(stream, type(body)) for stream, body in said] == [
        ("queue:t:a", SetCredits),
        ("queue:t:b", SetCredits),
        ("job:t:1", ReportCrashed),
        ("job:t:2", ReportCrashed),
    ]
    assert {body.credits for _, body in said if isinstance(body, SetCredits)} == {0}


def test_the_crash_report_does_not_wait_long_for_a_cluster_that_is_gone() -> None:
    """Kafka went down with the worker: the process that tells of it ends before the lease would (10 s)."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        nobody = f"127.0.0.1:{server.getsockname()[1]}"
    head = msgspec.structs.replace(HEAD, kafka={"bootstrap.servers": nobody})
    began = time.monotonic()
    assert send(head, commands_of(head, [_running(1)])) == 3
    assert time.monotonic() - began < 20

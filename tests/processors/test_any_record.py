"""No record stops a partition, whoever wrote it: any bytes, and records of ours with something changed in them."""

from __future__ import annotations

import copy
import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from memory_owner import NOW, USER, WORKER, Decider, command, credits, submit
from memory_owner import job as new_job

from jobledger.domain.commands import AnyCommand
from jobledger.domain.identity import cell_stream, queue_stream, tenant_stream
from jobledger.domain.job import commands as jc
from jobledger.domain.queue import commands as qc
from jobledger.domain.tenant.commands import CreateTenant, UpdateTenant
from jobledger.domain.values import Opaque
from jobledger.domain.worker_messages import CancelTask, Heartbeat, RunTask
from jobledger.schemas.commands import WRITER, Command, CommandRecord, encode_record, join_record, take_record
from jobledger.schemas.limits import MAX_COMMAND_BYTES, MAX_MESSAGE_BYTES
from jobledger.schemas.outcomes import OutcomeStatus
from jobledger.schemas.worker import decode_heartbeat, encode_heartbeat, encode_message, join_tasks, read_tasks

QUEUE = queue_stream("default", "default")
JOBS = {name: new_job(name) for name in ("queued", "running", "later", "retrying", "dead", "ended")}
#: Sizes up to what the broker takes; a record of this has 200 bytes beside the text.
LARGE = (10_000, MAX_COMMAND_BYTES - 200, MAX_COMMAND_BYTES, MAX_MESSAGE_BYTES - 200)

NUMBERS = (-1, 0, 2**31, 2**53, 2**63, 2**64, 10**30, -(2**63), 1e308, 1e-308, -0.0, 253_402_300_799_999)
TEXTS = ("", "\x00", "|", ":", "/", "job:", "job:default:", "queue:default:a|b", "key:a:b", "\u2028é", "9" * 400)

DO = settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


# -- what is written --------------------------------------------------------------------------------------------------


def report(cls: type[Any], /, **more: Any) -> Any:
    times = dict.fromkeys(("assigned_at_ms", "started_at_ms", "ended_at_ms", "saved_at_ms", "at_ms"), NOW)
    fields = {"task": "main", "assignment": 1, "worker": "w1", "incarnation": "i1", **times, **more}
    return cls(**{name: fields[name] for name in cls.__struct_fields__ if name in fields})


def bodies() -> list[tuple[str, AnyCommand]]:
    """A command of each kind, to a stream where it means something."""
    text = Opaque('{"a":"b"}')
    given: dict[str, Any] = {
        "kind": jc.FailureKind.FAILED,
        "error_type": "E",
        "error": text,
        "checkpoint": text,
        "reason": "r",
        "job": JOBS["queued"],
        "execution_id": "x",
        "attempt": 1,
        "handler": "work",
        "queue": "default",
        "priority": 3,
        "payload": text,
        "due_at_ms": NOW,
        "ready_at_ms": NOW,
        "outcome": qc.ReleaseOutcome.ENDED,
        "pool": "p",
        "credits": 3,
        "handlers": ["work"],
        "max_waiting_bytes": 100,
        "level": 1,
    }
    found: list[tuple[str, AnyCommand]] = []
    for kind in msgspec.inspect.type_info(AnyCommand).types:  # type: ignore[attr-defined,arg-type]
        cls = kind.cls
        optional = {"reason": None} if cls in (jc.CancelJob, jc.RedriveJob, jc.DiscardJob) else {}
        body = report(cls, **{**given, **optional})
        kinds = {
            "queue": [QUEUE],
            "tenant": [tenant_stream("t")],
            "cell": [cell_stream(0, 1)],
            "job": list(JOBS.values()),
        }
        found += [(stream, body) for stream in kinds[str(cls.__struct_config__.tag).partition(".")[0]]]
    return found


BODIES = bodies()


def started() -> Decider:
    """A partition with jobs in every state of their life, a worker, and a tenant."""
    one = Decider()
    policy = jc.SubmitJob(handler="work", queue="default", payload=Opaque("1")).retry
    one.feed(credits(QUEUE, 4))
    names = ("running", "retrying", "dead", "ended")
    once = msgspec.structs.replace(policy, max_attempts=1)
    one.feed(*(submit(JOBS[name], retry=once if name == "dead" else policy) for name in names))
    one.feed(submit(JOBS["later"], due_at_ms=NOW + 1_000), submit(JOBS["queued"], handler="nobody"))
    one.feed(command(tenant_stream("t"), CreateTenant(), "tenant"))
    one.settle()
    failed = report(jc.ReportFailed, kind=jc.FailureKind.FAILED, error_type="E", error=Opaque("1"))
    for name, body in (
        ("running", report(jc.ReportStarted)),
        ("retrying", failed),
        ("dead", failed),
        ("ended", report(jc.ReportSucceeded)),
    ):
        one.feed(command(JOBS[name], body, f"report/{name}", WORKER, reply=False))
    one.settle()
    return one


PRELUDE = started()


def changed(value: Any) -> st.SearchStrategy[bytes]:
    """JSON text of `value` with up to three of its places replaced, taken out or doubled."""
    return st.lists(st.tuples(st.integers(0, 10_000), odd_values()), min_size=1, max_size=3).map(
        lambda changes: json.dumps(_change(value, changes), ensure_ascii=False).encode(errors="replace")
    )


def odd_values() -> st.SearchStrategy[Any]:
    scalars = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.sampled_from(
            [-1, 0, 2**31, 2**53, 2**63, 2**64, 10**30, -(2**63), 1e308, 1e-308, -0.0, 253_402_300_799_999]
        ),
        st.text(max_size=40),
        st.sampled_from(
            ["", "\x00", "|", ":", "/", "job:", "job:default:", "queue:default:a|b", "key:a:b", "\u2028é", "9" * 400]
        ),
        st.sampled_from([*JOBS.values(), QUEUE, "timer/job:default:later/1", "lease/x", "i1", "w1", "i2"]),
        st.sampled_from(LARGE).map(lambda size: "x" * size),
        st.sampled_from(LARGE[:2]).map(lambda size: '\x01é"\\' * (size // 14)),
    )
    return st.one_of(
        scalars,
        st.lists(scalars, max_size=3),
        st.dictionaries(st.text(max_size=5), scalars, max_size=3),
        st.integers(1, 3_000).map(lambda depth: json.loads("[" * min(depth, 400) + "]" * min(depth, 400))),
        st.just(_OUT),
    )


_OUT = object()


def _places(value: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found.append((value, key))
        found += _places(inner)
    return found


def _change(value: Any, changes: list[tuple[int, Any]]) -> Any:
    value = copy.deepcopy(value)
    for place, new in changes:
        places = _places(value)
        if places:
            holder, key = places[place % len(places)]
            if new is _OUT:
                del holder[key]
            else:
                holder[key] = new
    return value


def damaged(values: list[bytes]) -> st.SearchStrategy[bytes]:
    """Bytes of a good record with a piece cut out, doubled, or overwritten."""

    def damage(value: bytes, start: int, length: int, piece: bytes) -> bytes:
        start %= len(value)
        return value[:start] + piece + value[start + length % 50 :]

    return st.builds(
        damage, st.sampled_from(values), st.integers(0, 10_000), st.integers(0, 10_000), st.binary(max_size=9)
    )


def any_bytes() -> st.SearchStrategy[bytes]:
    large = st.builds(
        lambda piece, size: (piece * size)[:size], st.binary(min_size=1, max_size=6), st.sampled_from(LARGE)
    )
    return st.one_of(st.binary(max_size=200), large)


def one_command(stream: str, body: AnyCommand) -> dict[str, Any]:
    sent: dict[str, Any] = json.loads(encode_record(CommandRecord(commands=[command(stream, body, "c-1")])))
    return {**sent, "source": 1, "number": 1}


COMMANDS = [one_command(stream, body) for stream, body in BODIES]


# -- commands ---------------------------------------------------------------------------------------------------------


def check_goes_on(*values: bytes) -> None:
    """The partition takes the records, and a good command behind them; memory and `state` agree at the end."""
    one = Decider(state=dict(PRELUDE.state))
    for value in values:
        one.raw(value)
    innocent = new_job("innocent")
    one.feed(submit(innocent, identity="innocent"))
    one.settle(NOW + 1)
    one.settle(NOW + 10_000)
    (told,) = [outcome for outcome in one.outcomes if outcome.command_id == "innocent"]
    assert told.status is OutcomeStatus.ACCEPTED
    rebuilt = one.rebuilt()
    assert rebuilt.streams["job"] == one.machine.streams["job"]
    assert rebuilt.checkpoint == one.machine.checkpoint
    assert sorted(rebuilt.timers) == sorted(one.machine.timers)
    assert {s: (q.queue, q.lanes.tasks, q.workers) for s, q in rebuilt.streams["queue"].items()} == {
        s: (q.queue, q.lanes.tasks, q.workers) for s, q in one.machine.streams["queue"].items()
    }


@DO
@given(any_bytes())
@example(b"")
@example(b"null")
@example(b'{"commands":' + b"[" * 100_000)
@example(b'{"commands":[' + b"1," * 500_000 + b"1]}")
@example(b'{"commands":[{"id":"' + b"x" * 1_200_000 + b'","reply":true,"stream":"job:default:a","body":{"type":"n"}}]}')
@example(b'{"commands":[{"id":"' + b"\x01" * 2_000_000 + b'"}]}')
@example(b"\x00" * 2_000_000)
def test_any_bytes_on_commands(value: bytes) -> None:
    check_goes_on(value)


@DO
@given(st.sampled_from(COMMANDS).flatmap(changed))
def test_changed_commands(value: bytes) -> None:
    check_goes_on(value[:MAX_MESSAGE_BYTES])


@DO
@given(damaged([json.dumps(one).encode() for one in COMMANDS]))
def test_damaged_commands(value: bytes) -> None:
    check_goes_on(value)


@settings(DO, max_examples=60)
@given(st.lists(st.sampled_from(COMMANDS).flatmap(changed), min_size=2, max_size=5))
def test_several_changed_commands_in_a_row(values: list[bytes]) -> None:
    """One may change what the next one meets."""
    check_goes_on(*(value[:MAX_MESSAGE_BYTES] for value in values))


@pytest.mark.parametrize("stream", [QUEUE, JOBS["queued"], tenant_stream("t")])
def test_each_command_to_each_kind_of_stream(stream: str) -> None:
    """Whatever was meant for another kind of stream is set aside or rejected."""
    check_goes_on(
        *(encode_record(CommandRecord(commands=[command(stream, body, f"c{n}")])) for n, (_, body) in enumerate(BODIES))
    )


def test_an_answer_that_is_too_large_is_a_short_rejection() -> None:
    """A queue with a thousand workers of the longest names."""
    one = Decider()
    for number in range(1_000):
        name = f"{number:04d}" + "é" * 124
        body = qc.SetCredits(worker=name, incarnation=name, pool=name, credits=1, handlers=["h"])
        one.feed(Command(id=f"c{number}", stream=QUEUE, actor=WORKER, body=body))
    one.feed(Command(id="ask", stream=QUEUE, actor=USER, body=qc.QueryQueue(), reply=True))
    one.settle()
    (told,) = one.outcomes
    assert told.answer is not None or (told.rejection is not None and "ask for less" in told.rejection.message)


@pytest.mark.parametrize("limit", ["id", "stream"])
def test_bounds_are_in_bytes(limit: str) -> None:
    """128 for an id and 256 for a stream, whatever the letters."""
    size = {"id": 128, "stream": 256}[limit]
    for text, good in (("x" * size, True), ("x" * (size + 1), False), ("é" * (size // 2), True), ("é" * size, False)):
        given = {"id": "c", "stream": QUEUE, limit: text}
        body = Command(actor=USER, body=qc.QueryQueue(), **given)
        (read,) = take_record(encode_record(CommandRecord(commands=[body]))).commands
        assert isinstance(read, Command) is good


def test_a_writer_that_is_no_release_stops_nothing() -> None:
    for writer in ("", "1", "new", "1.x", WRITER, "1.0" + "a" * 60):
        record = join_record(
            [
                json.dumps(
                    {"id": "a", "stream": QUEUE, "actor": {"kind": "user", "id": "u"}, "body": {"type": "x"}}
                ).encode()
            ]
        )
        check_goes_on(record.replace(WRITER.encode(), writer.encode(), 1))


# -- tasks and heartbeats ---------------------------------------------------------------------------------------------

RUN = RunTask(
    worker="w1",
    incarnation="i1",
    job=JOBS["queued"],
    task="main",
    execution_id="e",
    attempt=1,
    assignment=1,
    handler="work",
    queue="default",
    payload=Opaque("1"),
    due_at_ms=NOW,
    assigned_at_ms=NOW,
)
CANCEL = CancelTask(worker="w1", incarnation="i1", job=JOBS["queued"], task="main", assignment=1)
TASKS = json.loads(join_tasks([encode_message(RUN), encode_message(CANCEL)], 0, 1))
BEAT = json.loads(encode_heartbeat(Heartbeat(worker="w1", incarnation="i1", sent_at_ms=1)))
READ_ERRORS = (msgspec.DecodeError, UnicodeDecodeError)


@DO
@given(st.one_of(any_bytes(), changed(TASKS), damaged([json.dumps(TASKS).encode()])))
@example(b'{"messages":' + b"[" * 100_000)
def test_any_record_on_tasks_is_read_or_refused(value: bytes) -> None:
    """By the errors that the worker's inbox expects, and no others."""
    try:
        messages, faults = read_tasks(value)
    except READ_ERRORS:
        return
    assert all(isinstance(one, RunTask | CancelTask) for one in messages) and all(
        isinstance(one, str) for one in faults
    )


@DO
@given(st.one_of(any_bytes(), changed(BEAT), damaged([json.dumps(BEAT).encode()])))
def test_any_record_on_heartbeats_is_read_or_refused(value: bytes) -> None:
    """And what is remembered of it is small."""
    try:
        beat = decode_heartbeat(value)
    except READ_ERRORS:
        return
    assert len(beat.worker) <= 128 and len(beat.incarnation) <= 128


def test_the_commands_tried_are_all_there_are() -> None:
    tried = {type(body) for _, body in BODIES}
    assert len(tried) == len(msgspec.inspect.type_info(AnyCommand).types)  # type: ignore[attr-defined,arg-type]
    assert UpdateTenant in tried

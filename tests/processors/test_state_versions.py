"""State of every version is read for ever: golden values, and a new shape of the job over what the old one wrote."""

from __future__ import annotations

import importlib.util
import json
from collections import deque
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
from test_state_of_before import LIMITS, RECORDED, records

from jobledger.domain import aggregates
from jobledger.domain.job.kind import JOB
from jobledger.domain.job.state import Job
from jobledger.processors.core import state_records
from jobledger.processors.core.machine import Incoming, Machine
from jobledger.processors.core.recovery import rebuild
from jobledger.processors.core.retained import Retained
from jobledger.processors.core.state_records import (
    STATE_CLASSES,
    UnreadableStateError,
    class_version,
    decode_state,
    encode_state,
)

GOLDEN = Path(__file__).parents[1] / "golden"
STATES = sorted((GOLDEN / "state").glob("*.txt"))


class JobOfTwo(Job, kw_only=True):
    """A made-up second shape: every job has a cost, which the first did not tell."""

    cost: int

    class_version = 2

    @staticmethod
    def upcast_v1_v2(state: dict[str, Any]) -> None:
        state["cost"] = 10 * state["priority"]


def _recorder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("record_golden", GOLDEN / "record_golden.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def second_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the test is over, jobs have it."""
    monkeypatch.setitem(aggregates.AGGREGATES, "job", JOB._replace(snapshot=JobOfTwo))
    newest = state_records.prefix("job", JobOfTwo)
    for form, decoder in state_records.decoders("job", JobOfTwo).items():
        monkeypatch.setitem(state_records._DECODERS, form, decoder)
    monkeypatch.setitem(state_records._PREFIX, JobOfTwo, newest)
    monkeypatch.setattr(state_records, "_PACKED", {newest: state_records._DECODERS[newest[:-1]]})


def test_every_class_has_a_golden_value_of_every_version() -> None:
    """A new version is recorded before it becomes public; the files of older ones stay."""
    recorder = _recorder()
    assert {path.name for path in STATES} == {
        recorder.state_file(name, version)
        for name, cls in STATE_CLASSES.items()
        for version in range(1, class_version(cls) + 1)
    }


@pytest.mark.parametrize("path", STATES, ids=lambda path: path.stem)
def test_a_golden_value_is_read_as_it_was_meant(path: Path) -> None:
    """Every field of the file arrives; at the newest version it goes out again as it came in."""
    data = path.read_bytes().rstrip(b"\n")
    name, version = path.stem.split(".v")
    cls = STATE_CLASSES[name]
    assert data.startswith(f"{name}/{version}|".encode())
    value = decode_state(data)
    assert type(value) is cls
    if int(version) == class_version(cls):
        again = encode_state(value)
        assert _parsed(again) == _parsed(data)
        assert set(_parsed(data)) <= {field.encode_name for field in msgspec.structs.fields(cls)}


def _parsed(data: bytes) -> Any:
    return json.loads(data.partition(b"|")[2])


def test_every_step_of_a_class_is_there() -> None:
    """A version without the step up to it cannot be declared."""

    class Jumped(Job, kw_only=True):
        class_version = 3

    with pytest.raises(AttributeError, match="upcast_v2_v3"):
        state_records.decoders("job", Jumped)


def test_a_version_that_is_newer_than_this_release_is_refused() -> None:
    """The owner closes its partition with an alarm, and loses nothing."""
    with pytest.raises(UnreadableStateError, match="job/2"):
        decode_state(b'job/2|{"id":"job:default:x"}')


def test_an_older_shape_is_raised(second_shape: None) -> None:
    """The first shape is read as the second, keys that are numbers and all; what is written is the second."""
    data = (GOLDEN / "state" / "job.v1.txt").read_bytes().rstrip(b"\n")
    job = decode_state(data)
    assert isinstance(job, JobOfTwo)
    assert job.cost == 10 * _parsed(data)["priority"]
    assert encode_state(job).startswith(b"job/2|")
    assert decode_state(encode_state(job)) == job


def test_numbers_as_keys_are_raised_too() -> None:
    """JSON has texts as keys, and the checkpoint counts by partition."""
    checkpoint = STATE_CLASSES["checkpoint"]

    class Later(checkpoint, kw_only=True):  # type: ignore[misc, valid-type]
        class_version = 2

        @staticmethod
        def upcast_v1_v2(state: dict[str, Any]) -> None:
            state["seq"] += 1

    older = state_records.decoders("checkpoint", Later)[b"checkpoint/1"]
    read = older.decode(b'{"cell":"c","partitions":2,"seq":4,"received":{"1":9}}')
    assert (read.seq, read.received) == (5, {1: 9})


@pytest.mark.parametrize("cell", RECORDED, ids=lambda cell: f"{cell['cell']}-{cell['partition']}-{cell['seq']}")
def test_a_new_shape_of_jobs_closes_no_partition(cell: dict[str, Any], second_shape: None) -> None:
    """A partition of the first shape opens, goes on, and writes what it touches in the second."""
    before: Machine = rebuild(cell["partition"], cell["cell"], cell["partitions"], records(cell), LIMITS, Retained())
    untouched = dict(before.streams["job"])
    now_ms, written = cell["now_ms"], set()
    for _ in range(100):
        plan = before.decide(now_ms, Incoming(deque(), deque()), single=False, over_time=lambda: False)
        if plan.empty:
            break
        assert not plan.aside
        written |= {value[:6] for key, value in plan.state.items() if key.startswith(b"s|job:") and value}
        before.committed(plan)
        now_ms += 60_000
    assert written <= {b"job/2|"}
    assert untouched.keys() <= before.streams["job"].keys()
    for stream in before.streams["job"]:
        assert isinstance(before.load(stream), JobOfTwo)

"""State of every version is read for ever: golden values, and a new shape of the job over what the old one wrote."""

from __future__ import annotations

import importlib.util
import json
import re
from collections import deque
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import msgspec
import pytest
from test_state_of_before import LIMITS, RECORDED, records

from jobledger.domain import aggregates
from jobledger.domain.cell.commands import EnableLevel
from jobledger.domain.identity import cell_stream
from jobledger.domain.job.kind import JOB
from jobledger.domain.job.state import Job
from jobledger.domain.levels import LEVELS, NEWEST, OLDEST, level_of
from jobledger.domain.values import SYSTEM
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
from jobledger.schemas.commands import Command

GOLDEN = Path(__file__).parents[1] / "golden"
STATES = sorted((GOLDEN / "state").glob("*.txt"))


class JobOfTwo(Job, kw_only=True):
    """A made-up second shape: every job has a cost, which the first did not tell."""

    cost: int

    class_version = 2
    class_levels: ClassVar[dict[int, int]] = {2: 2}

    @staticmethod
    def upcast_v1_v2(state: dict[str, Any]) -> None:
        state["cost"] = 10 * state["priority"]

    @staticmethod
    def downcast_v2_v1(state: dict[str, Any]) -> None:
        del state["cost"]


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


def test_every_later_version_names_its_level() -> None:
    """Else it would be written before an operator has said that nobody of before reads it any more."""
    for name, cls in STATE_CLASSES.items():
        levels = getattr(cls, "class_levels", {})
        assert set(levels) == set(range(2, class_version(cls) + 1)), name
        assert set(levels.values()) <= set(LEVELS) - {OLDEST}


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


def _run(machine: Machine, now_ms: int, *commands: EnableLevel) -> dict[bytes, bytes]:
    """Decide until nothing is left; what was written last, by key."""
    stream = cell_stream(machine.partition, machine.checkpoint.partitions)
    own = deque(Command(id=f"own-{n}", stream=stream, actor=SYSTEM, body=body) for n, body in enumerate(commands))
    written: dict[bytes, bytes] = {}
    for _ in range(100):
        plan = machine.decide(now_ms, Incoming(deque(), own), single=False, over_time=lambda: False)
        if plan.empty:
            break
        assert not plan.aside
        written.update({key: value or b"" for key, value in plan.state.items()})
        machine.committed(plan)
        now_ms += 60_000
    return written


def _jobs(written: dict[bytes, bytes]) -> set[bytes]:
    return {value[:6] for key, value in written.items() if key.startswith(b"s|job:") and value}


@pytest.mark.parametrize("cell", RECORDED, ids=lambda cell: f"{cell['cell']}-{cell['partition']}-{cell['seq']}")
def test_a_new_shape_of_jobs_closes_no_partition(cell: dict[str, Any], second_shape: None) -> None:
    """A partition of the first shape opens and goes on, in the first until an operator enables the second.

    What was not touched since stays as it is, and is read.
    """
    place = cell["partition"], cell["cell"], cell["partitions"]
    before = rebuild(*place, records(cell), LIMITS, Retained())
    untouched = set(before.streams["job"])
    first = _run(before, cell["now_ms"])
    assert _jobs(first) <= {b"job/1|"}
    assert (before.checkpoint.level, before.checkpoint.reads) == (OLDEST, NEWEST)
    assert first.get(b"c|", b"checkpoint/1|").startswith(b"checkpoint/1|")
    second = _run(before, cell["now_ms"] + 6_000_000, EnableLevel(level=NEWEST))
    assert _jobs(second) <= {b"job/2|"}
    assert second[b"c|"].startswith(b"checkpoint/2|")
    after = rebuild(*place, {k: v for k, v in (records(cell) | first | second).items() if v}, LIMITS, Retained())
    assert after.checkpoint == before.checkpoint
    assert after.checkpoint.level == NEWEST
    assert untouched <= after.streams["job"].keys() == before.streams["job"].keys()
    for stream in after.streams["job"]:
        assert isinstance(after.load(stream), JobOfTwo)
        assert after.load(stream) == before.load(stream)


def _new(partition: int = 0) -> Machine:
    return rebuild(partition, "new", 3, {}, LIMITS, Retained())


def test_a_new_cell_begins_with_the_newest_formats() -> None:
    """Nobody of before has ever written to it."""
    machine = _new()
    written = _run(machine, 1_800_000_000_000, EnableLevel(level=NEWEST))
    assert decode_state(written[b"c|"]).level == machine.checkpoint.level == NEWEST
    assert written[b"c|"].startswith(b"checkpoint/2|")


@pytest.mark.parametrize("level", [OLDEST, NEWEST])
def test_an_enabled_level_stays(level: int) -> None:
    """Again it changes nothing, a level that nobody knows is refused, and there is no way back."""
    machine = _new(2)
    _run(machine, 1_800_000_000_000, EnableLevel(level=NEWEST))
    seq = machine.checkpoint.seq
    _run(machine, 1_800_000_000_000, EnableLevel(level=level), EnableLevel(level=NEWEST + 1))
    assert (machine.checkpoint.seq, machine.checkpoint.level) == (seq, NEWEST)


def test_the_oldest_level_leaves_nothing_that_only_later_releases_know() -> None:
    """An owner of the release before takes the partition over as it was."""
    machine = _new(2)
    machine.checkpoint.level = OLDEST
    written = _run(machine, 1_800_000_000_000, EnableLevel(level=OLDEST))
    assert machine.checkpoint.seq == 0 and machine.checkpoint.level == OLDEST
    assert not any(b"|cell:" in key and value for key, value in written.items() if key[:2] in (b"s|", b"e|"))


def test_a_level_above_those_of_this_release_is_refused() -> None:
    """The owner closes the partition with an alarm instead of forgetting what it cannot read."""
    machine = _new()
    machine.checkpoint.level = NEWEST + 1
    with pytest.raises(UnreadableStateError, match="needs another release"):
        rebuild(0, "new", 3, {b"c|": encode_state(machine.checkpoint)}, LIMITS, Retained())


@pytest.mark.parametrize("broken", [b"", b"garbage", b"job/1|{", b"checkpoint/9|{}", b"stub/1|{}"])
def test_a_record_that_is_no_state_is_named(broken: bytes) -> None:
    """The owner closes the partition and says which record it is, instead of trying again and again."""
    seen = dict[bytes, tuple[dict[str, Any], bytes]]()
    for cell in RECORDED:
        seen.update({key[:2]: (cell, key) for key in records(cell) if key[:1] in b"csek"})
    assert seen.keys() == {b"c|", b"s|", b"e|", b"k|"}
    for cell, key in seen.values():
        with pytest.raises(UnreadableStateError, match=rf"^Record '{re.escape(key.decode())}' of the state: "):
            _rebuilt(cell, {key: broken})
    with pytest.raises(UnreadableStateError, match=r"Record 's\|job"):
        _rebuilt(RECORDED[0], {b"s|job:default:\xff": b"job/1|{}"})


def _rebuilt(cell: dict[str, Any], replaced: dict[bytes, bytes]) -> Machine:
    state = {**records(cell), **replaced}
    return rebuild(cell["partition"], cell["cell"], cell["partitions"], state, LIMITS, Retained())


def test_releases_name_their_level() -> None:
    """By the first two numbers, whatever follows."""
    assert [level_of(name) for name in ("0.1", "0.1.7", "0.2.0.dev0", "0.2")] == [1, 1, 2, 2]
    assert [level_of(name) for name in ("", "0", "2", "0.3", "0.22", "0.2.", "0.2.x", "0.2.1.1")] == [None] * 8

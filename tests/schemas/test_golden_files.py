"""What was once public is read for ever: golden events of each version, and a whole recorded log."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import msgspec
import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka_event

from jobledger.domain.aggregates import State, mutate
from jobledger.domain.events import AnyEvent
from jobledger.domain.job.events import JobSubmitted
from jobledger.domain.job.state import Job
from jobledger.processors.core.plan import EventOut
from jobledger.schemas import events as wire
from jobledger.schemas.events import EventMapper, EventRecord, UnknownEventTypeError, cloudevents_headers, type_name
from jobledger.simulator.checks import History
from jobledger.simulator.state_hash import fold_hash

GOLDEN = Path(__file__).parents[1] / "golden"
EVENTS = sorted((GOLDEN / "events").glob("*.json"))
LOGS = sorted(GOLDEN.glob("log-*.jsonl"))
WANTED = (
    "job.succeeded",
    "job.dead_lettered",
    "job.cancelled",
    "task.failed",
    "task.lost",
    "task.returned",
    "task.checkpoint_saved",
    "queue.task_cancel_sent",
    "queue.task_withdrawn",
    "queue.worker_lost",
)
SOURCE = b"/cells/golden/tenants/default"
_mapper = EventMapper()


def _recorder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("record_golden", GOLDEN / "record_golden.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _read(path: Path) -> tuple[dict[str, str], bytes]:
    golden = json.loads(path.read_text(encoding="utf-8"))
    return golden["headers"], golden["value"].encode()


def test_every_event_has_a_golden_file() -> None:
    """Each type of today's code, at its version, was recorded when it became public."""
    assert {f"{type_name(cls)}.json" for cls in get_args(AnyEvent)} <= {path.name for path in EVENTS}


@pytest.mark.parametrize("path", EVENTS, ids=lambda path: path.stem)
def test_a_golden_event_is_read_as_it_was_meant(path: Path) -> None:
    """Every field of the file arrives, and goes out again as it came in while the version is the newest."""
    headers, value = _read(path)
    record = _mapper.read(headers["ce_type"], value)
    if type_name(record.data) == headers["ce_type"]:
        assert json.loads(_mapper.transcoder.encode(record)) == json.loads(value)
        recorded = [name for name in json.loads(value)["data"] if name != "type"]  # later fields have their defaults
        assert record == _recorder().golden_record(type(record.data), recorded)
        stored = _mapper.to_stored_event(record)
        assert (stored.topic, stored.originator_id, stored.originator_version) == (path.stem, record.originator_id, 7)
        assert _mapper.to_domain_event(stored) == record


@pytest.mark.parametrize("path", EVENTS, ids=lambda path: path.stem)
def test_the_headers_are_a_cloud_event(path: Path) -> None:
    """The CloudEvents SDK reads our headers in binary mode, and what it reads is the envelope."""
    golden, value = _read(path)
    record = _mapper.read(golden["ce_type"], value)
    headers = cloudevents_headers(record, SOURCE)
    assert {key: _text(one) for key, one in headers} == golden
    message = KafkaMessage({key: _text(one).encode() for key, one in headers}, record.originator_id.encode(), value)
    event = from_kafka_event(message)
    assert event.get_id() == record.id
    assert event.get_type() == golden["ce_type"]
    assert event.get_source() == SOURCE.decode()
    assert event.get_subject() == record.originator_id
    assert event.get_specversion() == "1.0"
    assert event.get_datacontenttype() == "application/json"
    time = event.get_time()
    assert time is not None
    assert round(time.timestamp() * 1000) == record.at_ms
    assert event.get_extension("sequence") == str(record.seq)
    assert event.get_extension("traceparent") == record.traceparent
    assert event.get_data() == json.loads(value)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


# -- a whole log ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_a_recorded_log_folds_to_the_recorded_state(path: Path) -> None:
    """Every event is legal where it stands, and the fold is what it was when the log was recorded."""
    lines = path.read_text(encoding="utf-8").splitlines()
    head = json.loads(lines[0])
    history = History(head["partitions"])
    for line in lines[1:]:
        one = json.loads(line)
        headers: list[tuple[str, str | bytes | None]] = [(key, text.encode()) for key, text in one["headers"].items()]
        history.apply(one["partition"], EventOut(one["key"].encode(), one["value"].encode(), headers))
    assert len(lines) - 1 == head["events"]
    assert fold_hash(history.partitions) == head["state_sha256"]


def test_the_first_log_holds_every_kind_of_end() -> None:
    """Jobs of the recorded log succeed, retry, are dead-lettered, cancelled in three ways, and lose their worker."""
    types = [json.loads(line)["headers"]["ce_type"] for line in LOGS[0].read_text().splitlines()[1:]]
    for name in WANTED:
        assert f"io.jobledger.{name}.v1" in types, name


def test_one_changed_field_changes_the_hash() -> None:
    """The hash sees a single bit of the folded state."""
    history = History(1)
    submitted = msgspec.structs.replace(_recorder().golden_record(JobSubmitted), originator_version=1)
    job = mutate(None, submitted)
    assert isinstance(job, Job)
    history.partitions[0].states[job.id] = job
    before = fold_hash(history.partitions)
    job.priority = 2
    assert fold_hash(history.partitions) != before


# -- older and newer versions ------------------------------------------------------------------------------------------


def _as_version(version: str, **changes: Any) -> tuple[str, bytes]:
    record = _recorder().golden_record(JobSubmitted)
    raw = json.loads(_mapper.transcoder.encode(record))
    raw["data"] = {**raw["data"], "type": f"job.submitted.{version}", **changes}
    return f"io.jobledger.job.submitted.{version}", json.dumps(raw).encode()


def test_an_older_version_is_raised_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event of an artificial version 0, in which the handler was called `function`, is read as version 1."""

    def upcast(data: dict[str, Any]) -> None:
        data["handler"] = data.pop("function")

    monkeypatch.setattr(JobSubmitted, "upcast_v0_v1", staticmethod(upcast), raising=False)
    topic, value = _as_version("v0", function="index")
    raw = json.loads(value)
    del raw["data"]["handler"]
    record: EventRecord = _mapper.read(topic, json.dumps(raw).encode())
    assert isinstance(record.data, JobSubmitted)
    assert record.data.handler == "index"
    assert record == msgspec.structs.replace(
        _recorder().golden_record(JobSubmitted), data=msgspec.structs.replace(record.data, handler="index")
    )
    state: State = mutate(None, msgspec.structs.replace(record, originator_version=1))
    assert isinstance(state, Job)
    assert state.handler == "index"


@pytest.mark.parametrize("version", ["v2", "v0", "v", "vx", "beta"])
def test_versions_that_nobody_can_raise_stop_the_reader(version: str) -> None:
    """A newer version, an older one without its step, and nonsense are unknown: never read as something else."""
    topic, value = _as_version(version)
    with pytest.raises(UnknownEventTypeError, match="upgrade the reader"):
        _mapper.read(topic, value)


def test_a_header_that_contradicts_the_event_is_an_error() -> None:
    _, value = _read(EVENTS[0])
    other = next(path for path in EVENTS if path != EVENTS[0])
    with pytest.raises(msgspec.ValidationError, match="header says"):
        _mapper.read(other.stem, value)


def test_the_newest_version_of_a_type_wins() -> None:
    """The table of newest versions compares numbers, not texts."""
    assert wire._version("io.jobledger.job.submitted.v10") > wire._version("io.jobledger.job.submitted.v9")

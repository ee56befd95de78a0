"""Specs of jobs and settings of queues: whatever field they have goes all the way, under one name."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import asdict, fields

from jobledger.domain.job import commands as jc
from jobledger.domain.job import decide as jobs
from jobledger.domain.job import events as je
from jobledger.domain.job import evolve as job_evolve
from jobledger.domain.queue import commands as qc
from jobledger.domain.queue import decide as queues
from jobledger.domain.queue import events as qe
from jobledger.domain.queue import evolve as queue_evolve
from jobledger.domain.queue.settings import DEFAULT_SETTINGS, QueueChanges, QueueSettings, changed, settings_of
from jobledger.domain.spec import Assignment, JobSpec, ReadyTask, TaskSpec
from jobledger.domain.values import Lineage, Opaque, RetryPolicy, Value, carrier
from jobledger.domain.worker_messages import RunTask

JOB, QUEUE = "job:default:0199", "queue:default:mail"
NOW = 1_000_000
#: Every field of a job's spec with a value that is not its default. A new field has its own here.
SPEC: dict[str, Any] = {
    "handler": "send",
    "payload": Opaque('{"to":"a@b"}'),
    "timeout_seconds": 2.5,
    "queue": "mail",
    "priority": 2,
    "retry": RetryPolicy(max_attempts=7),
    "key_digest": "k" * 64,
    "request_digest": "r" * 64,
    "expected_duration_seconds": 900.0,
}
#: The same of a queue's settings.
SETTINGS: dict[str, Any] = {"max_waiting_bytes": 77, "description": "letters"}


def taken(value: Any, of: type[msgspec.Struct]) -> dict[str, Any]:
    return {name: getattr(value, name) for name in of.__struct_fields__}


def test_the_samples_are_of_every_field() -> None:
    for sample, of in ((SPEC, JobSpec), (SETTINGS, QueueSettings)):
        assert {field.name for field in fields(of)} == sample.keys()
        assert not any(field.default == sample[field.name] for field in fields(of))


def test_a_spec_goes_from_the_submission_to_the_worker() -> None:
    """Through command, event, state, queue and message: nothing of it is lost, however many fields it has."""
    submitted, ready = jobs.decide(JOB, None, jc.SubmitJob(**SPEC), NOW)  # type: ignore[misc]
    assert isinstance(submitted, je.JobSubmitted) and taken(submitted, JobSpec) == SPEC
    job = job_evolve.create(JOB, submitted, Lineage())
    assert taken(job, JobSpec) == SPEC
    job_evolve.EVOLVE[type(ready)](job, ready)
    (follow_up,) = jobs.react(job, ready)
    worker = qc.SetCredits(worker="w", incarnation="w.1", pool="d", credits=1, handlers=["send"])
    state: Any = None
    message: Any = None
    wanted = {name: SPEC[name] for name in TaskSpec.__struct_fields__}
    for command in (follow_up.body, worker, qc.DispatchTasks()):  # type: ignore[union-attr]
        for event in queues.decide(QUEUE, state, command, NOW):  # type: ignore[union-attr]
            if state is None:
                state = queue_evolve.create(QUEUE, event)  # type: ignore[arg-type]
                continue
            queue_evolve.EVOLVE[type(event)](state, event)
            if isinstance(event, qe.TaskEnqueued):
                assert taken(event, TaskSpec) == wanted
                assert taken(state.lanes.tasks[f"{JOB}/main"], ReadyTask) == taken(event, ReadyTask)
            for effect in queues.react(state, event):
                message = effect.message  # type: ignore[union-attr]
    assert isinstance(message, RunTask)
    assert taken(message, TaskSpec) == wanted
    assert taken(message, Assignment) == taken(follow_up.body, Assignment)  # type: ignore[union-attr]


def test_settings_go_from_the_command_to_the_state() -> None:
    (created,) = queues.decide(QUEUE, None, qc.CreateQueue(**SETTINGS), NOW)  # type: ignore[misc]
    state = queue_evolve.create(QUEUE, created)  # type: ignore[arg-type]
    assert asdict(settings_of(state.queue)) == SETTINGS
    other = queue_evolve.create(QUEUE, qe.QueueCreated(created_at_ms=NOW, **asdict(DEFAULT_SETTINGS)))
    (updated,) = queues.decide(QUEUE, other, qc.UpdateQueue(**SETTINGS), NOW)  # type: ignore[misc]
    queue_evolve.EVOLVE[qe.QueueUpdated](other, updated)
    assert asdict(settings_of(other.queue)) == SETTINGS
    assert queues.decide(QUEUE, other, qc.UpdateQueue(**SETTINGS), NOW) == []


@pytest.mark.parametrize("name", SETTINGS)
def test_a_change_leaves_the_other_settings_as_they_are(name: str) -> None:
    after = changed(DEFAULT_SETTINGS, QueueChanges(**{name: SETTINGS[name]}))
    assert asdict(after) == {**asdict(DEFAULT_SETTINGS), name: SETTINGS[name]}


def test_every_setting_can_be_changed_and_none_has_to_be() -> None:
    assert QueueChanges.__struct_fields__ == QueueSettings.__struct_fields__
    assert changed(DEFAULT_SETTINGS, QueueChanges()) == DEFAULT_SETTINGS


class _Older(Value, frozen=True, kw_only=True):
    name: str


class _Spec(_Older, frozen=True, kw_only=True):
    limit: int | None = None


class _State(_Spec, frozen=True, kw_only=True):
    version: int
    note: str = ""


def test_a_carrier_takes_the_base_and_names_the_rest() -> None:
    made = carrier(_Spec, _State, "note")
    assert made(_Spec(name="a", limit=3), version=1, note="n") == _State(name="a", limit=3, version=1, note="n")
    assert carrier(_Spec, _Spec)(_State(name="a", version=1)) == _Spec(name="a")
    with pytest.raises(TypeError, match="version"):
        made(_Spec(name="a"), note="n")


def test_what_was_written_before_a_field_came_is_read_and_written_as_it_was() -> None:
    """And the other way round: a field that holds its default is not written, one that is not known is passed over."""
    before = msgspec.json.encode(_Older(name="a"))
    assert msgspec.json.decode(before, type=_Spec) == _Spec(name="a")
    assert msgspec.json.encode(_Spec(name="a")) == before
    assert msgspec.json.decode(msgspec.json.encode(_Spec(name="a", limit=3)), type=_Older) == _Older(name="a")


def test_every_field_of_a_spec_and_of_settings_that_is_added_has_a_default() -> None:
    """Those without one were there in the first release."""
    required = {of.__name__: [one.name for one in fields(of) if one.required] for of in (JobSpec, QueueSettings)}
    assert required == {
        "JobSpec": ["handler", "payload", "queue", "priority", "retry"],
        "QueueSettings": ["max_waiting_bytes"],
    }

"""A partition goes on from what the first version wrote to `state`: recorded once, and never recorded again."""

from __future__ import annotations

import json
from collections import deque
from pathlib import Path
from typing import Any

import pytest

from jobledger.domain.job.state import Job
from jobledger.domain.levels import OLDEST
from jobledger.processors.core.machine import Incoming, Machine
from jobledger.processors.core.memory import Limits
from jobledger.processors.core.recovery import check_tail, check_topics, rebuild
from jobledger.processors.core.retained import Retained
from jobledger.processors.core.state_records import decode_state, encode_state
from jobledger.schemas.commands import read_record
from jobledger.schemas.worker import read_tasks

#: One partition a line: cells in the middle of their work, as the simulator left them.
RECORDED = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "golden" / "state-v1.jsonl").read_text(encoding="utf-8").splitlines()
]
LIMITS = Limits(dedup_window_ms=3_650 * 86_400_000)


def records(cell: dict[str, Any]) -> dict[bytes, bytes]:
    return {key.encode(): value.encode() for key, value in cell["records"].items()}


def machine(cell: dict[str, Any]) -> Machine:
    found = rebuild(cell["partition"], cell["cell"], cell["partitions"], records(cell), LIMITS, Retained())
    check_tail(cell["partition"], found.checkpoint, cell["seq"])
    check_topics(found.checkpoint, {"events": "first seen"})
    return found


def test_every_kind_of_record_was_recorded() -> None:
    """Else the tests below would show little."""
    keys = [key for cell in RECORDED for key in cell["records"]]
    assert {key.partition("|")[0] for key in keys} == set("stweokc")
    assert {key[:3] for key in keys if key[0] == "o"} == {"o|c", "o|t"}
    jobs = [decode_state(v) for cell in RECORDED for k, v in records(cell).items() if k.startswith(b"s|job:")]
    statuses = {job.status.value for job in jobs if isinstance(job, Job)}
    assert statuses == {"SCHEDULED", "QUEUED", "RUNNING", "RETRYING", "CANCELLING", "DEAD_LETTERED"}
    assert any(decode_state(records(cell)[b"c|"]).pending for cell in RECORDED)


@pytest.mark.parametrize("cell", RECORDED, ids=lambda cell: f"{cell['cell']}-{cell['partition']}-{cell['seq']}")
def test_what_was_read_is_written_as_it_was(cell: dict[str, Any]) -> None:
    """Nothing is lost on the way through memory; what is new has a default, which is not written.

    The order of the fields is no part of the format.
    """
    for key, value in records(cell).items():
        if not key.startswith(b"o|"):
            assert parsed(encode_state(decode_state(value), OLDEST)) == parsed(value)


def parsed(value: bytes) -> tuple[bytes, Any]:
    head, _, body = value.partition(b"|")
    return head, json.loads(body)


@pytest.mark.parametrize("cell", RECORDED, ids=lambda cell: f"{cell['cell']}-{cell['partition']}-{cell['seq']}")
def test_a_partition_goes_on_from_it(cell: dict[str, Any]) -> None:
    """What was left over is decided, what is due fires, and what it sends can be read where it arrives."""
    before = machine(cell)
    live = set(before.streams["job"])
    now_ms = cell["now_ms"]
    for _ in range(100):
        plan = before.decide(now_ms, Incoming(deque(), deque()), single=False, over_time=lambda: False)
        if plan.empty:
            break
        assert not plan.aside
        before.committed(plan)
        now_ms += 60_000
    assert not before.unfinished
    assert live <= set(before.streams["job"])
    for entry in before.outbox.values():
        if entry.topic_letter == "c":
            read_record(entry.value)
        else:
            assert read_tasks(entry.value)[1] == []

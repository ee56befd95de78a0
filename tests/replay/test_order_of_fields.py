"""A job that another release has written is the same state, in whatever order its fields stand."""

from __future__ import annotations

import json

import pytest
from memory_owner import Decider, job, submit

from jobledger.replay.report import Report
from jobledger.replay.state import StateFold


def folded(decider: Decider) -> Report:
    report = Report("c")
    fold = StateFold(decider.machine, report, 86_400_000)
    for record in decider.records:
        assert fold.fold(record)
    fold.finish()
    return report


@pytest.mark.parametrize(("change", "differences"), [({}, 0), ({"priority": 1}, 1)], ids=["reordered", "changed"])
def test_a_job_is_compared_by_what_it_means(change: dict[str, int], differences: int) -> None:
    decider, stream = Decider(), job("a")
    decider.feed(submit(stream))
    decider.settle()
    jobs = decider.machine.streams["job"]
    head, _, body = bytes(jobs[stream]).partition(b"|")
    fields = json.loads(body) | change
    jobs[stream] = head + b"|" + json.dumps(dict(reversed(fields.items()))).encode()
    assert folded(decider).difference_count == differences

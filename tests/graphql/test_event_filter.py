"""Which filters of events are refused, and what they match."""

from __future__ import annotations

from typing import Any

import pytest
import uuid_utils

from jobledger.domain.identity import job_stream, partition_of
from jobledger.graphql.event_filter import EventFilter
from jobledger.graphql.types.errors import QueryError
from jobledger.graphql.types.inputs import JobEventFilter

JOBS = [str(uuid_utils.uuid7()) for _ in range(3)]


def test_several_jobs_are_looked_for_where_they_live() -> None:
    want = EventFilter.of("default", JobEventFilter(job_ids=JOBS), from_start=False, after=True)  # type: ignore[arg-type]
    assert want.partitions(64) == sorted({partition_of(job_stream("default", job), 64) for job in JOBS})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"job_ids": []}, "jobIds has 0 entries; use 1 to 1000"),
        ({"job_ids": JOBS * 400}, "jobIds has 1200 entries; use 1 to 1000"),
        ({"job_ids": ["x"]}, "jobIds.0 'x' is not a UUID"),
        ({"job_ids": JOBS, "job_id": JOBS[0]}, "jobId and jobIds are both given; give one of them"),
    ],
)
def test_a_filter_that_cannot_be_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(QueryError, match=said):
        EventFilter.of("default", JobEventFilter(**given), from_start=False, after=False)

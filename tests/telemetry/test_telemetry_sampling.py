from __future__ import annotations

import math
import random
from collections import Counter

import pytest

from jobledger.telemetry.attempt_trace import attempt_trace
from jobledger.telemetry.quantile import GROWTH, StreamingQuantile
from jobledger.telemetry.sampling import FIRST_EXECUTIONS, MAX_JOB_TYPES, Sampler, SamplingReason, in_share
from jobledger.telemetry.traceparent import parse_traceparent
from jobledger.telemetry.tracestate import reason_in, scheduler_member, with_reason

SUBMITTER = f"00-{'ab' * 16}-{'cd' * 8}-00"


def trace_ids(seed: int, count: int) -> list[str]:
    random_ids = random.Random(seed)
    return [f"{random_ids.getrandbits(128):032x}" for _ in range(count)]


def test_each_kind_of_trace_is_kept_in_its_proportion() -> None:
    """30,000 executions of three types: failures all, slow ones all, the first 100 of each, 1 % of the rest."""
    made, sampler = random.Random(7), Sampler()
    kept: Counter[SamplingReason | None] = Counter()
    failures = slow = seen = 0
    for number, trace_id in enumerate(trace_ids(8, 30_000)):
        job_type = f"type-{number % 3}"
        failed = made.random() < 0.02
        seconds = made.lognormvariate(-2, 0.5)
        is_slow = number >= 3_000 and not failed and seconds > sampler.slow_above(job_type)
        reason = sampler.decide(job_type, failed, seconds, trace_id)
        kept[reason] += 1
        failures += failed
        if failed:
            assert reason is SamplingReason.ERROR
        elif number < 3 * FIRST_EXECUTIONS:
            assert reason is SamplingReason.NEW
        elif number >= 3_000:
            seen += 1
            slow += is_slow
            assert (reason is SamplingReason.SLOW) == is_slow
            assert is_slow or (reason is SamplingReason.NORMAL) == in_share(trace_id, 0.01)
    assert kept[SamplingReason.ERROR] == failures
    assert 3 * FIRST_EXECUTIONS - 30 < kept[SamplingReason.NEW] <= 3 * FIRST_EXECUTIONS
    assert 0.035 < slow / seen < 0.06  # what is above a 95th percentile, less the width of its bucket
    rest = kept[SamplingReason.NORMAL] + kept[None]
    assert abs(kept[SamplingReason.NORMAL] - rest / 100) < 4 * math.sqrt(rest * 0.01 * 0.99)


def test_one_in_a_hundred_of_the_trace_ids_and_the_same_ones_everywhere() -> None:
    ids = trace_ids(9, 50_000)
    chosen = [one for one in ids if in_share(one, 0.01)]
    assert abs(len(chosen) - 500) < 4 * math.sqrt(500 * 0.99)
    assert chosen == [one for one in ids if in_share(one, 0.01)]
    assert all(in_share("0" * 18 + one[18:], 0.01) for one in chosen), "the low 56 bits decide"
    assert all(in_share(one, 0.1) for one in chosen), "a greater share holds the smaller one"
    assert not in_share("f" * 18 + "0" * 14, 0.01) and in_share("0" * 18 + "f" * 14, 0.01)


def test_the_quantile_is_learned_within_the_width_of_a_bucket() -> None:
    made, learned = random.Random(3), StreamingQuantile(0.95)
    values = [made.lognormvariate(0, 1) for _ in range(1_900)]
    assert learned.value == math.inf and not learned.exceeds(1e9)
    for value in values:
        learned.observe(value)
    exact = sorted(values)[int(0.95 * len(values))]
    assert exact / GROWTH**2 < learned.value < exact * GROWTH**2


def test_the_quantile_follows_a_stream_that_changes() -> None:
    learned = StreamingQuantile(0.95)
    for _ in range(5_000):
        learned.observe(0.1)
    for _ in range(5_000):
        learned.observe(10.0)
    assert 9 < learned.value < 11


def test_equal_durations_are_never_slow() -> None:
    sampler = Sampler()
    reasons = {sampler.decide("same", False, 0.0004, "0" * 32) for _ in range(5_000)}
    assert reasons == {SamplingReason.NEW, None}


def test_types_beyond_the_bound_share_one_place() -> None:
    sampler = Sampler()
    for number in range(MAX_JOB_TYPES):
        assert sampler.decide(f"type-{number}", False, 0.1, "0" * 32) is SamplingReason.NEW
    reasons = [sampler.decide(f"more-{number}", False, 0.1, "0" * 32) for number in range(300)]
    assert reasons == [SamplingReason.NEW] * FIRST_EXECUTIONS + [None] * (300 - FIRST_EXECUTIONS)


def test_what_is_expected_is_what_comes_of_it_unless_it_is_slow_or_fails() -> None:
    sampler = Sampler()
    for trace_id in trace_ids(4, 5_000):
        expected = sampler.expects("t", trace_id)
        assert expected == (sampler.decide("t", False, 0.1, trace_id) is not None)


def test_every_process_derives_the_same_connected_ids() -> None:
    mine, theirs = (attempt_trace(SUBMITTER, "e-1", 1, 2, waited_for=True) for _ in range(2))
    assert mine == theirs
    assert (mine.trace_id, mine.parent, mine.link, mine.sampled) == ("ab" * 16, "cd" * 8, "", False)
    ids = [mine.parent, mine.schedule, mine.queue, mine.execution]
    assert len(set(ids)) == 4 and all(len(one) == 16 for one in ids)
    assert parse_traceparent(mine.traceparent(mine.execution, sampled=True)) is not None
    again = attempt_trace(SUBMITTER, "e-1", 1, 3, waited_for=True)
    assert again.trace_id == mine.trace_id and not {*again[2:5]} & {*ids}


def test_later_work_is_a_trace_of_its_own_with_a_link() -> None:
    later = attempt_trace(SUBMITTER, "e-1", 2, 2, waited_for=False)
    assert later.trace_id != "ab" * 16 and later.parent == "" and later.link == SUBMITTER
    assert attempt_trace(SUBMITTER, "e-1", 2, 3, waited_for=False).trace_id == later.trace_id
    assert attempt_trace(SUBMITTER, "e-1", 3, 3, waited_for=False).trace_id != later.trace_id


@pytest.mark.parametrize("submitter", ["", "nonsense"])
def test_a_job_of_nobody_known_has_a_trace_too(submitter: str) -> None:
    alone = attempt_trace(submitter, "e-1", 1, 1, waited_for=True)
    assert alone.parent == alone.link == "" and not alone.sampled
    assert parse_traceparent(alone.traceparent(alone.execution, sampled=False)) is not None


def test_the_reason_stands_in_tracestate_beside_what_others_wrote() -> None:
    state = with_reason(scheduler_member("scheduler 1,=é"), SamplingReason.SLOW)
    assert state == "jobledger=slow,scheduler=scheduler_1___"
    assert reason_in(state) is SamplingReason.SLOW
    assert with_reason(state, SamplingReason.ERROR) == "jobledger=error,scheduler=scheduler_1___"
    assert with_reason("a=" + "b" * 506, SamplingReason.NEW) == "jobledger=new"
    assert [reason_in(text) for text in ("", "jobledger=other", "a=b, jobledger=new")] == [
        None,
        None,
        SamplingReason.NEW,
    ]

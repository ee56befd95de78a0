"""The timers of a partition: one a stream, none lost, none that nobody wants kept for long."""

from __future__ import annotations

from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobledger.processors.core import timers as module
from jobledger.processors.core.timers import Timers

STREAMS = st.sampled_from([f"job:default:{n}" for n in range(8)])
STEPS = st.lists(st.tuples(STREAMS, st.none() | st.integers(0, 50)), max_size=200)


@pytest.mark.parametrize("spare", [0, 1_000])
@given(steps=STEPS, now=st.integers(0, 60))
def test_what_fires_is_what_was_last_set_in_order(spare: int, steps: list[tuple[str, int | None]], now: int) -> None:
    """Also while a sweep is under way, which with nothing to spare it nearly always is."""
    with mock.patch.object(module, "_SPARE", spare), mock.patch.object(module, "_SWEPT_AT_ONCE", 2):
        _check(steps, now)


def _check(steps: list[tuple[str, int | None]], now: int) -> None:
    timers, wanted = Timers(), dict[str, int]()
    for stream, due in steps:
        timers.set(stream, due)
        wanted.pop(stream, None)
        if due is not None:
            wanted[stream] = due
    assert sorted(timers) == sorted((due, stream) for stream, due in wanted.items())
    assert timers.first_ms() == min(wanted.values(), default=None)
    assert sorted(timers.before(now, 100)) == sorted(due for due in wanted.values() if due < now)
    fired = []
    while (timer := timers.pop_due(now)) is not None:
        fired.append(timer)
    assert fired == sorted((due, stream) for stream, due in wanted.items() if due <= now)
    assert len(timers) == len(wanted) - len(fired)


def test_a_timer_that_was_taken_off_does_not_stay_until_its_time() -> None:
    """A hundred thousand attempts that began and ended, each with a limit a day ahead, leave next to nothing."""
    timers = Timers()
    timers.set("job:default:waits", 90_000_000)
    for number in range(100_000):
        stream = f"job:default:{number}"
        timers.set(stream, 86_400_000 + number)
        timers.set(stream, None)
    assert timers.held <= 1_010
    assert timers.first_ms() == 90_000_000


def test_a_sweep_of_many_timers_goes_on_a_little_with_each_change() -> None:
    """No change of a timer looks at more than a few entries, however many there are."""
    timers = Timers()
    timers.load((due, f"job:default:{due}") for due in range(20_000))
    looked: list[int] = []
    wanted = Timers._wanted

    def counted(self: Timers, entry: tuple[int, str]) -> bool:
        looked[-1] += 1
        return wanted(self, entry)

    with mock.patch.object(Timers, "_wanted", counted):
        for number in range(30_000):
            looked.append(0)
            timers.set(f"job:default:{number % 20_000}", 50_000 + number)
    assert sum(looked) > 20_000, "no sweep was needed"
    assert max(looked) <= 8
    assert timers.held <= 2 * len(timers) + 1_001
    assert sorted(timers) == sorted((50_000 + n, f"job:default:{n % 20_000}") for n in range(10_000, 30_000))


def test_a_count_of_what_is_late_looks_no_further_than_its_limit() -> None:
    timers = Timers()
    timers.load((due, f"job:default:{due}") for due in range(1_000))
    assert len(timers.before(500, 10)) == 10
    assert sorted(timers.before(500, 1_000)) == list(range(500))

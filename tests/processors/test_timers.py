"""The timers of a partition: one a stream, none lost, none that nobody wants kept for long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jobledger.processors.core.timers import Timers

STREAMS = st.sampled_from([f"job:default:{n}" for n in range(8)])
STEPS = st.lists(st.tuples(STREAMS, st.none() | st.integers(0, 50)), max_size=200)


@given(STEPS, st.integers(0, 60))
def test_what_fires_is_what_was_last_set_in_order(steps: list[tuple[str, int | None]], now: int) -> None:
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


def test_a_count_of_what_is_late_looks_no_further_than_its_limit() -> None:
    timers = Timers()
    timers.load((due, f"job:default:{due}") for due in range(1_000))
    assert len(timers.before(500, 10)) == 10
    assert sorted(timers.before(500, 1_000)) == list(range(500))

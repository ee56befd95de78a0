"""A clock that jumps while a partition is served: nothing is decided by it, and nothing stands still afterwards."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from log_cell import USER, submit, until
from owner_in_memory import CELL, OwnerInMemory, new_job
from uuid_utils.compat import uuid7

from jobledger.domain.job.events import JobSubmitted, TaskReady
from jobledger.processors.clock_gate import ClockGate
from jobledger.processors.core.checkpoint import Checkpoint
from jobledger.processors.core.state_records import CHECKPOINT_KEY, encode_state
from jobledger.processors.core.watched_clock import ClockWrongError, WatchedClock
from jobledger.schemas.commands import Command
from jobledger.simulator.clock import ProcessClock, VirtualClock
from jobledger.telemetry.health import HealthStatus
from jobledger.telemetry.metrics import Metrics

HOUR_MS = 3_600_000
MINUTE_MS = 60_000


@pytest_asyncio.fixture
async def owner() -> AsyncIterator[OwnerInMemory]:
    one = OwnerInMemory()
    await one.start()
    yield one
    await one.stop()


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def submission(due_at_ms: int | None = None) -> Command:
    stream = new_job(str(uuid7()))
    return Command(id=stream, stream=stream, actor=USER, body=submit(due_at_ms=due_at_ms), reply=True)


def ready(owner: OwnerInMemory, command: Command) -> list[Any]:
    return [e for e in owner.events if e.originator_id == command.stream and isinstance(e.data, TaskReady)]


@pytest.mark.parametrize("jump_ms", [HOUR_MS, -HOUR_MS, 10 * MINUTE_MS, -10 * MINUTE_MS, 1_000, -1_000])
async def test_nothing_is_decided_by_a_clock_that_has_jumped(owner: OwnerInMemory, jump_ms: int) -> None:
    """Neither commands nor timers; when the clock is right again, and a probe has shown it, all of it is decided."""
    later = submission(now_ms() + 30 * MINUTE_MS)
    owner.send(later)
    await owner.decided(later.id)
    owner.wall.move(jump_ms)
    waiting = submission()
    owner.send(waiting)
    await until(lambda: owner.observer.reopenings)
    partition, reason, error = owner.observer.reopenings[0]
    assert (partition, reason) == (0, "clock") and "from the broker's, more than 500 ms" in error
    owner.probe()
    await until(lambda: not owner.owner.serving)
    assert waiting.id not in owner.outcomes and not ready(owner, later)
    assert owner.partition.opened == 1, "nobody is fenced by a process whose clock is wrong"
    owner.wall.move(-jump_ms)
    owner.probe()
    await owner.decided(waiting.id)
    assert not ready(owner, later), "due in half an hour by every clock that is right"
    assert all(abs(event.at_ms - now_ms()) < 20_000 for event in owner.events)
    assert abs(owner.machine.checkpoint.now_ms - now_ms()) < 20_000
    again = submission(now_ms() + 300)
    owner.send(again)
    await until(lambda: ready(owner, again))


async def test_a_jump_is_seen_by_an_owner_that_has_nothing_to_do(owner: OwnerInMemory) -> None:
    """Also while the broker is away: it takes no probe."""
    owner.wall.move(10 * MINUTE_MS)
    await until(lambda: not owner.owner.serving)
    assert owner.observer.reopenings[0][1] == "clock"


async def test_retries_and_timers_do_not_stand_still_behind_a_time_that_is_ahead() -> None:
    """A checkpoint that a wrong clock has written: what is due goes by the clock, stamps do not run backwards."""
    owner = OwnerInMemory()
    ahead = now_ms() + HOUR_MS
    checkpoint = Checkpoint(cell=CELL, partitions=1, now_ms=ahead, received={}, sent={}, pending=[])
    owner.log.partitions[0].state[CHECKPOINT_KEY] = encode_state(checkpoint)
    await owner.start()
    soon, later = submission(now_ms() + 500), submission(now_ms() + 30 * MINUTE_MS)
    owner.send(soon, later)
    await until(lambda: ready(owner, soon))
    submitted = [e.data for e in owner.events if isinstance(e.data, JobSubmitted)]
    assert all(abs(data.submitted_at_ms - now_ms()) < 20_000 for data in submitted)
    assert not ready(owner, later)
    assert [event.at_ms for event in owner.events] == [ahead] * len(owner.events)
    assert owner.machine.checkpoint.now_ms == ahead
    await owner.stop()


async def test_a_time_that_is_a_little_ahead_is_waited_for(owner: OwnerInMemory) -> None:
    """The former owner's clock may have been as far ahead as ours is behind: time stands until the clock comes."""
    machine = owner.machine
    clock = now_ms()
    machine.checkpoint.now_ms = clock + 900
    assert machine.time_ms(clock) == clock + 900
    machine.checkpoint.now_ms = clock + machine.limits.ahead_ms + 1
    assert machine.time_ms(clock) == clock


# -- the clock itself, on virtual time ---------------------------------------------------------------------------------


class MovedClock(ProcessClock):
    """A process's clock in a world of its own, in which time passes when it is told to."""

    def __init__(self) -> None:
        self.world = VirtualClock()
        super().__init__(self.world)

    def advance(self, ms: int) -> None:
        self.world.advance(ms)


def watched(round_trip_ms: int = 10) -> tuple[MovedClock, WatchedClock]:
    clock = MovedClock()
    found = WatchedClock(clock, 500)
    probe(clock, found, 0, round_trip_ms)
    return clock, found


def probe(clock: MovedClock, found: WatchedClock, broker_is_ahead_ms: int = 0, round_trip_ms: int = 10) -> None:
    sent, stamped = clock.monotonic(), clock.now_ms() + broker_is_ahead_ms + round_trip_ms // 2
    clock.advance(round_trip_ms)
    found.measured(sent, clock.monotonic(), stamped)


def test_before_the_first_probe_nothing_is_known() -> None:
    found = WatchedClock(VirtualClock(), 500)
    assert found.skew_ms() == 0 and found.now_ms() == VirtualClock().now_ms()


@pytest.mark.parametrize("jump_ms", [HOUR_MS, -HOUR_MS, 501, -501])
def test_a_step_is_seen_at_once_however_long_the_last_probe_was_on_its_way(jump_ms: int) -> None:
    clock, found = watched(round_trip_ms=4_000)
    clock.advance(600_000)
    assert found.skew_ms() == 0
    clock.jump(jump_ms)
    assert found.skew_ms() == jump_ms
    with pytest.raises(ClockWrongError):
        found.now_ms()


def test_a_step_that_sets_a_wrong_clock_right_is_believed_with_the_next_probe() -> None:
    clock, found = watched()
    clock.jump(-600)
    probe(clock, found, broker_is_ahead_ms=600)
    assert -610 <= found.skew_ms() <= -590
    clock.jump(600)
    probe(clock, found)
    assert found.skew_ms() == 0


def test_drift_is_seen_when_it_has_become_half_a_second() -> None:
    """A clock that runs a tenth too fast: each probe finds it further from the broker's."""
    clock, found = watched()
    drift, seconds = 0, 0
    while abs(found.skew_ms()) <= 500:
        for _ in range(10):
            clock.advance(100)
            clock.jump(10)
        drift += 100
        seconds += 1
        probe(clock, found, broker_is_ahead_ms=-drift)
        assert seconds < 10
    assert drift == 600


def test_a_scheduler_that_was_stopped_for_a_minute_has_a_clock_that_is_right() -> None:
    clock, found = watched()
    sent, stamped = clock.monotonic(), clock.now_ms() + 1
    clock.advance(60_000)
    found.measured(sent, clock.monotonic(), stamped)
    assert found.skew_ms() == 0


# -- the process -------------------------------------------------------------------------------------------------------


async def test_the_process_gives_its_partitions_away_when_the_clock_stays_wrong(
    owner: OwnerInMemory, monkeypatch: pytest.MonkeyPatch, log_events: Any
) -> None:
    """Log, metric and health say so, and it ends after a moment; a step that is set right does not end it."""
    monkeypatch.setattr("jobledger.processors.clock_gate.HAND_OVER_SECONDS", 0.5)
    metrics = Metrics("scheduler", instance_id="s", strict=True)
    gate = ClockGate(owner.clock, lambda: {0: owner.machine} if owner.owner.serving else {}, metrics)
    await gate.start()
    assert (await gate.check()).status is HealthStatus.HEALTHY
    owner.wall.move(5_000)
    await until(lambda: log_events("clock_skewed"))
    health = await gate.check()
    assert health.status is HealthStatus.UNHEALTHY and health.details["skew_ms"] > 4_000
    shown = metrics.render()[0].decode().split("\njobledger_clock_skew_seconds ", 1)[1].splitlines()[0]
    assert float(shown) > 4
    owner.wall.move(-5_000)
    await until(lambda: log_events("clock_right"))
    owner.wall.move(-5_000)
    with pytest.raises(ClockWrongError):
        await gate.wait()
    await gate.stop()


async def test_a_process_waits_for_its_clock_before_it_joins(
    owner: OwnerInMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobledger.processors.clock_gate.START_SECONDS", 0.3)
    gate = ClockGate(owner.clock, dict, Metrics("scheduler", instance_id="s", strict=True))
    owner.wall.move(HOUR_MS)
    with pytest.raises(ClockWrongError, match="set it"):
        await gate.start()
    await gate.stop()
    owner.wall.move(-HOUR_MS)
    await gate.start()
    await gate.stop()


@pytest.mark.scenario(
    "the clock is wrong",
    emits=(
        "partition_time_ahead",
        "jobledger_partition_time_ahead_seconds",
    ),
)
async def test_a_partition_whose_time_is_ahead_says_so(owner: OwnerInMemory, log_events: Any) -> None:
    metrics = Metrics("scheduler", instance_id="s", strict=True)
    gate = ClockGate(owner.clock, lambda: {0: owner.machine}, metrics)
    owner.machine.checkpoint.now_ms = now_ms() + HOUR_MS
    await gate.start()
    await until(lambda: log_events("partition_time_ahead"))
    health = await gate.check()
    assert health.status is HealthStatus.DEGRADED and "0" in health.details["partition_time_ahead_ms"]
    assert 'jobledger_partition_time_ahead_seconds{partition="0"} 3' in metrics.render()[0].decode()
    owner.machine.checkpoint.now_ms = now_ms()
    await until(lambda: gate._ahead == {})
    assert len(log_events("partition_time_ahead")) == 1
    await gate.stop()

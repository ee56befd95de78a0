"""Partitions that nobody serves are told of by every scheduler, and the group is made to assign them anew."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Callable
from typing import Any

import pytest
from delaying_proxy import kafka_line
from log_cell import LogCell, until

from jobledger.bootstrap.dependencies import add_queue
from jobledger.processors.checks import SchedulerChecks
from jobledger.processors.coverage import (
    ALARM_SECONDS,
    ASSIGN_SECONDS,
    HEARD_SECONDS,
    REJOIN_SECONDS,
    Coverage,
    UnownedError,
)
from jobledger.settings import Settings
from jobledger.telemetry.health import Health
from jobledger.telemetry.logs import configure_logging
from jobledger.telemetry.metrics import Metrics


class Moved:
    """A clock that tests move."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now

    def now_ms(self) -> int:
        return round(self.now * 1000)


@pytest.fixture
def stream() -> io.BytesIO:
    stream = io.BytesIO()
    configure_logging("scheduler", "s", to_stream=stream, check_events=True)
    return stream


Spare = tuple[Coverage, Moved, Metrics, Callable[..., None]]


@pytest.fixture
def spare(stream: io.BytesIO) -> Spare:
    """Scheduler `a` of a cell of four partitions, and what lets time pass while schedulers announce."""
    clock, metrics = Moved(), Metrics("scheduler", instance_id="s")
    coverage = Coverage("a", 4, clock.monotonic, metrics, clock)
    coverage._changed_at = clock.now

    def passes(seconds: float, **announced: Any) -> None:
        end = clock.now + seconds
        while clock.now < end:
            clock.now += 0.5
            for who, (serves, holds) in announced.items():
                coverage.heard(who, serves, holds)
            coverage.look()

    return coverage, clock, metrics, passes


def test_a_spare_is_right_while_every_partition_is_served(spare: Spare, stream: io.BytesIO) -> None:
    """It owns nothing, for as long as others own everything."""
    coverage, _, _, passes = spare
    passes(100, a=([], []), b=([0, 1], [0, 1]), c=([2, 3], [2, 3]))
    assert coverage.unserved == {}
    assert b"partitions_unserved" not in stream.getvalue()


@pytest.mark.scenario("a partition is not served")
def test_partitions_without_an_owner_raise_an_alarm_and_the_least_busy_joins_anew(
    spare: Spare, stream: io.BytesIO
) -> None:
    """The alarm after a takeover's time; the end, with which the group assigns anew, after thirty seconds."""
    coverage, _, metrics, passes = spare
    passes(ALARM_SECONDS - 1, a=([], []), b=([0, 1], [0, 1]))
    assert set(coverage.unserved) == {2, 3}
    assert coverage.overdue == []
    passes(2, a=([], []), b=([0, 1], [0, 1]))
    assert coverage.overdue == [2, 3]
    assert b"partitions_unserved" in stream.getvalue()
    assert b"jobledger_partitions_unserved 2.0" in metrics.render()[0]
    with pytest.raises(UnownedError, match=r"Partition\(s\) 2, 3"):
        passes(REJOIN_SECONDS, a=([], []), b=([0, 1], [0, 1]))
    passes(1, a=([], []), b=([0, 1], [0, 1]), c=([2, 3], [2, 3]))
    assert b"partitions_served_again" in stream.getvalue()


@pytest.mark.parametrize(
    "announced",
    [
        {"a": ([0, 1], [0, 1]), "b": ([], [])},
        {"a": ([], []), "b": ([0, 1], [0, 1, 2, 3])},
        {"a": ([], []), "old": (None, None)},
    ],
    ids=["another serves less", "somebody opens or refuses them", "an older release does not say"],
)
def test_a_scheduler_stays_when_its_end_would_not_help(spare: Spare, announced: dict[str, Any]) -> None:
    """One of them is enough, and a partition that somebody holds is that one's matter."""
    spare[3](3 * REJOIN_SECONDS, **announced)


def test_one_joins_after_the_other(spare: Spare) -> None:
    """When a member has just come or gone the group has assigned anew already: wait for what comes of it."""
    _, _, _, passes = spare
    passes(REJOIN_SECONDS - 1, a=([0, 1], [0, 1]), b=([], []))
    passes(REJOIN_SECONDS - 1, a=([0, 1], [0, 1]))
    passes(REJOIN_SECONDS - HEARD_SECONDS - 1, a=([0, 1], [0, 1]), b2=([], []))


def test_a_member_that_died_is_waited_for_as_long_as_the_group_waits_for_it(spare: Spare) -> None:
    """With a long session it holds its partitions that long: an end in between would only cost others theirs."""
    _, clock, metrics, _ = spare
    patient = Coverage("a", 4, clock.monotonic, metrics, clock, session_seconds=60.0)
    patient._changed_at = clock.now

    def passes(seconds: float) -> None:
        end = clock.now + seconds
        while clock.now < end:
            clock.now += 0.5
            patient.heard("a", [0, 1], [0, 1])
            patient.look()

    passes(60.0 + ASSIGN_SECONDS - 1)
    assert patient.overdue == [2, 3]
    with pytest.raises(UnownedError, match="for 80 s"):
        passes(5)


def test_nothing_is_judged_while_the_broker_is_away(spare: Spare) -> None:
    """Nobody is heard then; afterwards the time of a takeover begins anew."""
    coverage, clock, _, passes = spare
    passes(1, a=([], []), b=([0, 1, 2, 3], [0, 1, 2, 3]))
    silent = clock.now
    coverage._seen_until = lambda: silent
    passes(100)
    assert coverage.overdue == []
    coverage._seen_until = clock.monotonic
    passes(ALARM_SECONDS - 2, a=([], []))
    assert coverage.overdue == []


@pytest.mark.kafka
async def test_schedulers_tell_each_other_what_they_serve(
    log_cell: LogCell, start_scheduler: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cell whose partitions are all served is well in every member; one that nobody has is not."""
    monkeypatch.setattr("jobledger.processors.coverage.ALARM_SECONDS", 2.0)  # tests with a clock know the real one
    first, second = await start_scheduler("scheduler-1"), await start_scheduler("scheduler-2")
    checks, views = SchedulerChecks(first, 6.0), [one.services.coverage for one in (first, second)]
    await until(lambda: not any(view.unserved for view in views) and second.owners.owners, 30)
    assert (await checks.coordination()).status == "HEALTHY"
    gone = min(second.owners.owners)
    owner = second.owners._owners.pop(gone)
    await owner.stop()
    await until(lambda: gone in views[0].overdue, 30)
    checked = await checks.coordination()
    assert checked.status == "UNHEALTHY"
    assert f"partition(s) {gone} are served by no scheduler" in str(checked.details["error"])
    await second.owners.assigned(set(second.owners.owners) | {gone})
    await until(lambda: gone not in views[0].unserved, 30)
    assert (await checks.coordination()).status == "HEALTHY"
    await second.owners.assigned({0, 1, 2, 3})  # the group's last word is another, so that the first is a spare
    await first.owners.assigned(set())
    await until(lambda: len(second.services.owners.machines()) == 4 and not views[0].unserved, 30)
    spare = await checks.coordination()
    assert (spare.status, spare.details["is_leader"], spare.details["partitions"]) == ("HEALTHY", False, [])
    assert spare.details["session_age_seconds"] < 6.0  # type: ignore[operator]


@pytest.mark.kafka
async def test_a_scheduler_whose_line_to_kafka_is_slow_or_held_up_is_not_ready(
    log_cell: LogCell, start_scheduler: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The group hears nothing of it; or what it was given is not recovered in time. It lives all the while."""
    monkeypatch.setattr("jobledger.processors.checks.RECOVERY_SECONDS", 2.0)
    monkeypatch.setattr("jobledger.bootstrap.dependencies.KEEP_SECONDS", 0.0)
    monkeypatch.setattr("jobledger.bootstrap.dependencies.ANSWER_SECONDS", 1.0)
    health = Health("1")

    async def becomes(status: str, reason: str = "") -> dict[str, Any]:
        deadline = time.monotonic() + 40
        while True:
            found = (await health.status())[1]["components"]
            coordination = found["coordination"]
            if coordination["status"] == status and reason in coordination.get("error", ""):
                return found
            assert time.monotonic() < deadline, found
            assert health.live()[0] == 200
            await asyncio.sleep(0.05)

    async with kafka_line(log_cell.kafka.bootstrap_servers) as (servers, proxy):
        through = log_cell.kafka.model_copy(update={"bootstrap_servers": servers})
        scheduler = await start_scheduler("scheduler-1", kafka=through, session_timeout_seconds=3.0)
        checks = SchedulerChecks(scheduler, 3.0)
        settings = Settings(cell=log_cell.cell, partitions=log_cell.partitions, kafka=through)
        add_queue(health, settings, "scheduler-1", checks.depth)
        checks.add_to(health)
        health.set_ready(True)
        found = await becomes("HEALTHY")
        assert found["coordination"]["is_leader"] and found["queue"]["depth"] == 0, found
        assert (await health.ready())[0] == 200

        proxy.delay_seconds = 0.4
        await scheduler.owners.assigned(set())
        await scheduler.owners.assigned({0, 1, 2, 3})
        await becomes("UNHEALTHY", "are ours, and not recovered after 2 s")
        proxy.delay_seconds = 0.0
        await becomes("HEALTHY")

        proxy.hold()
        found = await becomes("UNHEALTHY", "the group has not answered for")
        assert found["queue"]["status"] == "UNHEALTHY"
        assert (await health.ready())[0] == 503
        proxy.release()
        await becomes("HEALTHY")
        await scheduler.stop()

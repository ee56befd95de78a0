"""The simulated world by hand: single histories that once went wrong, or that show what the world can do."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from jobledger import testing
from jobledger.domain.job import commands as jc
from jobledger.domain.job.events import JobSubmitted, TaskReady
from jobledger.domain.job.state import JobStatus
from jobledger.domain.queue import events as qe
from jobledger.domain.values import Code, Opaque
from jobledger.processors.core.memory import Limits
from jobledger.processors.core.state_records import Stub, decode_state, stub_key
from jobledger.schemas.outcomes import Outcome, OutcomeStatus
from jobledger.simulator import NewJob, ViolationError, World, WorldOptions
from jobledger.simulator.chaos import finish, run_seed
from jobledger.simulator.ports import CommitFault
from jobledger.simulator.state_hash import fold_hash

DAY_MS = 86_400_000
#: What the design allows for what is left of an ended job, without idempotency key.
MAX_STUB_BYTES = 300


def _outcomes(world: World, command_id: str) -> list[Outcome]:
    return [one for part in world.log.partitions for one in part.outcomes if one.command_id == command_id]


def _settle(world: World) -> None:
    while any([world.turn(partition) for partition in range(world.options.partitions)]):  # noqa: C419 - all of them
        pass


def test_the_same_seed_gives_the_same_world() -> None:
    """A run is told by its seed alone: every record, every state, every outcome."""
    one, other = run_seed(7), run_seed(7)
    assert all((event.status_after is None) == event.originator_id.startswith("queue:") for event in one.records)
    assert [part.events for part in one.log.partitions] == [part.events for part in other.log.partitions]
    assert (
        fold_hash(one.history.partitions)
        == fold_hash(other.history.partitions)
        != fold_hash(run_seed(8).history.partitions)
    )


def test_a_seed_gives_the_same_world_in_another_process() -> None:
    """Nothing depends on the order of sets, which Python changes with each process."""
    program = (
        "from jobledger.simulator.chaos import run_seed\n"
        "from jobledger.simulator.state_hash import fold_hash\n"
        "print([fold_hash(run_seed(seed).history.partitions) for seed in range(4)])"
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": number},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for number in ("1", "2")
    ]
    assert told[0] == told[1] != ""


def test_a_job_goes_its_way() -> None:
    """Submitted, handed out, run, done, with nothing left over anywhere."""
    world = World()
    world.start_worker()
    streams = [world.submit() for _ in range(20)] + [world.submit(NewJob(delay_ms=60_000))]
    assert world.status(streams[0]) is None
    world.drain()
    world.check_end()
    assert {world.status(stream) for stream in streams} == {JobStatus.SUCCEEDED}


def test_a_repeated_cancel_gets_its_first_outcome_after_the_job_is_gone() -> None:
    """The job ends with the cancel and leaves a stub: the same command id again is told the same as the first time."""
    world = World()
    stream = world.submit(NewJob(delay_ms=60_000))
    _settle(world)
    command = world.cancel(stream)
    _settle(world)
    assert world.status(stream) is JobStatus.CANCELLED
    for _ in range(4):
        world.ask_again(command)
    _settle(world)
    world.take_over(0)
    world.ask_again(command)
    _settle(world)
    first, *repeats = _outcomes(world, command)
    assert (first.status, first.duplicate) == (OutcomeStatus.ACCEPTED, False)
    assert len(repeats) == 5
    for repeat in repeats:
        assert (repeat.status, repeat.duplicate, repeat.status_after) == (OutcomeStatus.ACCEPTED, True, "CANCELLED")
    other = world.cancel(stream)
    _settle(world)
    (rejected,) = _outcomes(world, other)
    assert rejected.status is OutcomeStatus.REJECTED


def test_a_report_on_a_task_that_still_waits_does_not_leave_it_in_the_queue() -> None:
    """A forged report ends the job: its task must not be handed out afterwards, nor stand in the next one's way."""
    world = World()
    worker = world.start_worker(handlers=["other"])
    stream = world.submit("work")
    _settle(world)
    now = world.clock.now_ms()
    report = jc.ReportSucceeded(
        task="main",
        assignment=1,
        worker=worker.name,
        incarnation=worker.incarnation,
        assigned_at_ms=now,
        started_at_ms=now,
        ended_at_ms=now,
    )
    world.ask(stream, report)
    _settle(world)
    assert world.status(stream) is JobStatus.SUCCEEDED
    assert isinstance(world.records[-1].data, qe.TaskRemoved)
    world.heal()
    world.drain()
    world.check_end()


def test_commits_whose_outcome_is_unknown_are_settled_by_the_state() -> None:
    """Whether the transaction happened or not: the next owner takes up what is written, once."""
    for fault in (CommitFault.LOST, CommitFault.UNKNOWN):
        world = World(WorldOptions(partitions=2))
        stream = world.submit()
        for partition in range(2):
            world.decide(partition)
            world.commit(partition, fault)
        world.start_worker()
        world.drain()
        world.check_end()
        assert world.status(stream) is JobStatus.SUCCEEDED
        assert [type(one.data) for one in world.records if one.originator_id == stream][:2] == [JobSubmitted, TaskReady]


def test_a_deposed_owner_gets_nothing_into_the_log() -> None:
    """It had decided before the takeover, and commits after it: fenced, and the command takes effect once."""
    world = World(WorldOptions(partitions=1))
    world.submit()
    assert world.decide(0)
    world.take_over(0)
    world.turn(0)
    before = len(world.records)
    world.zombie_commits(0)
    assert len(world.records) == before
    world.check_agreement()


def test_a_cut_log_is_refused() -> None:
    """An owner that finds fewer events than its checkpoint says opens nothing."""
    world = World(WorldOptions(partitions=1))
    world.submit()
    world.turn(0)
    world.log.partitions[0].events.pop()
    world.take_over(0)
    assert "the last event in the log is number 3, but the checkpoint says 4" in world.refusals[0]
    assert world.machine(0) is None
    with pytest.raises(ViolationError, match="partition 0 is not served: Partition 0: the last event"):
        world.drain()


def test_stubs_and_keys_go_after_their_window() -> None:
    """Within the window a key stands for its job; after it nothing of the job is left in `state`."""
    world = World(WorldOptions(partitions=1, limits=Limits(dedup_window_ms=DAY_MS)))
    stream = world.submit(NewJob(key="k" * 64, request="r" * 64, delay_ms=1000))
    _settle(world)
    world.cancel(stream)
    _settle(world)
    state = world.log.partitions[0].state
    assert [key[:2] for key in state if key[:1] in b"ek"] == [b"k|", b"e|"]
    world.submit(NewJob(key="k" * 64, request="r" * 64))
    _settle(world)
    assert len(world.jobs()) == 1
    world.clock.advance(DAY_MS + 1)
    world.ask(stream, jc.QueryJob())
    _settle(world)
    assert not [key for key in state if key[:1] in b"ek"]


def test_a_stub_is_small() -> None:
    world = World(WorldOptions(partitions=1))
    stream = world.submit(NewJob(delay_ms=1000))
    _settle(world)
    world.cancel(stream)
    _settle(world)
    data = world.log.partitions[0].state[stub_key(stream)]
    stub: Stub = decode_state(data)
    assert stub.recent == ["u000002"]
    assert len(data) + 36 <= MAX_STUB_BYTES


def test_time_does_not_run_back_with_the_clock() -> None:
    world = World(WorldOptions(partitions=1))
    world.submit()
    _settle(world)
    world.scheduler(0).clock.jump(-3_600_000)
    world.submit()
    _settle(world)
    assert world.records[-1].at_ms >= world.records[0].at_ms


def test_a_timer_may_be_late_by_what_a_clock_was_put_ahead() -> None:
    """Its owner sleeps by the clock of before, 400 ms slow: the world waits for that before it calls itself stuck."""
    world = World()
    world.scheduler(0).clock.jump(-400)
    job = world.submit(NewJob(delay_ms=1), on=2)  # where no queue is, and so nothing wakes the owner
    _settle(world)
    finish(world)
    assert world.status(job) is JobStatus.SUCCEEDED


def test_a_silent_worker_is_lost_and_its_task_runs_elsewhere() -> None:
    """Its lease ends, the job goes to another worker, and what the first one says later counts for nothing."""
    world = World(WorldOptions(partitions=2, queues=("default",)))
    silent = world.start_worker(handlers=["work"])
    stream = world.submit()
    _settle(world)
    silent.poll()
    (key,) = silent.held
    silent.start(key)
    silent.paused = True
    _settle(world)
    assert world.status(stream) is JobStatus.RUNNING
    world.start_worker()
    world.drain()
    assert world.status(stream) is JobStatus.SUCCEEDED
    silent.paused = False
    silent.beat()
    assert not silent.alive
    world.check_end()


def test_a_stuck_world_is_told() -> None:
    """Liveness is checked: with no worker at all the drain says which jobs wait."""
    world = World()
    world.submit()
    with pytest.raises(ViolationError, match="QUEUED"):
        world.drain()


@pytest.mark.parametrize("queue", ["a|b", "a:b", "", "x" * 101, "-a", "a b", "a\n"])
def test_a_name_that_would_break_the_keys_of_the_state_is_rejected(queue: str) -> None:
    """A command that has gone around the api names a queue as no queue can be called: rejected, nothing changes."""
    world = World()
    world.submit(NewJob(queue=queue))
    world.set_queue_bound(queue, 5)
    _settle(world)
    for command in world.command_ids:
        (outcome,) = _outcomes(world, command)
        assert outcome.rejection is not None
        assert (outcome.rejection.code, outcome.rejection.field) in ((Code.INVALID, "queue"), (Code.INVALID, "name"))
    assert not world.records
    world.check_agreement()


def test_a_stream_id_of_another_form_is_set_aside() -> None:
    """It is quarantined at once, with a rejection for whoever waits; the partition goes on."""
    world = World(WorldOptions(partitions=1))
    command = world.ask("job:x", jc.SubmitJob(handler="work", queue="default", payload=Opaque("{}")))
    stream = world.submit()
    _settle(world)
    (outcome,) = _outcomes(world, command)
    assert outcome.rejection is not None
    assert outcome.rejection.code is Code.UNDECIDABLE
    assert len(world.log.quarantine) == 1
    assert world.status(stream) is JobStatus.QUEUED


def test_the_world_is_part_of_what_users_test_with() -> None:
    """The example of the documentation: a crash between submission and due time loses nothing."""
    world = testing.World()
    worker = world.start_worker(credits=2, handlers=["work"])
    job = world.submit(testing.NewJob(handler="work", delay_ms=5_000))
    world.run()
    world.crash(0)
    world.clock.advance(5_000)
    world.drain()
    world.check_end()
    assert world.status(job) == "SUCCEEDED"
    worker.die()
    assert {"World", "WorldOptions", "NewJob", "ViolationError", "inline"} <= set(testing.__all__)

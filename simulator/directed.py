"""Histories that random runs reach too rarely to count on: each a few steps by hand, with what must be true then.

Each raises ViolationError when it is not.
"""

from __future__ import annotations

from collections.abc import Callable

from jobledger.domain.identity import job_stream, partition_of, queue_stream
from jobledger.domain.job import commands as jc
from jobledger.domain.job.state import JobStatus
from jobledger.domain.queue import commands as qc
from jobledger.domain.values import Opaque, RetryPolicy
from jobledger.processors.core.memory import Limits
from jobledger.simulator.checks import insist
from jobledger.simulator.nonsense import nonsense
from jobledger.simulator.ports import CommitFault
from jobledger.simulator.worker import SimWorker, TaskKey
from jobledger.simulator.world import NewJob, World, WorldOptions

WINDOW_MS = 6_000
#: Entries of a heap that may be left over, however few timers there are.
SPARE_TIMERS = 1_000


def _world(**limits: int) -> World:
    """One partition and one queue, so that what is done first comes first."""
    bounds = Limits(**{"dedup_window_ms": WINDOW_MS, **limits})
    return World(WorldOptions(partitions=1, queues=("default",), limits=bounds))


def _settle(world: World) -> None:
    while world.turn(0):
        pass


def _end(world: World) -> None:
    world.heal()
    world.drain()
    world.check_end()


def _held(world: World, worker: SimWorker) -> TaskKey:
    """The only task of a worker, which has arrived."""
    _settle(world)
    worker.poll()
    (key,) = worker.held
    return key


def a_record_arrives_again_when_all_is_over() -> None:
    """A deposed relay and its successor send the same record; the second copy comes when the task is done."""
    world = World(WorldOptions(partitions=2, queues=("default",)))
    home = partition_of(queue_stream(world.options.tenant, "default"), 2)
    elsewhere = 1 - home
    world.start_worker()
    world.hand_over(home)
    world.network.held[world.scheduler(elsewhere).transport.name] = None
    stream = world.submit(on=elsewhere)
    world.turn(elsewhere)
    world.take_over(elsewhere)
    world.drain()
    insist(world.status(stream) is JobStatus.SUCCEEDED, f"with a new owner the job is {world.status(stream)}")
    _end(world)


def an_owner_starts_over_with_work_left() -> None:
    """A step is left for the next batch, and its owner does not learn that the first one is committed."""
    world = _world(chain_depth=0)
    world.submit()
    world.decide(0)
    world.commit(0, CommitFault.UNKNOWN)
    _end(world)


def a_lost_worker_had_much() -> None:
    """Ten of the largest tasks there can be have to be handed out again, more than a record can hold."""
    world = _world(commands=2, records=4)
    worker = world.start_worker(credits=12)
    for _ in range(10):
        world.submit(NewJob(payload='"' + "x" * 250_000 + '"'))
    _settle(world)
    worker.poll()
    worker.die()
    _end(world)


def a_full_disk_is_nobodys_fault() -> None:
    """An owner fails again and again while its disk is full; what comes next is decided all the same."""
    world = _world()
    disk = world.scheduler(0).disk
    world.submit(NewJob(key="first"))
    disk.full = True
    for _ in range(8):
        world.turn(0)
        world.clock.advance(500)
    disk.full = False
    _settle(world)
    world.submit()
    _settle(world)
    _end(world)


def the_feed_leaves_out_what_came_last() -> None:
    """A record is missing from the feed, and the one behind it is the last for a long time."""
    world = _world()
    seat = world.seat(0)
    world.submit()
    seat.feed.pump(seat.owner)
    seat.feed.skip = 1
    world.submit()
    world.submit()
    _settle(world)
    insist(len(world.jobs()) == 3, f"of 3 jobs in the log {len(world.jobs())} are accepted")
    _end(world)


def an_id_of_a_clock_that_is_ahead_is_used_again() -> None:
    """The job has ended a window ago, but its id says that it was made later: it is still known."""
    world = _world()
    at = f"{world.clock.now_ms() + 240_000:012x}"
    stream = job_stream(world.options.tenant, f"{at[:8]}-{at[8:]}-7000-9000-000000000001")
    body = jc.SubmitJob(handler="work", queue="default", payload=Opaque("{}"))
    world.start_worker()
    world.ask(stream, body)
    world.drain()
    for _ in range(3):
        world.clock.advance(WINDOW_MS)
        world.submit()
        world.drain()
    world.ask(stream, body)
    _end(world)


def an_id_that_tells_no_time_is_used_twice() -> None:
    """Nothing is left of the first job when the second one comes: it must not have begun at all."""
    world = _world()
    stream = job_stream(world.options.tenant, "00000001-0000-4000-8000-000000000000")
    for _ in range(2):
        world.ask(stream, jc.SubmitJob(handler="work", queue="default", payload=Opaque("{}")))
        world.start_worker()
        _settle(world)
        world.clock.advance(3 * WINDOW_MS)
    _end(world)


def a_cancel_comes_with_its_submission() -> None:
    """Both in one batch, and what follows from the first is too deep for it: the cancel must not overtake that."""
    for depth in (0, 1, 2):
        world = _world(chain_depth=depth)
        worker = world.start_worker()
        _settle(world)
        streams = [world.submit() for _ in range(3)]
        for stream in streams:
            world.cancel(stream)
        _settle(world)
        worker.poll()
        _settle(world)
        ended = {world.status(stream) for stream in streams}
        insist(ended == {JobStatus.CANCELLED}, f"cancelled before any worker could start them, yet they are {ended}")
        _end(world)


def a_cancel_comes_while_lost_tasks_go_back() -> None:
    """What a lost worker had goes back to the queue, with steps too deep for one batch: no cancel overtakes them."""
    world = _world(chain_depth=1, commands=10)
    lost = world.start_worker(credits=2)
    streams = [world.submit() for _ in range(2)]
    _settle(world)
    lost.die()
    other = world.start_worker(credits=2)
    _settle(world)
    for _ in range(3):
        world.clock.advance(4_000)
        other.beat()
    for _ in range(10):  # the batch is full when the lease has its turn
        world.ask(queue_stream(world.options.tenant, "default"), qc.QueryQueue())
    world.decide(0)
    for stream in streams:
        world.cancel(stream)
    world.commit(0)
    _settle(world)
    other.poll()
    _end(world)


def ids_are_too_long() -> None:
    """Somebody writes commands with ids of several hundred thousand bytes: they are set aside, the rest goes on."""
    world = _world()
    for number in range(4):
        world.foreign(0, nonsense(number, 7))
    stream = world.submit()
    _settle(world)
    insist(world.status(stream) is JobStatus.QUEUED, f"behind ids that are too long a job is {world.status(stream)}")
    _end(world)


def a_handler_never_ends() -> None:
    """The worker is alive and says nothing of the task: the owner ends the attempt, and tells the worker to stop."""
    world = _world()
    worker = world.start_worker(credits=1)
    stream = world.submit(NewJob(timeout_seconds=2.0, retry=RetryPolicy(max_attempts=1)))
    worker.start(_held(world, worker))
    _settle(world)
    worker.stalled = True
    for _ in range(8):
        world.clock.advance(5_000)
        worker.beat()
        _settle(world)
    status = world.status(stream)
    insist(status is JobStatus.DEAD_LETTERED, f"40 s after its limit of 2 s the job is {status}")
    worker.poll()
    insist(worker.told_to_stop == {(stream, "main", 1)}, f"the worker was told to stop {worker.told_to_stop}")
    _end(world)


def a_cancelled_job_never_starts() -> None:
    """The worker is alive, and answers neither the task nor the cancel: the owner ends the job."""
    world = _world()
    worker = world.start_worker(credits=1)
    stream = world.submit(NewJob(timeout_seconds=2.0))
    _held(world, worker)
    worker.stalled = True
    world.cancel(stream)
    for _ in range(8):
        world.clock.advance(5_000)
        worker.beat()
        _settle(world)
    status = world.status(stream)
    insist(status is JobStatus.CANCELLED, f"40 s after its limit of 2 s the cancelled job is {status}")
    _end(world)


def a_handler_takes_its_worker_down() -> None:
    """The start was not reported; the next incarnation tells of the crash, which costs the only attempt."""
    world = _world()
    worker = world.start_worker(name="w", credits=1)
    stream = world.submit(NewJob(retry=RetryPolicy(max_attempts=1)))
    key = _held(world, worker)
    task = worker.held[key]
    worker.start(key, quiet=True)
    worker.die()
    world.start_worker(name="w", credits=1).tell_of_crash(worker, task)
    _settle(world)
    status = world.status(stream)
    insist(status is JobStatus.DEAD_LETTERED, f"after a crash in its only attempt the job is {status}")
    _end(world)


def a_dead_letter_is_redriven() -> None:
    """It has all its attempts again; then it is discarded, and nothing brings it back."""
    world = _world()
    worker = world.start_worker(credits=1)
    stream = world.submit(NewJob(retry=RetryPolicy(max_attempts=2, initial_seconds=0.5)))
    for _ in range(2):
        for attempt in (1, 2):
            world.clock.advance(1_000)
            worker.beat()
            key = _held(world, worker)
            told = worker.held[key].run.attempt
            insist(told == attempt, f"attempt {attempt} is told to the worker as {told}")
            worker.fail(key)
            _settle(world)
        status = world.status(stream)
        insist(status is JobStatus.DEAD_LETTERED, f"after its last attempt the job is {status}")
        world.ask(stream, jc.RedriveJob())
    worker.fail(_held(world, worker), retryable=False)
    _settle(world)
    world.ask(stream, jc.DiscardJob())
    world.ask(stream, jc.RedriveJob())
    _settle(world)
    insist(world.status(stream) is JobStatus.DISCARDED, f"the discarded job is {world.status(stream)}")
    _end(world)


def timers_of_ended_jobs_go() -> None:
    """Many jobs with a start in the future are cancelled: nothing of them stays in memory."""
    world = _world()
    world.submit(NewJob(delay_ms=1_000, handler="nobody's"))  # stays at the top of the heap
    for _ in range(3):
        streams = [world.submit(NewJob(delay_ms=3_600_000)) for _ in range(SPARE_TIMERS // 2)]
        _settle(world)
        for stream in streams:
            world.cancel(stream)
        _settle(world)
    machine = world.machine(0)
    assert machine is not None
    left = machine.timers.held
    insist(left <= SPARE_TIMERS + 2, f"{left} entries of timers are left, and one job")
    _end(world)


HISTORIES: tuple[Callable[[], None], ...] = (
    a_record_arrives_again_when_all_is_over,
    an_owner_starts_over_with_work_left,
    a_lost_worker_had_much,
    a_full_disk_is_nobodys_fault,
    the_feed_leaves_out_what_came_last,
    an_id_of_a_clock_that_is_ahead_is_used_again,
    an_id_that_tells_no_time_is_used_twice,
    a_cancel_comes_with_its_submission,
    a_cancel_comes_while_lost_tasks_go_back,
    ids_are_too_long,
    a_handler_never_ends,
    a_cancelled_job_never_starts,
    a_handler_takes_its_worker_down,
    a_dead_letter_is_redriven,
    timers_of_ended_jobs_go,
)

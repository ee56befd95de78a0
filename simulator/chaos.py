"""What can be done to a world: named actions with two small numbers for their choices.

A random run draws actions by weight from a seed; the property tests draw them through Hypothesis, which
shrinks a failing run to a few of them.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from jobledger.domain.identity import derived_id, job_stream, partition_of, queue_stream, tenant_stream
from jobledger.domain.job import commands as jc
from jobledger.domain.job.state import JobStatus
from jobledger.domain.queue import commands as qc
from jobledger.domain.tenant.commands import CreateTenant, UpdateTenant
from jobledger.domain.values import Opaque, RetryPolicy
from jobledger.processors.core.memory import Limits
from jobledger.simulator.nonsense import nonsense
from jobledger.simulator.ports import CommitFault
from jobledger.simulator.scheduler import SimScheduler
from jobledger.simulator.worker import SimWorker, TaskKey
from jobledger.simulator.world import DAY_MS, NewJob, World, WorldOptions

#: An action takes the world and two numbers, each 0 … CHOICES-1.
CHOICES = 64
Action = Callable[[World, int, int], None]
_RETRIES = (
    RetryPolicy(max_attempts=1),
    RetryPolicy(max_attempts=3, initial_seconds=0.5),
    RetryPolicy(max_attempts=2, initial_seconds=30.0, jitter_ratio=0.5),
)
#: Windows that end within a run, and one that does not.
_WINDOWS_MS = (DAY_MS, 6_000, DAY_MS, 30_000)
_LIMITS: tuple[dict[str, int], ...] = (
    {},
    {"commands": 2, "records": 4},
    {"commands": 5, "records": 9, "chain_depth": 1},
    {"commands": 40, "bytes": 3_000, "chain_depth": 2},
)
#: The largest payload that the api takes, nearly.
_LARGE = '"' + "x" * 250_000 + '"'


def make_world(choice: int) -> World:
    """A small world; `choice` picks its size, the bounds of a batch, how long repeats are recognised."""
    limits = Limits(**_LIMITS[choice // 2 % 4], dedup_window_ms=_WINDOWS_MS[choice // 8 % 4])
    capacity = (0, 0, 0, 2)[choice % 4]
    world = World(WorldOptions(partitions=2 + choice % 2, limits=limits, relay_capacity=capacity))
    for _ in range(choice // 8 % 3):
        world.start_worker()
    return world


def _partition(world: World, a: int) -> int:
    return a % world.options.partitions


def _queue(world: World, a: int) -> str:
    return world.options.queues[a % len(world.options.queues)]


# -- users ------------------------------------------------------------------------------------------------------------


def submit(world: World, a: int, b: int) -> None:
    """Some jobs of all kinds: now or later, each priority, a handler that nobody serves once in a while."""
    for n in range(1 + b % 3):
        handler = "unserved" if a == CHOICES - 1 else world.options.handlers[(a + n) % len(world.options.handlers)]
        job = NewJob(
            handler=handler,
            queue=_queue(world, a // 4),
            priority=1 + (a + n) % 5,
            delay_ms=(0, 0, 1, 700, 4_000)[b % 5],
            retry=_RETRIES[(a + b) % len(_RETRIES)],
            timeout_seconds=2.0 if b % 7 == 6 else None,
        )
        world.submit(job, hold=b % 16 == 15)


def submit_with_key(world: World, a: int, b: int) -> None:
    """One of three idempotency keys; now and then with another request behind it."""
    job = NewJob(key=f"key{a % 3}", request=f"request{b % 8 == 0}", queue=_queue(world, a))
    world.submit(job, hold=b % 16 == 15)


def cancel(world: World, a: int, b: int) -> None:
    """Cancel a job, whatever its state."""
    if world.history.jobs:
        streams = list(world.history.jobs)
        world.cancel(streams[(a * CHOICES + b) % len(streams)], hold=b % 16 == 15)


def tend_dead_letters(world: World, a: int, b: int) -> None:
    """A user runs a dead letter again, or discards it, or comes too late for either."""
    worker = _worker(world, a)
    key = _task(worker, b) if worker is not None else None
    if worker is not None and key is not None:
        worker.fail(key, retryable=False)
        turn_all(world, a, b)
    dead = [job.id for job in world.jobs() if job.status is JobStatus.DEAD_LETTERED]
    streams = list(world.history.jobs) if b % 8 == 7 else dead
    if streams:
        body = jc.DiscardJob() if a % 4 == 3 else jc.RedriveJob()
        world.ask(streams[b % len(streams)], body, hold=b % 16 == 15)


def ask_again(world: World, a: int, b: int) -> None:
    """One of the last commands comes again, up to four more times."""
    if world.command_ids:
        identity = world.command_ids[-1 - a % min(len(world.command_ids), 12)]
        for _ in range(1 + b % 4):
            world.ask_again(identity, hold=b % 8 == 7)


def administer(world: World, a: int, b: int) -> None:
    """Create or change a queue or the tenant; ask the owner something."""
    queue = queue_stream(world.options.tenant, _queue(world, a))
    tenant = tenant_stream(world.options.tenant)
    match b % 5:
        case 0:
            world.ask(queue, qc.CreateQueue(max_waiting_bytes=1000 + a))
        case 1:
            world.set_queue_bound(_queue(world, a), 2000 + b)
        case 2:
            world.ask(tenant, CreateTenant())
        case 3:
            world.ask(tenant, UpdateTenant(max_live_jobs=a))
        case _:
            world.ask(queue, qc.QueryQueue())


def submit_odd_id(world: World, a: int, b: int) -> None:
    """A client chooses the job's id: at random, derived from something, old, or of another time."""
    now, number = world.clock.now_ms(), a % 3
    ahead_ms = world.options.start_ms + 240_000  # the same id again, also after the window of its job
    made_ms = (0, 0, 0, now - 2 * world.options.limits.dedup_window_ms, ahead_ms, now + DAY_MS)[b % 6]
    at = f"{made_ms:012x}"
    name = (
        f"{number:08x}-0000-4000-8000-000000000000",
        derived_id("odd", number),
        f"job-{number}",
        *[f"{at[:8]}-{at[8:]}-7000-9000-{number:012x}"] * 3,
    )[b % 6]
    body = jc.SubmitJob(handler="work", queue=_queue(world, a), payload=Opaque("{}"))
    world.ask(job_stream(world.options.tenant, name), body)


def submit_large(world: World, a: int, b: int) -> None:
    """A job or two with the largest payload there is."""
    for n in range(1 + b % 2):
        world.submit(NewJob(payload=_LARGE, queue=_queue(world, a + n), retry=_RETRIES[b % 3], priority=1 + a % 5))


def write_nonsense(world: World, a: int, b: int) -> None:
    """Somebody else writes to `commands`: no JSON, half a record, a stranger's command, the mark of a transaction."""
    world.foreign(_partition(world, a), nonsense(a, b) if b % 8 else None)


# -- schedulers -------------------------------------------------------------------------------------------------------


def turn(world: World, a: int, b: int) -> None:
    """One owner does what it can."""
    world.turn(_partition(world, a))


def turn_all(world: World, a: int, b: int) -> None:
    """Every owner does what it can."""
    for offset in range(world.options.partitions):
        world.turn((a + offset) % world.options.partitions)


def decide(world: World, a: int, b: int) -> None:
    """An owner decides and has not yet committed; its machine may be so slow that its time is soon over."""
    scheduler = world.scheduler(_partition(world, a))
    scheduler.clock.slow_ms = (0, 5, 0, 21)[b % 4]
    world.decide(_partition(world, a))
    scheduler.clock.slow_ms = 0


def commit(world: World, a: int, b: int) -> None:
    """An owner commits."""
    world.commit(_partition(world, a))


def commit_badly(world: World, a: int, b: int) -> None:
    """A commit whose outcome the owner does not learn: it happened, or it did not; then the broker may stay away."""
    partition = _partition(world, a)
    world.decide(partition)
    world.seat(partition).log.broken_calls = (0, 0, 1, 3)[b // 2 % 4]
    world.commit(partition, (CommitFault.UNKNOWN, CommitFault.LOST)[b % 2])


def broker_away(world: World, a: int, b: int) -> None:
    """The next calls of an owner's log fail, but for commits; its feed may leave records out or stand still."""
    seat = world.seat(_partition(world, a))
    match b % 4:
        case 0:
            seat.log.broken_calls = 1 + b % 3
        case 1:
            seat.feed.skip = 1 + b % 3
        case 2:
            seat.feed.stalled = not seat.feed.stalled
        case _:
            seat.feed.seek(max(0, seat.feed.position - 4))


def hold_outbox(world: World, a: int, b: int) -> None:
    """What a relay sends stays on its way from now on, or no longer."""
    name = world.scheduler(_partition(world, a)).transport.name
    if b % 3:
        world.network.held[name] = None
    else:
        world.network.held.pop(name, None)


def fail_delivery(world: World, a: int, b: int) -> None:
    """The first of several records of a relay is given up; those behind it may arrive. Meanwhile an owner decides."""
    partition = _partition(world, a)
    scheduler = world.scheduler(partition)
    name = scheduler.transport.name
    if not world.network.flying(name):
        world.network.held[name] = None
        fill_outbox(world, a, b)
    world.network.fail(name, a)
    if b % 2:
        world.network.held.pop(name, None)
    world.run()
    if b % 3 == 0:
        submit(world, a, b)
        world.decide(partition)
        tick(world, 1, 2)
        world.run()


def fill_outbox(world: World, a: int, b: int) -> None:
    """Jobs come in and are committed one after the other."""
    for n in range(2 + b % 2):
        submit(world, a + n, 5 * (b // 2))
        for partition in range(world.options.partitions):
            world.turn(partition)


def flood(world: World, a: int, b: int) -> None:
    """A job falls due while far more waits than a batch can take."""
    queue = _queue(world, a)
    home = partition_of(queue_stream(world.options.tenant, queue), world.options.partitions)
    world.submit(NewJob(queue=queue, delay_ms=2), on=home)
    world.turn(home)
    world.seat(home).feed.stalled = True
    for _ in range(60):
        world.ask(queue_stream(world.options.tenant, queue), qc.QueryQueue())
    world.clock.advance(3)
    world.seat(home).feed.stalled = False
    world.turn(home)


def deliver(world: World, a: int, b: int) -> None:
    """Some of what flies arrives."""
    for _ in range(1 + b % 4):
        world.network.deliver(a)


def crash(world: World, a: int, b: int) -> None:
    """kill -9 of a scheduler, wherever its owners stand."""
    world.crash(_partition(world, a), b)


def take_over(world: World, a: int, b: int) -> None:
    """A second owner opens a partition; the first one may have decided something already."""
    partition = _partition(world, a)
    if b % 2:
        world.decide(partition)
    world.take_over(partition)


def hand_over(world: World, a: int, b: int) -> None:
    """A partition changes hands in good order, now and then while it is being decided or opened."""
    partition = _partition(world, a)
    if b % 4 == 1:
        world.decide(partition)
    if b % 4 == 2:
        world.crash(partition, a)
        world.place(partition, world.start_scheduler())
    world.hand_over(partition)


def zombie(world: World, a: int, b: int) -> None:
    """A deposed owner wakes up and goes on."""
    if world.zombies:
        world.zombie_commits(a)


def stop_scheduler(world: World, a: int, b: int) -> None:
    """A scheduler is stopped by a signal, or goes on."""
    scheduler = world.schedulers[a % len(world.schedulers)] if world.schedulers else None
    if scheduler is not None:
        scheduler.paused = not scheduler.paused


def spoil_disk(world: World, a: int, b: int) -> None:
    """The disk of a scheduler is full, has room again, or damages what is open."""
    scheduler = _scheduler(world, a)
    match b % 3:
        case 0:
            scheduler.disk.full = True
            for n in range(3):
                world.submit(NewJob(key=f"full{a}{n}", queue=_queue(world, a)))
            for _ in range(6 if b % 2 else 1):  # owners try again and again
                turn_all(world, a, 0)
                tick(world, 2, 0)
            scheduler.disk.full = b % 4 > 1
        case 1:
            scheduler.disk.full = False
        case _:
            scheduler.disk.damaged += 1


def _scheduler(world: World, a: int) -> SimScheduler:
    return world.scheduler(_partition(world, a))


# -- workers ----------------------------------------------------------------------------------------------------------


def _worker(world: World, a: int) -> SimWorker | None:
    alive = [worker for worker in world.workers if worker.alive]
    return alive[a % len(alive)] if alive else None


def _task(worker: SimWorker, b: int) -> TaskKey | None:
    return list(worker.held)[b % len(worker.held)] if worker.held else None


def start_worker(world: World, a: int, b: int) -> None:
    """A worker starts, or a dead one starts again under its name; at most four live."""
    if sum(worker.alive for worker in world.workers) < 4:
        handlers = world.options.handlers[: 1 + a % len(world.options.handlers)]
        world.start_worker(name=f"w{a % 4}", credits=1 + b % 3, handlers=handlers)


def work(world: World, a: int, b: int) -> None:
    """A worker reads its inbox and takes one of its tasks a step further."""
    worker = _worker(world, a)
    if worker is None:
        return
    worker.poll()
    key = _task(worker, b)
    if key is None:
        return
    hold = b % 16 == 15
    match b % 9:
        case 0 | 1:
            worker.start(key, hold=hold)
        case 2 | 3:
            worker.succeed(key, hold=hold)
        case 4 | 5:
            worker.fail(key, hold=hold)
        case 6:
            worker.fail(key, retryable=False, timeout=True)
        case 7:
            worker.save(key)
        case _:
            worker.give_back(key)


def go_round(world: World, a: int, b: int) -> None:
    """Without any fault: every owner takes a turn and every worker a step, a few times."""
    for n in range(1 + a % 3):
        turn_all(world, a, b)
        for place in range(len(world.workers)):
            work(world, place, b + n + place)


def misbehave(world: World, a: int, b: int) -> None:
    """A worker dies, is stopped and goes on, stalls, lies, or leaves."""
    worker = _worker(world, a)
    if worker is None:
        return
    match b % 8:
        case 0 | 1:
            worker.die()
        case 2 | 3:
            worker.paused = not worker.paused
        case 4:
            worker.stalled = not worker.stalled
        case 5 | 6:
            worker.lie(b)
        case _:
            worker.leave(world.options.tenant)


def lose_a_loaded_worker(world: World, a: int, b: int) -> None:
    """A worker dies with many large tasks that it has not started; once in a while, for it takes long."""
    if b % 8:
        return
    queue = _queue(world, a)
    worker = world.start_worker(credits=12, queues=[queue])
    home = partition_of(queue_stream(world.options.tenant, queue), world.options.partitions)
    for _ in range(10):
        world.submit(NewJob(payload=_LARGE, queue=queue), on=home)
    turn_all(world, a, 0)
    worker.poll()
    worker.die()


def cancel_what_is_lost(world: World, a: int, b: int) -> None:
    """Cancels come in while an owner hands out again what a lost worker had."""
    queue = _queue(world, a)
    home = partition_of(queue_stream(world.options.tenant, queue), world.options.partitions)
    worker = world.start_worker(credits=6, queues=[queue])
    streams = [world.submit(NewJob(queue=queue, priority=1), on=home) for _ in range(6)]
    for _ in range(2):
        turn_all(world, a, 0)
    worker.die()
    for _ in range(3):
        world.clock.advance(4_000)
        for other in world.workers:
            other.beat()
    world.decide(home)
    for stream in streams:
        world.cancel(stream)
    world.commit(home)


def cancel_twice(world: World, a: int, b: int) -> None:
    """A cancel of a job that is being cancelled changes nothing; asked again after the end, it is told the same."""
    worker = _worker(world, a)
    key = _task(worker, b) if worker is not None and worker.running else None
    if worker is None or key is None:
        return
    world.cancel(key[0])
    turn_all(world, a, 0)
    second = world.cancel(key[0])
    turn_all(world, a, 0)
    worker.succeed(key)
    turn_all(world, a, 0)
    world.ask_again(second)


def suspend_worker(world: World, a: int, b: int) -> None:
    """A worker's machine sleeps for longer than a lease, with tasks in hand, and goes on as if nothing were."""
    worker = _worker(world, a)
    if worker is None or not worker.running:
        return
    submit(world, a, b)
    turn_all(world, a, b)
    worker.poll()
    worker.paused = True
    long_silence(world, a, b)
    worker.paused = False
    key = _task(worker, b)
    if key is not None:
        worker.start(key)


def crash_in_a_handler(world: World, a: int, b: int) -> None:
    """A handler takes its worker down, before or after its start was reported; the next incarnation says so."""
    worker = _worker(world, a)
    key = _task(worker, b) if worker is not None and worker.running else None
    if worker is None or key is None:
        return
    task = worker.held[key]
    worker.start(key, quiet=b % 2 == 0)
    if worker.alive and worker.honest:
        worker.die()
        world.start_worker(name=worker.name, credits=1 + b % 3).tell_of_crash(worker, task)


def register_anew(world: World, a: int, b: int) -> None:
    """A worker that fears for its lease goes on under a new incarnation; it may still report on what it had."""
    worker = _worker(world, a)
    if worker is None or not worker.running:
        return
    heir = world.start_worker(name=worker.name, credits=1 + b % 3)
    if b % 2:
        worker.die()
    heir.poll()


def change_credits(world: World, a: int, b: int) -> None:
    """A worker takes more or fewer tasks at once."""
    worker = _worker(world, a)
    if worker is not None and worker.running:
        worker.register(world.options.tenant, _queue(world, b), b % 4, list(world.options.handlers), hold=b % 16 == 15)


# -- time -------------------------------------------------------------------------------------------------------------


def tick(world: World, a: int, b: int) -> None:
    """Time passes, and workers that can send their heartbeats."""
    for _ in range(1 + b % 4):
        world.clock.advance((5, 300, 2_000, 4_500)[a % 4])
        for worker in world.workers:
            worker.beat()


def long_silence(world: World, a: int, b: int) -> None:
    """Longer than a lease: only workers that were not stopped have been heard of."""
    for _ in range(3):
        world.clock.advance(4_000)
        for worker in world.workers:
            worker.beat()
        turn_all(world, a, b)


def clock_jumps(world: World, a: int, b: int) -> None:
    """The wall clock of a scheduler jumps back or ahead, or is put right."""
    clock = _scheduler(world, a).clock
    clock.jump((-1, -50, -400, -600_000, 40, 400, 3_600_000, -clock.offset_ms)[b % 8])


def heartbeats_stall(world: World, a: int, b: int) -> None:
    """The owners' reader of heartbeats hangs, or goes on."""
    if b % 2:
        world.heartbeats.stall()
    else:
        world.heartbeats.resume()


ACTIONS: dict[str, tuple[int, Action]] = {
    "submit": (8, submit),
    "submit_with_key": (3, submit_with_key),
    "cancel": (4, cancel),
    "submit_odd_id": (1, submit_odd_id),
    "submit_large": (1, submit_large),
    "write_nonsense": (1, write_nonsense),
    "tend_dead_letters": (3, tend_dead_letters),
    "ask_again": (4, ask_again),
    "administer": (2, administer),
    "turn": (8, turn),
    "turn_all": (10, turn_all),
    "decide": (5, decide),
    "commit": (5, commit),
    "commit_badly": (3, commit_badly),
    "hold_outbox": (4, hold_outbox),
    "fail_delivery": (3, fail_delivery),
    "broker_away": (3, broker_away),
    "fill_outbox": (2, fill_outbox),
    "flood": (1, flood),
    "deliver": (5, deliver),
    "crash": (3, crash),
    "take_over": (3, take_over),
    "hand_over": (2, hand_over),
    "spoil_disk": (2, spoil_disk),
    "stop_scheduler": (1, stop_scheduler),
    "zombie": (3, zombie),
    "start_worker": (4, start_worker),
    "work": (10, work),
    "go_round": (14, go_round),
    "misbehave": (4, misbehave),
    "lose_a_loaded_worker": (4, lose_a_loaded_worker),
    "register_anew": (2, register_anew),
    "crash_in_a_handler": (2, crash_in_a_handler),
    "cancel_what_is_lost": (1, cancel_what_is_lost),
    "cancel_twice": (2, cancel_twice),
    "suspend_worker": (2, suspend_worker),
    "change_credits": (2, change_credits),
    "tick": (5, tick),
    "long_silence": (2, long_silence),
    "clock_jumps": (2, clock_jumps),
    "heartbeats_stall": (1, heartbeats_stall),
}


def finish(world: World) -> None:
    """All faults end; everything must come to its end, and everything must agree. Raises ViolationError."""
    world.check_agreement()
    world.heal()
    world.drain()
    world.check_end()


def run_seed(seed: int, steps: int = 60) -> World:
    """A whole random run; the same seed gives the same run. Raises ViolationError, naming the seed's last action."""
    choose = random.Random(seed)
    world = make_world(choose.randrange(CHOICES))
    names = list(ACTIONS)
    weights = [ACTIONS[name][0] for name in names]
    for name in choose.choices(names, weights, k=steps):
        ACTIONS[name][1](world, choose.randrange(CHOICES), choose.randrange(CHOICES))
    finish(world)
    return world

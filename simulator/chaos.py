"""What can be done to a world: named actions with two small numbers for their choices.

A random run draws actions by weight from a seed; the property tests draw them through Hypothesis, which
shrinks a failing run to a few of them.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from jobledger.domain import queue_commands as qc
from jobledger.domain.identity import queue_stream, tenant_stream
from jobledger.domain.tenant import CreateTenant, UpdateTenant
from jobledger.domain.values import RetryPolicy
from jobledger.processors.core.machine import Limits
from jobledger.simulator.owner import CommitFault, SimOwner
from jobledger.simulator.worker import SimWorker, TaskKey
from jobledger.simulator.world import NewJob, World, WorldOptions

#: An action takes the world and two numbers, each 0 … CHOICES-1.
CHOICES = 64
Action = Callable[[World, int, int], None]
_RETRIES = (
    RetryPolicy(max_attempts=1),
    RetryPolicy(max_attempts=3, initial_seconds=0.5),
    RetryPolicy(max_attempts=2, initial_seconds=30.0, jitter_ratio=0.5),
)
_WINDOW = 10 * 366 * 86_400_000
_LIMITS = (
    Limits(dedup_window_ms=_WINDOW, ahead_ms=_WINDOW),
    Limits(commands=2, records=4, dedup_window_ms=_WINDOW, ahead_ms=_WINDOW),
    Limits(commands=5, records=9, dedup_window_ms=_WINDOW, ahead_ms=_WINDOW),
    Limits(commands=40, bytes=3_000, dedup_window_ms=_WINDOW, ahead_ms=_WINDOW),
)


def make_world(choice: int) -> World:
    """A small world; `choice` picks its size and the bounds of a batch."""
    world = World(WorldOptions(partitions=2 + choice % 2, limits=_LIMITS[choice // 2 % len(_LIMITS)]))
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


# -- owners -----------------------------------------------------------------------------------------------------------


def turn(world: World, a: int, b: int) -> None:
    """A turn of one owner; sometimes one command at a time, as after a failure."""
    world.turn(_partition(world, a), single=b % 8 == 7)


def turn_all(world: World, a: int, b: int) -> None:
    """A turn of every owner."""
    for offset in range(world.options.partitions):
        world.turn((a + offset) % world.options.partitions)


def decide(world: World, a: int, b: int) -> None:
    """An owner decides and has not yet committed; its time may be over after any command."""
    left = iter([False] * (b % 6))
    over_time = (lambda: next(left, True)) if b % 2 else (lambda: False)
    world.owner(_partition(world, a)).decide(over_time=over_time)


def commit(world: World, a: int, b: int) -> None:
    """An owner commits; what it was to send waits for `relay`."""
    world.commit(_partition(world, a))


def commit_badly(world: World, a: int, b: int) -> None:
    """A commit whose outcome the owner does not learn: it happened, or it did not."""
    partition = _partition(world, a)
    world.owner(partition).decide()
    world.commit(partition, (CommitFault.UNKNOWN, CommitFault.LOST)[b % 2])


def relay(world: World, a: int, b: int) -> None:
    """Part of the outbox is sent; it may fly for a while, or one delivery may fail."""
    owner = world.owner(_partition(world, a))
    if b % 4 == 3:
        _fail_one_delivery(owner, b)
    else:
        owner.relay(limit=b % 5 or None, hold=b % 4 == 1)


def _fail_one_delivery(owner: SimOwner, choice: int) -> None:
    """The first delivery of several to one destination fails; those behind it arrive."""
    failing = [place for place, name in enumerate(owner.unsent) if name in owner.unsent[place + 1 :]]
    owner.relay(fail_at=failing[choice % len(failing)] if failing else None)


def fill_outbox(world: World, a: int, b: int) -> None:
    """Jobs come in and are committed one after the other, while what follows from them is not sent yet."""
    for n in range(2 + b % 2):
        submit(world, a + n, 5 * (b // 2))
        for partition in range(world.options.partitions):
            world.owner(partition).decide()
            world.commit(partition)
    if b % 4 < 2:
        for partition in range(world.options.partitions):
            _fail_one_delivery(world.owner(partition), a)


def deliver(world: World, a: int, b: int) -> None:
    """Some of what flies arrives."""
    for _ in range(1 + b % 4):
        world.network.deliver(a)


def crash(world: World, a: int, b: int) -> None:
    """kill -9 of an owner, wherever it stands."""
    world.crash(_partition(world, a))


def take_over(world: World, a: int, b: int) -> None:
    """A second owner opens a partition; the first one may have decided something already."""
    if b % 2:
        world.owner(_partition(world, a)).decide()
    world.take_over(_partition(world, a))


def zombie(world: World, a: int, b: int) -> None:
    """A deposed owner wakes up and goes on."""
    if world.zombies:
        world.zombie_commits(a)


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


def set_clock_back(world: World, a: int, b: int) -> None:
    """The wall clock jumps back."""
    world.clock.set_back((1, 50, 5_000, 100_000)[b % 4])


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
    "ask_again": (4, ask_again),
    "administer": (2, administer),
    "turn": (8, turn),
    "turn_all": (10, turn_all),
    "decide": (5, decide),
    "commit": (5, commit),
    "commit_badly": (3, commit_badly),
    "relay": (6, relay),
    "fill_outbox": (2, fill_outbox),
    "deliver": (5, deliver),
    "crash": (3, crash),
    "take_over": (3, take_over),
    "zombie": (3, zombie),
    "start_worker": (4, start_worker),
    "work": (10, work),
    "go_round": (14, go_round),
    "misbehave": (4, misbehave),
    "change_credits": (2, change_credits),
    "tick": (5, tick),
    "long_silence": (2, long_silence),
    "set_clock_back": (1, set_clock_back),
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

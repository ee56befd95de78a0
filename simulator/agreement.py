"""Whether the three forms of a partition agree: fold(events), the owner's memory, and a rebuild from `state`."""

from __future__ import annotations

from jobledger.domain.aggregates import State
from jobledger.domain.job.state import Job, JobStatus, next_timer_ms
from jobledger.domain.queue.state import QueueState
from jobledger.processors.core.machine import Machine
from jobledger.processors.core.state_records import Stub, decode_state, encode_state, idempotency_key, stub_key
from jobledger.simulator.checks import PartitionTrace, ViolationError, insist


def check_fold(trace: PartitionTrace, machine: Machine, tenant: str) -> None:
    """The fold of a partition's events is what its machine holds, byte for byte; raises ViolationError."""
    where = f"partition {machine.partition}"
    insist(trace.seq == machine.checkpoint.seq, f"{where}: seq {trace.seq} folded, {machine.checkpoint.seq} in memory")
    insist(machine.checkpoint.now_ms >= trace.at_ms, f"{where}: the checkpoint's time is before the last event")
    states = trace.states
    live = {s: encode_state(j) for s, j in states.items() if isinstance(j, Job) and not j.ended_with_stub}
    _same(f"{where}: jobs", live, machine.streams["job"])
    tenants = {s: t for s, t in states.items() if not isinstance(t, Job | QueueState)}
    _same(f"{where}: tenants", tenants, machine.streams["tenant"])
    queues = {s: q for s, q in states.items() if isinstance(q, QueueState)}
    _same(f"{where}: names of queues", set(queues), set(machine.streams["queue"]))
    for stream, queue in queues.items():
        _same_queue(f"{where}: {stream}", queue, machine.streams["queue"][stream])
    _check_timers(where, states, machine)
    for stream, state in states.items():
        if isinstance(state, Job):
            _check_kept(where, stream, state, machine, tenant)


def check_rebuild(memory: Machine, rebuilt: Machine) -> None:
    """A machine rebuilt from `state` is the one in memory; raises ViolationError."""
    where = f"partition {memory.partition}, rebuilt"
    _same(f"{where}: jobs", rebuilt.streams["job"], memory.streams["job"])
    _same(f"{where}: tenants", rebuilt.streams["tenant"], memory.streams["tenant"])
    _same(f"{where}: checkpoint", rebuilt.checkpoint, memory.checkpoint)
    _same(f"{where}: pending", list(rebuilt.pending), list(memory.pending))
    _same(f"{where}: outbox", set(rebuilt.outbox), set(memory.outbox) | memory.acknowledged)
    _same(f"{where}: kept", dict(rebuilt.retained.items()), dict(memory.retained.items()))
    _same(f"{where}: names of queues", set(rebuilt.streams["queue"]), set(memory.streams["queue"]))
    for stream, queue in memory.streams["queue"].items():
        _same_queue(f"{where}: {stream}", rebuilt.streams["queue"][stream], queue)
    _same(f"{where}: timers", _wanted(rebuilt), _wanted(memory))


def _same(what: str, one: object, other: object) -> None:
    if one != other:
        raise ViolationError(f"{what} differ: {one!r:.1500} | {other!r:.1500}")


def _same_queue(where: str, one: QueueState, other: QueueState) -> None:
    _same(f"{where}: head", one.queue, other.queue)
    _same(f"{where}: tasks", one.lanes.tasks, other.lanes.tasks)
    _same(f"{where}: workers", one.workers, other.workers)
    _same(f"{where}: held", one.lanes.held, other.lanes.held)
    _same(f"{where}: waiting bytes", one.lanes.waiting_bytes, other.lanes.waiting_bytes)
    _same(f"{where}: lanes in order", _lanes(one), _lanes(other))


def _lanes(state: QueueState) -> dict[tuple[int, str], list[tuple[str, int]]]:
    return {
        (priority, handler): list(lane.items())
        for priority, lanes in state.lanes.waiting.items()
        for handler, lane in lanes.items()
    }


def _wanted(machine: Machine) -> set[tuple[int, str]]:
    """Timers that would have effect; the heap may hold others, which are dropped when they fall due."""
    wanted = set()
    for due, stream in machine.timers:
        job = machine.load(stream)
        if isinstance(job, Job) and next_timer_ms(job) == due:
            wanted.add((due, stream))
    return wanted


def _check_timers(where: str, states: dict[str, State], machine: Machine) -> None:
    wanted = set()
    for stream, state in states.items():
        if not isinstance(state, Job):
            continue
        due = next_timer_ms(state)
        if due is not None:
            wanted.add((due, stream))
        elif state.status in (JobStatus.RUNNING, JobStatus.CANCELLING):
            raise ViolationError(f"{where}: {stream} is {state.status}, and nothing ends that")
    _same(f"{where}: timers", wanted, _wanted(machine))


def _check_kept(where: str, stream: str, job: Job, machine: Machine, tenant: str) -> None:
    """An ended job has left its stub, and a job with an idempotency key has the key's entry."""
    data = machine.retained.get(stub_key(stream))
    if _is_forgotten(job, machine) and data is None:
        return
    if not job.ended_with_stub:
        insist(data is None, f"{where}: {stream} lives and has a stub")
    else:
        insist(data is not None, f"{where}: {stream} has ended without a stub")
        stub: Stub = decode_state(data or b"")
        told = (stub.seq, stub.version, stub.status, stub.key_digest, stub.request_digest)
        _same(f"{where}: stub of {stream}", told, (job.created_seq, job.version, job.status.value, *_digests(job)))
    if job.key_digest is not None:
        entry = machine.retained.get(idempotency_key(tenant, job.key_digest))
        insist(entry is not None or _is_forgotten(job, machine), f"{where}: {stream} has lost its idempotency key")
        if not _is_forgotten(job, machine):
            _same(f"{where}: key of {stream}", decode_state(entry or b"").stream, stream)


def _is_forgotten(job: Job, machine: Machine) -> bool:
    """Whether the window is over in which repeats are recognised."""
    ended_at_ms = job.ended_at_ms
    return (
        job.ended_with_stub
        and ended_at_ms is not None
        and ended_at_ms + machine.limits.dedup_window_ms <= machine.checkpoint.now_ms
    )


def _digests(job: Job) -> tuple[str | None, str | None]:
    return job.key_digest, job.request_digest

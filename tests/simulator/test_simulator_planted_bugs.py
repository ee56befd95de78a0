"""The simulator can fail: each known kind of bug, planted by hand, is found by a history for it or soon."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import pytest
from msgspec.structs import replace

from jobledger.domain import aggregates
from jobledger.domain.job import decide as jobs
from jobledger.domain.job import retry
from jobledger.domain.job.state import TERMINAL, Job
from jobledger.domain.queue import decide as queues
from jobledger.domain.queue import events as qe
from jobledger.domain.queue.state import QueueState
from jobledger.processors.core import answers, batch, pending, recovery, state_writer
from jobledger.processors.core import machine as machines
from jobledger.processors.core.batch import Batch
from jobledger.processors.core.machine import Incoming, Machine
from jobledger.processors.core.owner import Owner
from jobledger.processors.core.part_records import PartRecords
from jobledger.processors.core.plan import Plan
from jobledger.processors.core.relay import OutboxRelay
from jobledger.processors.core.repeats import Repeats
from jobledger.processors.core.state_writer import StateWriter
from jobledger.processors.core.timers import Timers
from jobledger.processors.core.watched_clock import WatchedClock
from jobledger.schemas import commands
from jobledger.simulator import directed, scheduler, worker
from jobledger.simulator.broker import MemoryBroker
from jobledger.simulator.chaos import run_seed
from jobledger.simulator.ports import LogFaultError, MemoryPartitionLog
from jobledger.simulator.worker import SimWorker

MAX_SEEDS = 120
SEEDS_PER_TEST = 30
Patch = pytest.MonkeyPatch
Plant = Callable[[Patch], None]


def _first_violation(history: Callable[[], None] | None) -> str | None:
    """What the history says, or the first bad seed; any exception counts, as it would stop a partition."""
    runs = [history] if history else [partial(run_seed, number) for number in range(MAX_SEEDS)]
    for number, run in enumerate(runs):
        try:
            run()
        except Exception as error:  # noqa: BLE001 - a planted bug may surface in any way
            return f"{history.__name__ if history else f'seed {number}'}: {type(error).__name__}: {error}"
    return None


def skip_the_fence(patch: Patch) -> None:
    patch.setattr(MemoryBroker, "may_commit", lambda self, partition, epoch: True)


def send_before_the_commit(patch: Patch) -> None:
    async def commit(self: Owner, machine: Machine, plan: Plan) -> None:
        self._relay.send(self, [(entry.key, entry) for entry in plan.outbox])
        await original(self, machine, plan)

    original = Owner._commit
    patch.setattr(Owner, "_commit", commit)


def show_the_relay_what_is_not_committed(patch: Patch) -> None:
    def finish(self: Batch) -> Plan:
        plan = original(self)
        self._memory.outbox.update((entry.key, entry) for entry in plan.outbox)
        return plan

    original = Batch.finish
    patch.setattr(Batch, "finish", finish)


def forget_an_acknowledgement_before_the_commit(patch: Patch) -> None:
    """What arrives while a transaction is under way is taken for deleted by it."""

    def committed(self: Machine, plan: Plan) -> None:
        self.outbox.update((entry.key, entry) for entry in plan.outbox)
        self.acknowledged.clear()

    patch.setattr(Machine, "committed", committed)


def go_on_after_a_lost_commit(patch: Patch) -> None:
    async def commit(self: MemoryPartitionLog, plan: Plan) -> None:
        with contextlib.suppress(LogFaultError):
            await original(self, plan)

    original = MemoryPartitionLog.commit
    patch.setattr(MemoryPartitionLog, "commit", commit)


def take_every_outbox_record(patch: Patch) -> None:
    patch.setattr(Machine, "_wanted", lambda self, record, index: True)


def acknowledge_beyond_a_gap(patch: Patch) -> None:
    def arrived(self: OutboxRelay, transport: Any, holder: Any, key: bytes, done: Any) -> None:
        if done.exception() is None:
            holder.acknowledge(key)
        else:
            original(self, transport, holder, key, done)

    original = OutboxRelay._arrived
    patch.setattr(OutboxRelay, "_arrived", arrived)


def send_nothing_again(patch: Patch) -> None:
    patch.setattr(OutboxRelay, "register", lambda self, holder: self._holders.setdefault(holder))


def never_look_behind_the_feed(patch: Patch) -> None:
    async def collect(self: Owner, machine: Machine) -> None:
        if not self._inbox:
            self._seen_until = machine.checkpoint.offset
        await original(self, machine)

    original = Owner._collect
    patch.setattr(Owner, "_collect", collect)


def accept_stale_reports(patch: Patch) -> None:
    patch.setattr(jobs, "_stale", lambda job, assignment: None)


def forget_what_had_no_room(patch: Patch) -> None:
    def finish(self: Batch) -> Any:
        self._local.clear()
        return original(self)

    original = Batch.finish
    patch.setattr(Batch, "finish", finish)


def forget_the_pending_dispatch(patch: Patch) -> None:
    def read(*args: Any) -> Any:
        checkpoint = original(*args)
        checkpoint.pending = []
        return checkpoint

    original = recovery.read_checkpoint
    patch.setattr(recovery, "read_checkpoint", read)


def forget_command_ids(patch: Patch) -> None:
    patch.setattr(aggregates, "_remember", lambda known, command_id: None)

    def first(self: Repeats, command: Any, state: Any) -> Any:
        return self._unfit_id(command) if state is None and isinstance(command.body, jobs.c.SubmitJob) else None

    patch.setattr(Repeats, "first_outcome", first)


def forget_idempotency_keys(patch: Patch) -> None:
    patch.setattr(StateWriter, "_write_keys", lambda self, repeats: None)


def leave_no_stub(patch: Patch) -> None:
    def write(self: StateWriter, stream: str, *rest: Any) -> None:
        self._plan.state[b"s|" + stream.encode()] = None
        self._memory.forget(stream)

    patch.setattr(StateWriter, "_write_stub", write)


def leave_cancels_out_of_the_stub(patch: Patch) -> None:
    patch.setattr(state_writer, "Stub", lambda **fields: _Stub(**{**fields, "recent": []}))


_Stub = state_writer.Stub


def tell_repeats_the_position_of_the_first_event(patch: Patch) -> None:
    kind = aggregates.AGGREGATES["job"]
    assert kind.submission is not None
    changed = kind.submission._replace(first_events=lambda job: 1)
    patch.setitem(aggregates.AGGREGATES, "job", kind._replace(submission=changed))


def hand_out_more_than_the_credits(patch: Patch) -> None:
    def free(state: QueueState) -> dict[str, int]:
        return {incarnation: 9 for incarnation, known in state.workers.items() if not known.lost}

    patch.setattr(queues, "free_slots", free)


def hand_out_in_any_order(patch: Patch) -> None:
    patch.setattr(queues, "PRIORITIES", range(5, 0, -1))


def say_nothing_of_lost_tasks(patch: Patch) -> None:
    patch.setattr(queues, "_lost", lambda state, event: [])


def assign_to_lost_workers(patch: Patch) -> None:
    def on_lost(state: QueueState, event: qe.WorkerLost) -> None:
        for key in event.lost:
            state.lanes.tasks[key].lost = True

    patch.setitem(aggregates._EVOLVE, qe.WorkerLost, on_lost)


def retry_at_once(patch: Patch) -> None:
    patch.setattr(jobs, "retry_at_ms", lambda policy, attempt, execution, failed, after=None: failed)


def retry_once_too_often(patch: Patch) -> None:
    def at(policy: Any, attempt: int, execution: str, failed: int, after: float | None = None) -> int | None:
        return retry.retry_at_ms(policy, attempt - 1, execution, failed, after)

    patch.setattr(jobs, "retry_at_ms", at)


def start_early(patch: Patch) -> None:
    def fire(self: Machine, group: Batch, now: int, floor: int) -> int:
        group._now = now + 500
        fired = original(self, group, now + 500, floor)
        group._now = now
        return fired

    original = Machine._fire_timers
    patch.setattr(Machine, "_fire_timers", fire)


def let_time_run_back(patch: Patch) -> None:
    def decide(self: Machine, now_ms: int, incoming: Incoming, **rest: Any) -> Any:
        self.checkpoint.now_ms = 0
        return original(self, now_ms, incoming, **rest)

    original = Machine.decide
    patch.setattr(Machine, "decide", decide)


def forget_timers_in_recovery(patch: Patch) -> None:
    patch.setattr(Timers, "load", lambda self, timers: None)


def forget_to_store_queue_tasks(patch: Patch) -> None:
    patch.setattr(StateWriter, "_write_parts", lambda self: None)


def keep_in_memory_what_a_task_was_at_first(patch: Patch) -> None:
    def rest(self: PartRecords[Any], key: str, data: bytes) -> None:
        original(self, key, self._resting[key] or data)

    original = PartRecords.rest
    patch.setattr(PartRecords, "rest", rest)


def read_a_task_anew_each_time(patch: Patch) -> None:
    def read(self: PartRecords[Any], key: str) -> Any:
        return self._decode(self._resting[key]) if self._resting[key] else self._open[key]

    patch.setattr(PartRecords, "__getitem__", read)


def forget_the_number_of_the_source(patch: Patch) -> None:
    def end(self: Machine, records: Any, offset: int, record: Any) -> None:
        original(self, records, offset, record)
        if self.checkpoint.seq % 7 == 0:
            self.checkpoint.received.clear()

    original = Machine._end_record
    patch.setattr(Machine, "_end_record", end)


def cancel_without_asking(patch: Patch) -> None:
    def cancel(job: Job, command: Any, now: int) -> Any:
        if job.status in TERMINAL:
            return original(job, command, now)
        return [jobs.e.JobCancelled(ended_at_ms=now)]

    original = jobs._cancel
    patch.setitem(jobs._DECIDE, jobs.c.CancelJob, cancel)


def ignore_the_cancel_at_the_queue(patch: Patch) -> None:
    patch.setitem(queues._DECIDE, queues.c.WithdrawTask, lambda state, command, now: [])


def run_every_copy_of_a_task(patch: Patch) -> None:
    class Nothing(set[Any]):
        def __contains__(self, key: object) -> bool:
            return False

    def init(self: SimWorker, *args: Any, **rest: Any) -> None:
        original(self, *args, **rest)
        self._seen = Nothing()

    original = SimWorker.__init__
    patch.setattr(SimWorker, "__init__", init)


def outlive_the_lease(patch: Patch) -> None:
    patch.setattr(SimWorker, "_expired", lambda self: False)


def begin_a_job_under_any_id(patch: Patch) -> None:
    patch.setattr(Repeats, "_unfit_id", lambda self, command: None)


def keep_all_that_is_left_over_in_the_checkpoint(patch: Patch) -> None:
    patch.setattr(pending, "MAX_INLINE_ITEMS", 1_000_000)
    patch.setattr(pending, "MAX_INLINE_BYTES", 1_000_000_000)


def blame_the_next_command(patch: Patch) -> None:
    """Whatever fails three times, the command at the checkpoint is set aside for it."""

    def judge(self: Owner, error: Exception) -> str:
        machine = self._machine
        reason = original(self, error)
        if self._failures >= 3 and machine is not None:
            at = machine.checkpoint
            self._aside[batch.log_unit(at.offset, at.index)] = "It failed three times."
        return reason

    original = Owner._judge
    patch.setattr(Owner, "_judge", judge)


def take_a_broken_cache_for_a_broken_command(patch: Patch) -> None:
    patch.setattr(batch, "ENVIRONMENT", ())
    patch.setattr(machines, "ENVIRONMENT", ())


def let_timers_wait_for_the_backlog(patch: Patch) -> None:
    patch.setattr(machines, "FLOOR_TIMERS", 0)


def believe_the_clock(patch: Patch) -> None:
    patch.setattr(WatchedClock, "now_ms", lambda self: self._clock.now_ms())


def say_nothing_of_a_gap(patch: Patch) -> None:
    patch.setattr(Owner, "_overdue_gaps", lambda self: [])


def remember_nothing_that_left_no_event(patch: Patch) -> None:
    patch.setattr(Repeats, "remember_unchanged", lambda self, command: None)


def let_a_cancel_overtake_what_is_too_deep(patch: Patch) -> None:
    """What has no room at its depth waits for the next batch, while this one goes on."""

    def follow(self: Batch, *args: Any) -> None:
        original_follow(self, *args)
        if self._too_deep:
            self._too_deep = False
            waiting.setdefault(self, []).append(self._local.pop())

    def finish(self: Batch) -> Plan:
        self._settle()
        self._local.extend(waiting.pop(self, []))
        return original_finish(self)

    waiting: dict[Batch, list[Any]] = {}
    original_follow, original_finish = Batch._follow, Batch.finish
    patch.setattr(Batch, "_follow", follow)
    patch.setattr(Batch, "finish", finish)


def go_on_beyond_the_depth(patch: Patch) -> None:
    """Whatever follows from something is decided in the same batch."""

    def full(self: Batch) -> bool:
        too_deep, self._too_deep = self._too_deep, False
        try:
            return original(self)
        finally:
            self._too_deep = too_deep

    original = cast(Callable[[Batch], bool], Batch.full.fget)
    patch.setattr(Batch, "full", property(full))


def take_ids_of_any_length(patch: Patch) -> None:
    patch.setattr(commands, "fits", lambda identity, stream: True)
    patch.setattr(answers, "fits", lambda identity, stream: True)


def set_no_limit_at_the_start(patch: Patch) -> None:
    def started(job: Job, report: Any, timeout_at: int | None = None) -> Any:
        return original(job, report)

    original = jobs._started
    patch.setattr(jobs, "_started", started)


def set_no_limit_at_the_cancel(patch: Patch) -> None:
    def cancel(job: Job, command: Any, now: int) -> Any:
        decision = original(job, command, now)
        if isinstance(decision, list):
            decision = [
                replace(event, timeout_at_ms=None) if isinstance(event, jobs.e.JobCancelRequested) else event
                for event in decision
            ]
        return decision

    original = jobs._cancel
    patch.setitem(jobs._DECIDE, jobs.c.CancelJob, cancel)


def never_sweep_the_timers(patch: Patch) -> None:
    patch.setattr(Timers, "_sweep", lambda self: None)


def let_a_stub_go_before_its_id_is_old(patch: Patch) -> None:
    patch.setattr(state_writer, "minted_ms", lambda name: None)


def end_an_attempt_and_tell_nobody(patch: Patch) -> None:
    def react(job: Job, event: Any) -> Any:
        return original(job, replace(event, by_owner=False) if isinstance(event, jobs.e.TaskFailed) else event)

    original = jobs.react
    kind = aggregates.AGGREGATES["job"]
    patch.setitem(aggregates.AGGREGATES, "job", kind._replace(react=react))


def charge_nothing_for_a_crash(patch: Patch) -> None:
    patch.setitem(jobs._DECIDE, jobs.c.ReportCrashed, jobs._attempt_lost)


def go_on_counting_after_a_redrive(patch: Patch) -> None:
    def redrive(job: Job, command: Any, now: int) -> Any:
        decision = original(job, command, now)
        if isinstance(decision, list):
            decision[-1] = replace(decision[-1], attempt=job.main.attempt + 1)
        return decision

    original = jobs._redrive
    patch.setitem(jobs._DECIDE, jobs.c.RedriveJob, redrive)


BUGS = [
    skip_the_fence,
    send_before_the_commit,
    show_the_relay_what_is_not_committed,
    forget_an_acknowledgement_before_the_commit,
    go_on_after_a_lost_commit,
    take_every_outbox_record,
    acknowledge_beyond_a_gap,
    send_nothing_again,
    never_look_behind_the_feed,
    accept_stale_reports,
    forget_what_had_no_room,
    forget_the_pending_dispatch,
    forget_command_ids,
    forget_idempotency_keys,
    leave_no_stub,
    leave_cancels_out_of_the_stub,
    tell_repeats_the_position_of_the_first_event,
    hand_out_more_than_the_credits,
    hand_out_in_any_order,
    say_nothing_of_lost_tasks,
    assign_to_lost_workers,
    retry_at_once,
    retry_once_too_often,
    start_early,
    let_time_run_back,
    forget_timers_in_recovery,
    forget_to_store_queue_tasks,
    keep_in_memory_what_a_task_was_at_first,
    read_a_task_anew_each_time,
    forget_the_number_of_the_source,
    cancel_without_asking,
    ignore_the_cancel_at_the_queue,
    run_every_copy_of_a_task,
    outlive_the_lease,
    begin_a_job_under_any_id,
    keep_all_that_is_left_over_in_the_checkpoint,
    blame_the_next_command,
    take_a_broken_cache_for_a_broken_command,
    let_timers_wait_for_the_backlog,
    believe_the_clock,
    say_nothing_of_a_gap,
    remember_nothing_that_left_no_event,
    let_a_cancel_overtake_what_is_too_deep,
    go_on_beyond_the_depth,
    take_ids_of_any_length,
    set_no_limit_at_the_start,
    set_no_limit_at_the_cancel,
    never_sweep_the_timers,
    let_a_stub_go_before_its_id_is_old,
    end_an_attempt_and_tell_nobody,
    charge_nothing_for_a_crash,
    go_on_counting_after_a_redrive,
]


#: Bugs that are found by a history of their own; all others are found by random ones.
DIRECTED: dict[Plant, Callable[[], None]] = {
    take_every_outbox_record: directed.a_record_arrives_again_when_all_is_over,
    forget_the_pending_dispatch: directed.an_owner_starts_over_with_work_left,
    keep_all_that_is_left_over_in_the_checkpoint: directed.a_lost_worker_had_much,
    never_look_behind_the_feed: directed.the_feed_leaves_out_what_came_last,
    begin_a_job_under_any_id: directed.an_id_that_tells_no_time_is_used_twice,
    blame_the_next_command: directed.a_full_disk_is_nobodys_fault,
    let_a_cancel_overtake_what_is_too_deep: directed.a_cancel_comes_while_lost_tasks_go_back,
    go_on_beyond_the_depth: directed.a_cancel_comes_with_its_submission,
    take_ids_of_any_length: directed.ids_are_too_long,
    set_no_limit_at_the_start: directed.a_handler_never_ends,
    set_no_limit_at_the_cancel: directed.a_cancelled_job_never_starts,
    never_sweep_the_timers: directed.timers_of_ended_jobs_go,
    let_a_stub_go_before_its_id_is_old: directed.an_id_of_a_clock_that_is_ahead_is_used_again,
    end_an_attempt_and_tell_nobody: directed.a_handler_never_ends,
    charge_nothing_for_a_crash: directed.a_handler_takes_its_worker_down,
    go_on_counting_after_a_redrive: directed.a_dead_letter_is_redriven,
}


@pytest.mark.parametrize("plant", BUGS, ids=lambda plant: plant.__name__)
def test_a_planted_bug_is_found(plant: Plant, monkeypatch: Patch) -> None:
    """A run with this bug breaks an invariant: in the history that is meant for it, or within MAX_SEEDS seeds."""
    plant(monkeypatch)
    found = _first_violation(DIRECTED.get(plant))
    assert found is not None, f"nothing noticed {plant.__name__}"
    assert "TypeError" not in found, f"{plant.__name__} was not planted as it was meant: {found}"
    print(found)


@pytest.mark.parametrize("first", range(0, MAX_SEEDS, SEEDS_PER_TEST))
def test_without_a_bug_the_same_seeds_pass(first: int) -> None:
    """What finds the planted bugs does not cry wolf."""
    for number in range(first, first + SEEDS_PER_TEST):
        run_seed(number)


@pytest.mark.parametrize("history", directed.HISTORIES, ids=lambda history: history.__name__)
def test_without_a_bug_a_history_by_hand_passes(history: Callable[[], None]) -> None:
    """The product does what must be done in it."""
    history()


def test_the_planted_bugs_touch_what_they_mean_to() -> None:
    """The modules that are patched above are those that the simulated world runs."""
    assert (scheduler.Owner, scheduler.OutboxRelay, worker.SimWorker) == (Owner, OutboxRelay, SimWorker)

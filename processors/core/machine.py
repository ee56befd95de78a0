"""The memory of a partition and the decision of a batch: pure but for its arguments.

`Machine.decide` takes what is waiting and gives a Plan. Memory changes while it decides, so a plan that is
not committed means that this machine is thrown away and rebuilt from `state`. The outbox alone, which others
look at meanwhile, changes only by `Machine.committed`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from jobledger.domain.aggregates import State
from jobledger.domain.job_commands import MarkDue
from jobledger.domain.job_state import MAIN_TASK, Job, next_timer_ms
from jobledger.domain.queue_state import QueueState
from jobledger.domain.tenant import Tenant
from jobledger.domain.values import SYSTEM
from jobledger.processors.core.batch import ENVIRONMENT, Batch
from jobledger.processors.core.checkpoint import Checkpoint
from jobledger.processors.core.pending import PendingQueue
from jobledger.processors.core.plan import OutboxEntry, Plan
from jobledger.processors.core.retained import Retained
from jobledger.processors.core.state_records import decode_job
from jobledger.processors.core.timers import Timers
from jobledger.schemas.commands import BrokenCommand, Command, ForeignCommand, ReadRecord

#: Late timers that are counted at most.
MAX_LATE = 10_000


class LostCommandError(RuntimeError):
    """The command log jumps over the checkpoint: commands are missing. The owner stops."""


class UnknownCommandError(RuntimeError):
    """The log holds a command that only another release can read. The owner stops at it, and loses nothing."""


#: Timers and leases that have their turn in each batch, however much else waits.
FLOOR_TIMERS = 25
FLOOR_INTERNAL = 4
#: How the ids of timers' and leases' commands begin; those of other sources never stand for a unit.
OWN_UNITS = ("timer/", "lease/")
#: How many timers and leases that failed are remembered.
MAX_ASIDE = 64


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one batch and how long ended streams are remembered."""

    commands: int = 500
    records: int = 2_000
    bytes: int = 2 * 1024 * 1024
    expiries: int = 200
    #: How far commands may follow from one another on this partition before the rest waits for the next batch.
    chain_depth: int = 16
    dedup_window_ms: int = 86_400_000
    #: How long a clock behind the partition's time is waited for. A time further ahead was never right.
    ahead_ms: int = 2_000


@dataclass(slots=True)
class Incoming:
    """What waits for a partition: records of `commands` by offset, and commands of the owner itself."""

    records: deque[tuple[int, ReadRecord]]
    internal: deque[Command]


class Machine:
    """Everything an owner knows of its partition."""

    def __init__(self, partition: int, checkpoint: Checkpoint, limits: Limits, retained: Retained) -> None:
        self.partition = partition
        self.checkpoint = checkpoint
        self.limits = limits
        self.retained = retained
        self.jobs: dict[str, bytes] = {}
        self.queues: dict[str, QueueState] = {}
        self.tenants: dict[str, Tenant] = {}
        self.timers = Timers()
        self.pending = PendingQueue(checkpoint, {})
        self.outbox: dict[bytes, OutboxEntry] = {}
        self.acknowledged: set[bytes] = set()
        #: What has failed when it was decided, by its unit: why. It goes to quarantine instead.
        self.aside: dict[str, str] = {}
        self._blocked: UnknownCommandError | None = None

    # -- lookups -------------------------------------------------------------------------------------------------

    def load(self, stream: str) -> State | None:
        """The live state of a stream. A job is decoded anew each time: the batch keeps what it touches."""
        kind = stream.partition(":")[0]
        if kind == "job":
            data = self.jobs.get(stream)
            return None if data is None else decode_job(data)
        if kind == "queue":
            return self.queues.get(stream)
        return self.tenants.get(stream)

    def time_ms(self, clock_ms: int) -> int:
        """The time to decide by: the clock's, or the partition's own while that is a little ahead of it.

        A partition's time that is far ahead was written by a clock that was wrong. Timers and retries would stand
        still until the clock has come there: they go by the clock, and only the stamps of events stay at that time.
        """
        ahead = self.checkpoint.now_ms - clock_ms
        return self.checkpoint.now_ms if 0 < ahead <= self.limits.ahead_ms else clock_ms

    def next_due_ms(self) -> int | None:
        """When the earliest timer falls due."""
        return self.timers.first_ms()

    def due_before(self, ms: int) -> list[int]:
        """Due times of timers that fell due before `ms`, of 10,000 at most."""
        return self.timers.before(ms, MAX_LATE)

    @property
    def unfinished(self) -> bool:
        """Whether the last batch left something that can be done at once."""
        return bool(self.pending)

    # -- deciding ------------------------------------------------------------------------------------------------

    def decide(self, now_ms: int, incoming: Incoming, *, single: bool, over_time: Callable[[], bool]) -> Plan:
        """Decide what waits, as much as fits in a batch; `single`: one command alone, whatever it comes from.

        Raises LostCommandError when the log has a hole, UnknownCommandError at a command of another release,
        UndecidedError when one of the commands cannot be decided and the batch must be decided anew without it.
        After any exception the machine must not be used any more.
        """
        if self._blocked is not None:
            raise self._blocked
        now = self.time_ms(now_ms)
        batch = Batch(self, now, over_time, 1 if single else self.limits.commands)
        try:
            batch.resume()
            if not batch.full:
                self._drain_log(batch, incoming.records)
            fired = self._fire_timers(batch, now, 0 if single else FLOOR_TIMERS)
            self._run_internal(batch, incoming.internal, 0 if single else FLOOR_INTERNAL)
            plan = batch.finish()
        except (*ENVIRONMENT, LostCommandError, UnknownCommandError):
            raise
        except Exception as error:
            raise batch.undecided(error) from error
        plan.timers_fired = fired
        return plan

    def _drain_log(self, batch: Batch, records: deque[tuple[int, ReadRecord]]) -> None:
        checkpoint = self.checkpoint
        while records and not batch.full:
            offset, record = records[0]
            if offset > checkpoint.offset:
                raise LostCommandError(
                    f"Partition {self.partition}: the next command record has offset {offset}, expected "
                    f"{checkpoint.offset}. Commands are missing from the log; the partition stays closed."
                )
            if offset < checkpoint.offset or not self._wanted(record, checkpoint.index):
                records.popleft()
                if offset >= checkpoint.offset:
                    checkpoint.offset, checkpoint.checksum = offset + 1, record.checksum
                batch.consumed = True
                continue
            while checkpoint.index < len(record.commands) and not batch.full:
                batch.source = (record.source, record.number)
                if not self._take(batch, offset, record.commands[checkpoint.index]):
                    return
            if checkpoint.index >= len(record.commands):
                self._end_record(records, offset, record)
                batch.consumed = True

    def _take(self, batch: Batch, offset: int, command: Command | BrokenCommand | ForeignCommand) -> bool:
        """Decide one command of the log; the checkpoint moves behind it. False: not before the batch is committed."""
        index = self.checkpoint.index
        if isinstance(command, ForeignCommand):
            self._blocked = UnknownCommandError(
                f"Partition {self.partition}: the command at offset {offset}, place {index}, was written by Jobledger "
                f"{command.writer} and cannot be read by {command.reader} ({command.reason}). It is kept, and the "
                f"partition stays closed here until a scheduler of that version takes it over."
            )
            if batch.started:
                return False
            raise self._blocked
        self.checkpoint.index += 1
        if isinstance(command, BrokenCommand):
            batch.quarantine_broken(command, offset, index)
        else:
            batch.run_logged(command, offset, index)
        return True

    def _wanted(self, record: ReadRecord, index: int) -> bool:
        """A record of an outbox is taken in order: repeats and what is beyond a gap are dropped."""
        source, number = record.source, record.number
        if source is None or number is None or index > 0:
            return True
        last = self.checkpoint.received.get(source, 0)
        if number > last + 1:
            self.checkpoint.ahead[source] = max(number, self.checkpoint.ahead.get(source, 0))
        return number == last + 1

    def _end_record(self, records: deque[tuple[int, ReadRecord]], offset: int, record: ReadRecord) -> None:
        records.popleft()
        checkpoint = self.checkpoint
        checkpoint.offset, checkpoint.index, checkpoint.checksum = offset + 1, 0, record.checksum
        if record.source is not None and record.number is not None:
            checkpoint.received[record.source] = record.number
            if checkpoint.ahead and checkpoint.ahead.get(record.source, 0) <= record.number:
                checkpoint.ahead.pop(record.source, None)

    def _fire_timers(self, batch: Batch, now: int, floor: int) -> int:
        """Due timers take at most half a batch and at least `floor`; each is a decision that checks that it is
        still wanted."""
        fired = 0
        while fired < max(self.limits.commands // 2, 1):
            if batch.full and fired >= floor:
                break
            timer = self.timers.pop_due(now)
            if timer is None:
                break
            due, stream = timer
            identity = timer_id(stream, due)
            job = batch.peek(stream)
            if not isinstance(job, Job) or next_timer_ms(job) != due or identity in self.checkpoint.aside:
                continue
            fired += 1
            command = Command(id=identity, stream=stream, actor=SYSTEM, body=MarkDue(task=MAIN_TASK, due_at_ms=due))
            if not batch.full:
                batch.run(command)
            elif not batch.squeeze(command):
                break
        return fired

    def _run_internal(self, batch: Batch, internal: deque[Command], floor: int) -> None:
        ran = 0
        while internal and (not batch.full or ran < floor):
            ran += 1
            command = internal.popleft()
            if not batch.full:
                batch.run(command)
            elif not batch.squeeze(command):
                break

    # -- after a decision: what the batch touched becomes memory --------------------------------------------------

    def keep_job(self, stream: str, job: Job, data: bytes) -> None:
        """Remember a live job, as the bytes that stand in `state`, and its timer."""
        self.jobs[stream] = data
        self.timers.set(stream, next_timer_ms(job))

    def forget_job(self, stream: str) -> None:
        """The job has ended; its stub stands in `retained`."""
        self.jobs.pop(stream, None)
        self.timers.set(stream, None)

    def keep(self, stream: str, state: State) -> None:
        """Remember a queue or tenant."""
        if isinstance(state, QueueState):
            self.queues[stream] = state
        elif isinstance(state, Tenant):
            self.tenants[stream] = state

    def committed(self, plan: Plan) -> None:
        """The plan stands in the log: what it sends may be seen by the relay now, and not before."""
        self.outbox.update((entry.key, entry) for entry in plan.outbox)
        self.acknowledged.difference_update(plan.forgotten)

    def acknowledge(self, key: bytes) -> None:
        """An outbox entry has arrived; the next transaction deletes it."""
        if self.outbox.pop(key, None) is not None:
            self.acknowledged.add(key)

    def note_aside(self, unit: str) -> None:
        """A command was set aside; one of the owner itself would come back, and must not."""
        if unit.startswith(OWN_UNITS):
            self.checkpoint.aside = [*self.checkpoint.aside, unit][-MAX_ASIDE:]


def timer_id(stream: str, due_ms: int) -> str:
    """The id of the command by which a timer fires."""
    return f"timer/{stream}/{due_ms}"

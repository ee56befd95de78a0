"""The decision of a batch: pure but for its arguments. `Machine.decide` takes what is waiting and gives a Plan."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from jobledger.processors.core.batch import ENVIRONMENT, Batch
from jobledger.processors.core.checkpoint import Checkpoint
from jobledger.processors.core.memory import Limits, Memory
from jobledger.processors.core.plan import Plan
from jobledger.processors.core.retained import Retained
from jobledger.processors.core.waking import woken
from jobledger.schemas.commands import BrokenCommand, Command, ForeignCommand, ReadRecord


class LostCommandError(RuntimeError):
    """The command log jumps over the checkpoint: commands are missing. The owner stops."""


class UnknownCommandError(RuntimeError):
    """The log holds a command that only another release can read. The owner stops at it, and loses nothing."""


#: Timers and leases that have their turn in each batch, however much else waits.
FLOOR_TIMERS = 25
FLOOR_INTERNAL = 4
#: A timer that fires so long after it was due is counted as late.
LATE_TIMER_MS = 1_000


@dataclass(slots=True)
class Incoming:
    """What waits for a partition: records of `commands` by offset, and commands of the owner itself."""

    records: deque[tuple[int, ReadRecord]]
    internal: deque[Command]


class Machine(Memory):
    """A partition's memory, and how it decides."""

    def __init__(self, partition: int, checkpoint: Checkpoint, limits: Limits, retained: Retained) -> None:
        super().__init__(partition, checkpoint, limits, retained)
        self._blocked: UnknownCommandError | None = None

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
            fired, late = self._fire_timers(batch, now, 0 if single else FLOOR_TIMERS)
            self._run_internal(batch, incoming.internal, 0 if single else FLOOR_INTERNAL)
            plan = batch.finish()
        except (*ENVIRONMENT, LostCommandError, UnknownCommandError):
            raise
        except Exception as error:
            raise batch.undecided(error) from error
        plan.timers_fired, plan.timers_late = fired, late
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

    def _fire_timers(self, batch: Batch, now: int, floor: int) -> tuple[int, int]:
        """Due timers take at most half a batch and at least `floor`; each is a decision that checks that it is
        still wanted. How many fired, and how many of them late."""
        fired = late = 0
        while fired < max(self.limits.commands // 2, 1):
            if batch.full and fired >= floor:
                break
            timer = self.timers.pop_due(now)
            if timer is None:
                break
            command = woken(*timer, batch.peek)
            if command is None or command.id in self.checkpoint.aside:
                continue
            fired += 1
            late += now - timer[0] > LATE_TIMER_MS
            if not batch.full:
                batch.run(command)
            elif not batch.squeeze(command):
                break
        return fired, late

    def _run_internal(self, batch: Batch, internal: deque[Command], floor: int) -> None:
        ran = 0
        while internal and (not batch.full or ran < floor):
            ran += 1
            command = internal.popleft()
            if not batch.full:
                batch.run(command)
            elif not batch.squeeze(command):
                break

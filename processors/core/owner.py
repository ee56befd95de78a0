"""The owner of a partition: collects what waits, decides it, commits it, then acts on it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from jobledger.processors.core.batch import UndecidedError
from jobledger.processors.core.checkpoint import Checkpoint
from jobledger.processors.core.idle import IdleProbe
from jobledger.processors.core.leases import Leases
from jobledger.processors.core.machine import Incoming, LostCommandError, Machine, UnknownCommandError
from jobledger.processors.core.memory import Limits
from jobledger.processors.core.plan import OutboxEntry, Plan
from jobledger.processors.core.ports import (
    Clock,
    FencedError,
    Heartbeats,
    Observer,
    PartitionLog,
    RefusedRecordError,
    Relay,
)
from jobledger.processors.core.recovery import (
    ForeignStateError,
    LatestState,
    LostTailError,
    build,
    check_commands,
    check_last_command,
    check_tail,
    check_topics,
)
from jobledger.processors.core.retained import Retained
from jobledger.processors.core.state_records import CHECKPOINT_KEY, UnreadableStateError, encode_state
from jobledger.processors.core.watched_clock import ClockWrongError
from jobledger.schemas.commands import Command, ReadRecord, take_record

MAX_INBOX_RECORDS = 512
MAX_INBOX_BYTES = 32 * 1024 * 1024
REFILL_RECORDS = 256
#: What is decoded at a stretch, some milliseconds of it; then others on the loop have their turn.
SLICE_BYTES = 128 * 1024
#: A partition that says so in health has failed this often without a commit in between.
TROUBLED_AFTER = 3
#: A gap in the numbers of an outbox closes by itself when its sender sends again; one that lasts is an alarm.
GAP_SECONDS = 30.0
#: Commands that failed and are set aside by an owner until their quarantine is committed.
MAX_ASIDE = 1_000
REOPEN_FIRST_SECONDS = 0.1
REOPEN_MAX_SECONDS = 5.0
LEASE_CHECK_SECONDS = 0.25
IDLE_TURN_SECONDS = 1.0
CLOCK_CHECK_SECONDS = 0.1
#: Commands that are told of and cannot be read: until they are asked for again, and until the log is opened anew.
REFILL_PAUSE_SECONDS = 0.1
MISSING_SECONDS = 30.0

#: The log itself is at fault: trying again cannot help.
_REFUSALS = (LostTailError, LostCommandError, ForeignStateError, UnreadableStateError, UnknownCommandError)


@dataclass(frozen=True, kw_only=True)
class OwnerConfig:
    """What an owner is told."""

    cell: str
    partitions: int
    limits: Limits
    lease_seconds: float
    batch_seconds: float = 0.020
    #: After being fenced: how long to wait for the group to take the partition away before opening anew.
    confirm_seconds: float = 10.0
    #: Makes the cache of stubs and keys, anew at each opening.
    make_retained: Callable[[], Retained] = Retained
    #: The broker's ids of the topics, and whether those of a topic that was restored from a copy are taken for right.
    topic_ids: Callable[[], Mapping[str, str]] = dict
    accept_new_topics: bool = False


class _StoppedError(Exception):
    """The owner was asked to stop while it opened its partition."""


class MissingCommandsError(RuntimeError):
    """The log is behind what it has told: the owner opens it anew."""


class Owner:
    """Serves one partition from `start()` to `stop()`. `wait()` returns when it has stopped or was refused."""

    def __init__(
        self,
        partition: int,
        config: OwnerConfig,
        log: PartitionLog,
        relay: Relay,
        heartbeats: Heartbeats,
        clock: Clock,
        observer: Observer,
        commit_slots: asyncio.Semaphore,
    ) -> None:
        self.partition = partition
        self.serving = False
        #: Since when the partition is being opened; None while it is served.
        self.opening_since: float | None = clock.monotonic()
        self.refusal: str | None = None
        #: Set once the partition is served or was refused for the first time.
        self.settled = asyncio.Event()
        self._config = config
        self._log = log
        self._relay = relay
        self._heartbeats = heartbeats
        self._clock = clock
        self._observer = observer
        self._commit_slots = commit_slots
        self._inbox: deque[tuple[int, bytes]] = deque()
        self._inbox_bytes = 0
        self._refill: deque[tuple[int, bytes]] = deque()
        self._read: deque[tuple[int, ReadRecord]] = deque()
        self._internal: deque[Command] = deque()
        self._seen_until = 0
        self._missing_since: float | None = None
        self._wake = asyncio.Event()
        self._stop_asked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._machine: Machine | None = None
        self._leases = Leases(heartbeats, clock, config.lease_seconds)
        self._last_lease_check = 0.0
        self._idle = IdleProbe(heartbeats, clock)
        self._failures = 0
        self._single_left = 0
        self._aside: dict[str, str] = {}
        self._gaps: dict[int, float] = {}
        self._gaps_told: list[int] = []
        self._last_error = ""

    # -- contract ------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to open the partition; does not wait until it is served."""
        self._task = asyncio.create_task(self._run(), name=f"owner-{self.partition}")

    async def stop(self) -> None:
        """End after the transaction under way, or in the middle of the opening; may be called twice."""
        self._stop_asked.set()
        self._wake.set()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def wait(self) -> None:
        """Return when the owner has ended; raise what it could not deal with."""
        if self._task is not None:
            await asyncio.shield(self._task)

    # -- fed by the app ------------------------------------------------------------------------------------------

    def offer(self, offset: int, value: bytes) -> None:
        """A record of `commands`. When too much waits it is dropped here and read from the log later."""
        if offset < self._seen_until:
            return
        behind = self._inbox[-1][0] + 1 if self._inbox else None
        contiguous = behind is None or behind == offset
        if contiguous and len(self._inbox) < MAX_INBOX_RECORDS and self._inbox_bytes < MAX_INBOX_BYTES:
            self._inbox.append((offset, value))
            self._inbox_bytes += len(value)
        self._seen_until = offset + 1
        self._wake.set()

    @property
    def next_offset(self) -> int | None:
        """The next command record this owner expects from its feed; None while it is opening."""
        if self._machine is None:
            return None
        return max(self._seen_until, self._machine.checkpoint.offset)

    @property
    def machine(self) -> Machine | None:
        """The memory of the partition, to look at; None while it is not served."""
        return self._machine if self.serving else None

    @property
    def trouble(self) -> str | None:
        """What keeps the partition from going on, for health: the last error when several came without a commit
        in between, or a gap in what another partition sends; None when all is well."""
        if self._failures >= TROUBLED_AFTER:
            return self._last_error
        overdue = self._overdue_gaps()
        if overdue:
            return f"commands of partition(s) {', '.join(map(str, overdue))} are missing: later ones wait for them"
        return None

    # -- the relay's side ----------------------------------------------------------------------------------------

    def unacknowledged(self) -> list[tuple[bytes, OutboxEntry]]:
        """Outbox entries that may not have arrived yet, in order."""
        return list(self._machine.outbox.items()) if self._machine else []

    def acknowledge(self, key: bytes) -> None:
        """An outbox entry has arrived."""
        if self._machine is not None:
            self._machine.acknowledge(key)

    # -- running -------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while not self._stop_asked.is_set():
            try:
                await self._open()
                await self._serve()
            except _StoppedError:
                break
            except _REFUSALS as error:
                self.refusal = str(error)
                self._observer.refused(self.partition, self.refusal)
                break
            except FencedError as error:
                self._observer.reopened(self.partition, "fenced", str(error))
                await self._forget()
                await self._pause(self._config.confirm_seconds)
            except ClockWrongError as error:
                self._observer.reopened(self.partition, "clock", str(error))
                await self._forget()
                await self._until_clock_is_right()
            except Exception as error:  # noqa: BLE001 - nothing is known after it: forget the memory, open anew
                reason = self._judge(error)
                self._observer.reopened(self.partition, reason, f"{type(error).__name__}: {error}")
                await self._forget()
                await self._pause(self._delay())
        await self._forget()
        self.settled.set()
        self._observer.closed(self.partition, "refused" if self.refusal else "stopped")

    def _judge(self, error: Exception) -> str:
        """Who is to blame: one command, which is set aside, or the environment, for which one can only wait.

        Counts towards the delay either way; only a commit starts it over.
        """
        self._failures += 1
        self._last_error = f"{type(error).__name__}: {error}"
        if not isinstance(error, UndecidedError):
            return "log"
        self._single_left = max(self._single_left, error.units)
        if error.culprit is not None and len(self._aside) < MAX_ASIDE:
            self._aside[error.culprit] = str(error)
        return "refused" if isinstance(error.__cause__, RefusedRecordError) else "decide"

    def _delay(self) -> float:
        """Seconds before the next try: 0.1, doubled with each failure since the last commit, at most 5."""
        return min(REOPEN_FIRST_SECONDS * 2.0 ** min(self._failures - 1, 16), REOPEN_MAX_SECONDS)

    async def _unless_stopped(self, opening: Coroutine[Any, Any, tuple[Machine, int]]) -> tuple[Machine, int]:
        """What the opening gives; a stop interrupts it, however long a broker keeps it waiting."""
        task, stopped = asyncio.ensure_future(opening), asyncio.ensure_future(self._stop_asked.wait())
        try:
            await asyncio.wait([task, stopped], return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise _StoppedError
            return task.result()
        finally:
            task.cancel()
            stopped.cancel()
            await asyncio.gather(task, stopped, return_exceptions=True)

    async def _pause(self, seconds: float) -> None:
        """Sleep, but not through a stop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop_asked.wait()

    async def _until_clock_is_right(self) -> None:
        while not self._stop_asked.is_set():
            try:
                self._clock.now_ms()
                return
            except ClockWrongError:
                await self._pause(CLOCK_CHECK_SECONDS)

    async def _forget(self) -> None:
        """Let go of producer and memory. What came in by the feed is read from the log again."""
        self.serving = False
        if self.opening_since is None:
            self.opening_since = self._clock.monotonic()
        if self._machine is not None:
            self._relay.unregister(self)
            self._machine.retained.close()
            self._machine = None
        self._inbox.clear()
        self._refill.clear()
        self._seen_until = 0
        self._missing_since = None
        self._read.clear()
        self._internal.clear()
        self._inbox_bytes = 0
        await self._log.close()

    async def _open(self) -> None:
        started = self._clock.monotonic()
        self._clock.now_ms()  # raises while the clock is wrong: nobody is fenced for an owner that cannot decide
        machine, commands_end = await self._unless_stopped(self._recover())
        # What is in the log already is read from there, wherever the feed begins.
        self._seen_until = max(self._seen_until, commands_end)
        machine.aside = self._aside
        self._machine = machine
        self._leases = Leases(self._heartbeats, self._clock, self._config.lease_seconds)
        self._idle.opened()
        self._relay.register(self)
        self.serving = True
        self.opening_since = None
        self.settled.set()
        self._observer.opened(self.partition, self._clock.monotonic() - started, machine.live)

    async def _recover(self) -> tuple[Machine, int]:
        """The partition as the log has it, checked, and the end of its commands."""
        config = self._config
        retained = await asyncio.to_thread(config.make_retained)
        try:
            latest = LatestState(retained)
            recovered = await self._log.open(latest.take)
            machine = await asyncio.to_thread(
                build, self.partition, config.cell, config.partitions, latest, config.limits
            )
            check_topics(machine.checkpoint, config.topic_ids(), accept_new=config.accept_new_topics)
            check_tail(self.partition, machine.checkpoint, recovered.last_event_seq)
            check_commands(self.partition, machine.checkpoint, recovered.commands_end)
            check_last_command(self.partition, machine.checkpoint, await self._last_command(machine.checkpoint))
        except BaseException:
            retained.close()
            raise
        return machine, recovered.commands_end

    async def _last_command(self, checkpoint: Checkpoint) -> list[tuple[int, bytes]]:
        """The record of the log that stands where the last decided one stood, if it is kept."""
        if checkpoint.offset == 0 or checkpoint.checksum is None:
            return []
        with contextlib.suppress(LostCommandError):
            return await self._log.commands_from(checkpoint.offset - 1, 1)
        return []

    async def _serve(self) -> None:
        machine = self._machine
        assert machine is not None
        while not self._stop_asked.is_set():
            await self._wait_for_work(machine)
            started = self._clock.monotonic()
            await self._collect(machine)
            self._check_leases(machine)
            self._check_gaps(machine)
            self._observer.turned(self.partition, self._clock.monotonic() - started)
            plan = self._decide(machine)
            if not plan.empty:
                await self._commit(machine, plan)
                self._idle.committed()
            elif self._idle.due():
                await self._probe(machine)

    async def _probe(self, machine: Machine) -> None:
        """Write the checkpoint as it is: an owner that could not commit any more finds out before a command comes."""
        value = encode_state(machine.checkpoint, machine.checkpoint.level)
        plan = Plan(machine.checkpoint.now_ms, machine.checkpoint, state={CHECKPOINT_KEY: value})
        async with self._commit_slots:
            await self._log.commit(plan)
        self._failures = 0
        self._idle.committed()

    async def _wait_for_work(self, machine: Machine) -> None:
        ready = self._inbox or self._refill or self._read or self._internal
        if ready or machine.unfinished or self._behind(machine):
            return
        due = machine.next_due_ms()
        wait = min(IDLE_TURN_SECONDS, LEASE_CHECK_SECONDS if machine.has_leased else IDLE_TURN_SECONDS)
        if due is not None:
            wait = min(wait, max(0.0, (due - machine.time_ms(self._clock.now_ms())) / 1000))
        if wait > 0:
            self._wake.clear()
            try:
                async with asyncio.timeout(wait):
                    await self._wake.wait()
            except TimeoutError:
                return

    def _behind(self, machine: Machine) -> bool:
        """Whether the feed has passed records that this owner did not take in."""
        return not self._read and not self._refill and self._seen_until > machine.checkpoint.offset

    async def _collect(self, machine: Machine) -> None:
        """Read the records that wait, and what the feed dropped, up to about a batch."""
        await self._read_waiting(machine)
        if self._read or self._seen_until <= machine.checkpoint.offset:
            return
        self._refill.extend(await self._log.commands_from(machine.checkpoint.offset, REFILL_RECORDS))
        await self._note_refill(found=bool(self._refill))
        if not self._refill:
            return
        self._seen_until = max(self._seen_until, self._refill[-1][0] + 1)
        await self._read_waiting(machine)

    async def _read_waiting(self, machine: Machine) -> None:
        """Decode what is here, in slices: others on the loop have their turn in between."""
        waiting = sum(len(record.commands) for _, record in self._read)
        slice_bytes = 0
        while waiting < machine.limits.commands and (following := self._next_record(machine)) is not None:
            offset, value = following
            record = take_record(value)
            self._read.append((offset, record))
            waiting += len(record.commands)
            slice_bytes += len(value)
            if slice_bytes >= SLICE_BYTES:
                slice_bytes = 0
                await asyncio.sleep(0)

    def _next_record(self, machine: Machine) -> tuple[int, bytes] | None:
        """The next record of the log that is here already; None: there is none, or it has to be read from the log."""
        expected = self._read[-1][0] + 1 if self._read else machine.checkpoint.offset
        while self._refill:
            offset, value = self._refill.popleft()
            if offset >= expected:
                return offset, value
        while self._inbox and self._inbox[0][0] <= expected:
            offset, value = self._inbox.popleft()
            self._inbox_bytes -= len(value)
            if offset == expected:
                return offset, value
        return None

    async def _note_refill(self, *, found: bool) -> None:
        """Records that somebody has told of may not be there yet: a new leader can be behind what the old one knew."""
        if found:
            self._missing_since = None
            return
        now = self._clock.monotonic()
        self._missing_since = self._missing_since or now
        if now - self._missing_since > MISSING_SECONDS:
            self._missing_since = None
            raise MissingCommandsError(f"Commands up to {self._seen_until - 1} are told of, but cannot be read.")
        await self._pause(REFILL_PAUSE_SECONDS)

    def _check_leases(self, machine: Machine) -> None:
        now = self._clock.monotonic()
        if machine.has_leased and now - self._last_lease_check >= LEASE_CHECK_SECONDS:
            self._last_lease_check = now
            if not self._internal:
                aside = machine.checkpoint.aside
                self._internal.extend(one for one in self._leases.expired(machine.leased()) if one.id not in aside)

    def _check_gaps(self, machine: Machine) -> None:
        """Tell of gaps that no repetition closes."""
        ahead = machine.checkpoint.ahead
        if not ahead and not self._gaps:
            return
        now = self._clock.monotonic()
        self._gaps = {source: self._gaps.get(source, now) for source in ahead}
        overdue = self._overdue_gaps()
        if overdue != self._gaps_told:
            self._gaps_told = overdue
            received = machine.checkpoint.received
            self._observer.gaps(self.partition, {s: (received.get(s, 0) + 1, ahead[s]) for s in overdue})

    def _overdue_gaps(self) -> list[int]:
        now = self._clock.monotonic()
        return sorted(source for source, since in self._gaps.items() if now - since >= GAP_SECONDS)

    def _decide(self, machine: Machine) -> Plan:
        deadline = self._clock.monotonic() + self._config.batch_seconds
        over_time: Callable[[], bool] = lambda: self._clock.monotonic() > deadline  # noqa: E731
        incoming = Incoming(self._read, self._internal)
        return machine.decide(self._clock.now_ms(), incoming, single=self._single_left > 0, over_time=over_time)

    async def _commit(self, machine: Machine, plan: Plan) -> None:
        started = self._clock.monotonic()
        async with self._commit_slots:
            try:
                await self._log.commit(plan)
            except RefusedRecordError as error:
                raise UndecidedError(str(error), plan.alone, plan.commands) from error
        self._failures = 0
        self._single_left = max(0, self._single_left - 1)
        if self._aside:
            self._aside = {unit: why for unit, why in self._aside.items() if unit not in plan.aside}
            machine.aside = self._aside
        machine.committed(plan)
        self._relay.send(self, [(entry.key, entry) for entry in plan.outbox])
        self._observer.committed(self.partition, plan, self._clock.monotonic() - started)

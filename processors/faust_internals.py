"""Every private name of Faust, mode and aiokafka that the scheduler touches, and the versions it knows them from.

No other file touches one. A test says what is not as it was when this was written.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import faust
import mode
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.consumer.group_coordinator import GroupCoordinator
from faust.tables.manager import TableManager
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode.threads import ServiceThread, WorkerThread

VERSIONS = {"faust-streaming": "0.15.3", "mode-streaming": "0.7.1", "aiokafka": "0.14.0"}
#: The private names, by the class that has them.
NAMES: Mapping[type, tuple[str, ...]] = {
    faust.App: ("_create_directories", "_consumer"),
    mode.Service: ("_children", "_stop_children"),
    TableManager: ("_update_channels",),
    driver.Consumer: ("_new_consumer_thread", "_commit", "_thread", "_read_offset", "_committed_offset"),
    ServiceThread: ("_thread",),
    driver.AIOKafkaConsumerThread: ("_consumer",),
    AIOKafkaConsumer: ("_coordinator", "_fetcher"),
    GroupCoordinator: (
        "_coordination_task",
        "_group_instance_id",
        "_closing",
        "_maybe_leave_group",
        "_do_heartbeat",
        "_do_rejoin_group",
    ),
    Fetcher: ("_fetch_task",),
}
#: How long leaving the group may take; then the end of the session does it.
LEAVE_SECONDS = 2.0
#: How long a clean end waits for the consumer's thread.
JOIN_SECONDS = 1.0


class _Worker(WorkerThread):
    """The thread of the consumer, which keeps neither this process alive nor its loop from turning."""

    def __init__(self, service: Any, **kwargs: Any) -> None:
        super().__init__(service, **kwargs)
        self.daemon = True

    def stop(self) -> None:
        """Wait a moment for the end; Faust's own waits for ever, and it waits in the loop."""
        if self.is_stopped.wait(JOIN_SECONDS):
            self.join(JOIN_SECONDS)


class _ConsumerThread(driver.AIOKafkaConsumerThread):
    Worker = _Worker
    #: When the group last said that this process is a member of it, in monotonic seconds; 0: never.
    heard_of_at = 0.0

    async def on_start(self) -> None:
        """Start, and note each answer of the group from then on."""
        await super().on_start()
        client: Any = self._consumer
        coordinator = client._coordinator
        coordinator._do_heartbeat = self._noted(coordinator._do_heartbeat)
        coordinator._do_rejoin_group = self._noted(coordinator._do_rejoin_group)

    def _noted(self, ask: Callable[..., Awaitable[bool]]) -> Callable[..., Awaitable[bool]]:
        async def asked(*args: Any) -> bool:
            answered = await ask(*args)
            if answered:
                self.heard_of_at = time.monotonic()
            return answered

        return asked


class CommandConsumer(driver.Consumer):
    """Faust's consumer without its offsets."""

    app: BareApp

    def _new_consumer_thread(self) -> driver.AIOKafkaConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """The owners' transactions carry the offsets; Faust believes that it has committed."""
        return True

    async def perform_seek(self) -> None:
        """Start each partition where its owner expects it, a new one at the group's offset."""
        committed = await self.seek_to_committed()
        offsets: dict[TP, int] = {}
        for tp in self.assignment():
            expected = self.app.next_offset(tp.partition)
            start = committed.get(tp) if expected is None else expected
            if start is not None and start >= 0:
                offsets[tp] = start
        if offsets:
            await self.seek_wait(offsets)
        for tp in self.assignment():
            start = offsets.get(tp)
            self._read_offset[tp] = start if start else None
            self._committed_offset[tp] = start if start else None


class CommandTransport(driver.Transport):
    """Faust's transport with this consumer."""

    Consumer = CommandConsumer


class _NoTables(TableManager):
    """Faust waits a second at each start for tables to be declared; there are none."""

    async def on_start(self) -> None:
        """What Faust does after that second."""
        await self._update_channels()
        await self.recovery.start()


class BareApp(faust.App):
    """A Faust app without offsets, tables and folders of its own.

    Set `next_offset`: where to read a partition from, None for where the group's offset is. `stop_child` stops one
    of the services of the app, the last one that was started first.
    """

    next_offset: Callable[[int], int | None] = staticmethod(lambda partition: None)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, TableManager=_NoTables, store="memory://", table_standby_replicas=0, **options)
        self.transport = CommandTransport(self.conf.broker, self, loop=None)

    def _create_directories(self) -> None:
        """Nothing to create: the working folder may be read-only."""

    async def _stop_children(self) -> None:
        for child in reversed(self._children):
            await self.stop_child(child)

    async def stop_child(self, child: Any) -> None:
        """Stop one service of the app; it may hang or raise."""
        await child.stop()


def ended_part(app: faust.App) -> str | None:
    """The part of Faust or of its Kafka client that does not run any more, though nothing else shows it."""
    consumer: Any = app.consumer
    thread = consumer._thread
    client = thread._consumer
    parts = {
        "Faust": app.should_stop,
        "Faust's consumer": consumer.should_stop or consumer.crashed,
        "The consumer's thread": not (thread._thread and thread._thread.is_alive()),
        "The membership in the group": _is_done(getattr(client, "_coordinator", None), "_coordination_task"),
        "The consumer's fetching": _is_done(getattr(client, "_fetcher", None), "_fetch_task"),
    }
    return next((name for name, ended in parts.items() if ended), None)


def session_age(app: faust.App) -> float | None:
    """Seconds since the group last said that this process is its member; None: it is none."""
    consumer: Any = app._consumer
    thread = getattr(consumer, "_thread", None)
    coordinator = getattr(getattr(thread, "_consumer", None), "_coordinator", None)
    if thread is None or coordinator is None or not thread.heard_of_at or coordinator.generation < 0:
        return None
    return max(0.0, time.monotonic() - float(thread.heard_of_at))


def _is_done(owner: Any, name: str) -> bool:
    task = getattr(owner, name, None)
    return task is not None and task.done()


async def leave_group(app: faust.App) -> None:
    """Say good-bye to the coordinator, which neither Faust nor aiokafka would do while a join is under way.

    Others then need not wait for the end of the session. Takes `LEAVE_SECONDS` at most.
    """
    consumer: Any = app._consumer
    thread = getattr(consumer, "_thread", None)
    coordinator = getattr(getattr(thread, "_consumer", None), "_coordinator", None)
    if thread is None or coordinator is None or not thread._thread.is_alive():
        return
    left = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_leave(coordinator), thread.thread_loop))
    await asyncio.wait([left], timeout=LEAVE_SECONDS)
    if left.done() and not left.cancelled():
        left.exception()  # the session's end does it
    left.cancel()


async def _leave(coordinator: Any) -> None:
    """In the consumer's thread. A static member says good-bye without its instance id only."""
    coordinator._group_instance_id = None
    if not coordinator._closing.done():
        coordinator._closing.set_result(None)
    await coordinator._maybe_leave_group()

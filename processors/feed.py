"""The Faust app that feeds the partition owners: group membership, assignment, and one agent that reads `commands`.

What Faust is not trusted with: offsets. It commits nothing, and where a partition is read from is decided by
its owner's checkpoint; an owner reads by itself whatever the feed skipped. See docs/explanation/log-protocol.md.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import faust
from faust.auth import SASLCredentials, SSLCredentials
from faust.tables.manager import TableManager
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode.threads import WorkerThread

from jobledger.processors.kafka_log import scheduler_group
from jobledger.schemas.topics import Topic, topic_name
from jobledger.settings import KafkaSettings

#: What a clean end may cost: to leave the group, then to stop Faust, then to see its thread end.
LEAVE_SECONDS = 2.0
STOP_SECONDS = 3.0
JOIN_SECONDS = 1.0
#: How often the parts of Faust are looked at, and how long it may be without an agent, as in a rebalance.
LOOK_SECONDS = 0.5
AGENT_SECONDS = 10.0

Offer = Callable[[int, int, bytes], None]
Assigned = Callable[[set[int]], Awaitable[None]]
NextOffset = Callable[[int], int | None]


@dataclass(frozen=True, kw_only=True)
class FeedConfig:
    """What the feed is told. `next_offset` gives the record that an owner expects next, None when unknown.

    With an `instance_id` it is a static member of the group: back in time, it finds its partitions unmoved. Only a
    name that was configured may be one: two members of one name take the partitions from each other for ever.
    """

    cell: str
    partitions: int
    client_id: str
    instance_id: str
    session_timeout_seconds: float
    kafka: KafkaSettings
    offer: Offer
    assigned: Assigned
    next_offset: NextOffset


class FeedBrokenError(RuntimeError):
    """A part of Faust has ended by itself: no more commands come in, whatever the rest of it looks like."""


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


class _Consumer(driver.Consumer):
    """Faust's consumer without its offsets."""

    feed: CommandFeed

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
            expected = self.feed.next_offset(tp.partition)
            start = committed.get(tp) if expected is None else expected
            if start is not None and start >= 0:
                offsets[tp] = start
        if offsets:
            await self.seek_wait(offsets)
        for tp in self.assignment():
            start = offsets.get(tp)
            self._read_offset[tp] = start if start else None
            self._committed_offset[tp] = start if start else None


class _App(faust.App):
    """A Faust app that leaves nothing on the disk: it has no tables, and the working folder may be read-only."""

    def _create_directories(self) -> None:
        """Nothing to create."""


class _NoTables(TableManager):
    """Faust waits a second at each start for tables to be declared; there are none."""

    async def on_start(self) -> None:
        """What Faust does after that second."""
        await self._update_channels()
        await self.recovery.start()


class CommandFeed:
    """Runs the Faust app inside this process's loop; start/stop contract of a service."""

    def __init__(self, config: FeedConfig) -> None:
        self._config = config
        self.app = self._build()
        self._ended: asyncio.Future[None] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._begun = False
        self._stopping = False
        self._agents = 0

    def next_offset(self, partition: int) -> int | None:
        """Where the owner of a partition wants to go on; None when it does not know yet."""
        return self._config.next_offset(partition)

    def _build(self) -> faust.App:
        config = self._config
        app = _App(
            scheduler_group(config.cell),
            broker=[f"kafka://{server}" for server in config.kafka.bootstrap_servers.split(",")],
            broker_credentials=_credentials(config.kafka),
            broker_client_id=config.client_id,
            broker_session_timeout=config.session_timeout_seconds,
            broker_heartbeat_interval=config.session_timeout_seconds / 4,
            broker_rebalance_timeout=max(config.session_timeout_seconds, 10.0),
            broker_request_timeout=max(config.session_timeout_seconds + 1, 30.0),
            broker_commit_interval=10.0,
            consumer_group_instance_id=config.instance_id or None,
            consumer_auto_offset_reset="earliest",
            topic_partitions=config.partitions,
            topic_allow_declare=False,
            topic_disable_leader=True,
            table_standby_replicas=0,
            key_serializer="raw",
            value_serializer="raw",
            store="memory://",
            TableManager=_NoTables,
            web_enabled=False,
            stream_wait_empty=False,
            stream_buffer_maxsize=1024,
            autodiscover=False,
        )
        consumer = type("JobledgerConsumer", (_Consumer,), {"feed": self})
        transport = type("JobledgerTransport", (driver.Transport,), {"Consumer": consumer})
        app.transport = transport(app.conf.broker, app, loop=None)
        topic = app.topic(topic_name(config.cell, Topic.COMMANDS), key_type=bytes, value_type=bytes)
        app.agent(topic, name="commands")(self._read)
        app.on_partitions_assigned.connect(self._on_assigned, weak=False)  # type: ignore[arg-type]
        return app

    async def _read(self, stream: Any) -> None:
        """The agent. Faust starts one anew that was cancelled in a rebalance; any other end is the feed's."""
        self._agents += 1
        try:
            async for event in stream.events():
                message = event.message
                self._config.offer(message.partition, message.offset, message.value or b"")
            self._fail(FeedBrokenError("The stream of commands has ended by itself."))
        except Exception as error:
            self._fail(error)
            raise
        finally:
            self._agents -= 1

    async def _on_assigned(self, app: faust.App, assigned: set[TP], **_: Any) -> None:
        """The group has settled. A partition that is kept keeps its owner; nothing is closed before this."""
        name = topic_name(self._config.cell, Topic.COMMANDS)
        await self._config.assigned({tp.partition for tp in assigned if tp.topic == name})

    async def start(self) -> None:
        """Join the group."""
        self._ended = asyncio.get_running_loop().create_future()
        self._begun = True
        await self.app.start()
        self._watch = asyncio.create_task(self._look(), name="faust-watch")

    async def _look(self) -> None:
        """End the feed when a part of Faust has ended that the rest goes on without."""
        agent_seen = time.monotonic()
        while not self._stopping:
            now = time.monotonic()
            if self._agents:
                agent_seen = now
            reason = self.app.crash_reason
            if reason is not None:
                self._fail(reason)
            elif (ended := self._ended_part()) is not None:
                self._fail(FeedBrokenError(f"{ended} has ended by itself."))
            elif now - agent_seen > AGENT_SECONDS:
                self._fail(FeedBrokenError(f"No agent has read commands for {AGENT_SECONDS:.0f} s."))
            await asyncio.sleep(LOOK_SECONDS)

    def _ended_part(self) -> str | None:
        """The part of Faust or of its Kafka client that does not run any more."""
        consumer: Any = self.app.consumer
        thread = consumer._thread
        client = thread._consumer
        coordinator = getattr(client, "_coordinator", None)
        parts = {
            "Faust": self.app.should_stop,
            "Faust's consumer": consumer.should_stop or consumer.crashed,
            "The consumer's thread": not (thread._thread and thread._thread.is_alive()),
            "The membership in the group": _is_done(coordinator, "_coordination_task"),
            "The consumer's fetching": _is_done(getattr(client, "_fetcher", None), "_fetch_task"),
        }
        return next((name for name, ended in parts.items() if ended), None)

    def _fail(self, error: BaseException) -> None:
        if not self._stopping and self._ended is not None and not self._ended.done():
            self._ended.set_exception(error)

    async def stop(self) -> None:
        """Leave the group at once, so that others need not wait for the session to end; may be called twice.

        May be called in the middle of `start()`. Takes a few seconds at most: a thread of Faust that is not
        done by then is left to itself.
        """
        if not self._begun:
            return
        self._begun = False
        self._stopping = True
        if self._watch is not None:
            self._watch.cancel()
        await self._leave_group()
        stopping = asyncio.ensure_future(self.app.stop())
        await asyncio.wait([stopping], timeout=STOP_SECONDS)
        stopping.cancel()
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    async def _leave_group(self) -> None:
        """Say good-bye to the coordinator, which neither Faust nor aiokafka would do while a join is under way."""
        consumer: Any = self.app._consumer
        thread = getattr(consumer, "_thread", None)
        coordinator = getattr(getattr(thread, "_consumer", None), "_coordinator", None)
        if thread is None or coordinator is None or not thread._thread.is_alive():
            return
        left = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_leave(coordinator), thread.thread_loop))
        await asyncio.wait([left], timeout=LEAVE_SECONDS)
        if left.done() and not left.cancelled():
            left.exception()  # the session's end does it
        left.cancel()

    async def wait(self) -> None:
        """Return when stopped; raise what ended Faust, or a part of it."""
        assert self._ended is not None
        await asyncio.shield(self._ended)


async def _leave(coordinator: Any) -> None:
    """In the consumer's thread. A static member says good-bye without its instance id only."""
    coordinator._group_instance_id = None
    if not coordinator._closing.done():
        coordinator._closing.set_result(None)
    await coordinator._maybe_leave_group()


def _is_done(owner: Any, name: str) -> bool:
    task = getattr(owner, name, None)
    return task is not None and task.done()


def _credentials(kafka: KafkaSettings) -> Any:
    if kafka.security_protocol == "PLAINTEXT":
        return None
    context = None
    if kafka.security_protocol.endswith("SSL"):
        context = ssl.create_default_context(cafile=kafka.ssl_ca_location or None)
        if kafka.ssl_certificate_location:
            context.load_cert_chain(
                kafka.ssl_certificate_location,
                kafka.ssl_key_location or None,
                kafka.ssl_key_password.get_secret_value() or None,
            )
    if not kafka.security_protocol.startswith("SASL"):
        return SSLCredentials(context)
    return SASLCredentials(
        username=kafka.sasl_username,
        password=kafka.sasl_password.get_secret_value(),
        mechanism=kafka.sasl_mechanism,
        ssl_context=context,
    )

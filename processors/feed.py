"""The Faust app that feeds the partition owners: group membership, assignment, and one agent that reads `commands`.

What Faust is not trusted with: offsets. It commits nothing, and where a partition is read from is decided by
its owner's checkpoint; an owner reads by itself whatever the feed skipped. See docs/explanation/log-protocol.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import faust
from faust.auth import SASLCredentials, SSLCredentials
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from jobledger.processors.kafka_log import scheduler_group
from jobledger.schemas.topics import Topic, topic_name
from jobledger.settings import KafkaSettings

Offer = Callable[[int, int, bytes], None]
Assigned = Callable[[set[int]], Awaitable[None]]
NextOffset = Callable[[int], int | None]


@dataclass(frozen=True, kw_only=True)
class FeedConfig:
    """What the feed is told. `next_offset` gives the record that an owner expects next, None when unknown."""

    cell: str
    partitions: int
    instance_id: str
    session_timeout_seconds: float
    kafka: KafkaSettings
    offer: Offer
    assigned: Assigned
    next_offset: NextOffset


class _Consumer(driver.Consumer):
    """Faust's consumer without its offsets."""

    feed: CommandFeed

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


class CommandFeed:
    """Runs the Faust app inside this process's loop; start/stop contract of a service."""

    def __init__(self, config: FeedConfig) -> None:
        self._config = config
        self.app = self._build()
        self._crashed: asyncio.Future[None] | None = None
        self._watch: asyncio.Task[None] | None = None

    def next_offset(self, partition: int) -> int | None:
        """Where the owner of a partition wants to go on; None when it does not know yet."""
        return self._config.next_offset(partition)

    def _build(self) -> faust.App:
        config = self._config
        app = _App(
            scheduler_group(config.cell),
            broker=[f"kafka://{server}" for server in config.kafka.bootstrap_servers.split(",")],
            broker_credentials=_credentials(config.kafka),
            broker_client_id=config.instance_id,
            broker_session_timeout=config.session_timeout_seconds,
            broker_heartbeat_interval=config.session_timeout_seconds / 4,
            broker_rebalance_timeout=max(config.session_timeout_seconds, 10.0),
            broker_request_timeout=max(config.session_timeout_seconds + 1, 30.0),
            broker_commit_interval=10.0,
            consumer_group_instance_id=config.instance_id,
            consumer_auto_offset_reset="earliest",
            topic_partitions=config.partitions,
            topic_allow_declare=False,
            topic_disable_leader=True,
            table_standby_replicas=0,
            key_serializer="raw",
            value_serializer="raw",
            store="memory://",
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
        async for event in stream.events():
            message = event.message
            self._config.offer(message.partition, message.offset, message.value or b"")

    async def _on_assigned(self, app: faust.App, assigned: set[TP], **_: Any) -> None:
        """The group has settled. A partition that is kept keeps its owner; nothing is closed before this."""
        name = topic_name(self._config.cell, Topic.COMMANDS)
        await self._config.assigned({tp.partition for tp in assigned if tp.topic == name})

    async def start(self) -> None:
        """Join the group."""
        self._crashed = asyncio.get_running_loop().create_future()
        await self.app.start()
        self._watch = asyncio.create_task(self._watch_crash(), name="faust-crash")

    async def _watch_crash(self) -> None:
        await self.app.wait_until_stopped()
        if self._crashed is not None and not self._crashed.done():
            reason = self.app.crash_reason or RuntimeError("Faust stopped by itself.")
            self._crashed.set_exception(reason)

    async def stop(self) -> None:
        """Leave the group at once, so that others need not wait for the session to end; may be called twice."""
        if self._watch is None:
            return
        self._watch.cancel()
        self._watch = None
        self._leave_as_dynamic_member()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                await self.app.stop()
        if self._crashed is not None and not self._crashed.done():
            self._crashed.set_result(None)

    def _leave_as_dynamic_member(self) -> None:
        """A static member does not say good-bye in aiokafka; without its instance id it does."""
        thread = getattr(self.app.consumer, "_thread", None)
        client = getattr(thread, "_consumer", None)
        coordinator = getattr(client, "_coordinator", None)
        if coordinator is not None:
            coordinator._group_instance_id = None

    async def wait(self) -> None:
        """Return when stopped; raise what crashed Faust."""
        assert self._crashed is not None
        await asyncio.shield(self._crashed)


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

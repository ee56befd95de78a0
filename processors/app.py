"""The Faust app of a scheduler: the topic it reads, the agent that reads it, the services around it, its sensor.

What Faust does here: membership in the group, assignment, fetching, and the tree of services. What it is not trusted
with: offsets. It commits nothing, and where a partition is read from is decided by its owner's checkpoint; an owner
reads by itself whatever the agent did not bring. See docs/explanation/scheduler.md.
"""

from __future__ import annotations

from typing import Any

import faust
from faust.types import TP

from jobledger.processors.broker_credentials import broker_credentials
from jobledger.processors.command_schema import CommandSchema
from jobledger.processors.feed import FeedWatch
from jobledger.processors.kafka_log import scheduler_group
from jobledger.processors.owners import OwnerSet
from jobledger.processors.scheduler_services import SchedulerServices
from jobledger.processors.sensor import FeedSensor
from jobledger.processors.services import AppService
from jobledger.processors.supervised_app import SupervisedApp
from jobledger.schemas.topics import Topic, topic_name
from jobledger.settings import Settings
from jobledger.telemetry.instance import instance_name
from jobledger.telemetry.metrics import Metrics


def create_app(settings: Settings, services: SchedulerServices, metrics: Metrics) -> SupervisedApp:
    """The app of a scheduler, not started yet; make it where a loop runs.

    With `instance_id` it is a static member of the group: back in time, it finds its partitions unmoved. Only a name
    that was configured may be one: two members of one name take the partitions from each other for ever.
    """
    kafka, session = settings.kafka, settings.session_timeout_seconds
    app = SupervisedApp(
        scheduler_group(settings.cell),
        broker=[f"kafka://{server}" for server in kafka.bootstrap_servers.split(",")],
        broker_credentials=broker_credentials(kafka),
        broker_client_id=instance_name("scheduler", settings.instance_id),
        broker_session_timeout=session,
        broker_heartbeat_interval=session / 4,
        broker_rebalance_timeout=max(session, 10.0),
        broker_request_timeout=max(session + 1, 30.0),
        broker_commit_interval=10.0,
        consumer_group_instance_id=settings.instance_id or None,
        consumer_auto_offset_reset="earliest",
        topic_partitions=settings.partitions,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        stream_wait_empty=False,
        stream_buffer_maxsize=1024,
        autodiscover=False,
        monitor=FeedSensor(metrics),
    )
    commands = app.topic(topic_name(settings.cell, Topic.COMMANDS), schema=CommandSchema())
    owners, watch = services.owners, FeedWatch(app)
    app.next_offset = owners.next_offset

    @app.agent(commands, name="commands")
    async def feed_owners(stream: Any) -> None:
        """Hand each record to the owner of its partition, which is that of the streams its commands are for."""
        with watch.reading():
            async for event in stream.events():
                message = event.message
                owners.offer(message.partition, message.offset, event.value)

    @app.on_partitions_assigned.connect(weak=False)
    async def change_owners(app: faust.App, assigned: set[TP], **_: Any) -> None:
        """The group has settled. A partition that is kept keeps its owner; nothing is closed before this."""
        await owners.assigned({tp.partition for tp in assigned if tp.topic in commands.topics})

    app.before_group += app.supervise(*services.before_group())
    app.in_group += app.supervise(watch, *services.in_group(), FirstTurn(owners))
    return app


class FirstTurn(AppService):
    """Last to start: the scheduler is ready when the group has settled and its partitions are served."""

    def __init__(self, owners: OwnerSet) -> None:
        super().__init__()
        self._owners = owners

    async def on_start(self) -> None:
        """Wait for the first assignment and its recoveries."""
        await self._owners.settle()

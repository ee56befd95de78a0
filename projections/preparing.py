"""What has to be there before a projector starts: the tables, which it makes, and the topics, which it waits for."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import stamina
from confluent_kafka import KafkaException

from jobledger.eventlog.topic_watch import topic_ids
from jobledger.eventlog.topics import Durability, TopicMissingError, check_topics
from jobledger.projections.migrate import migrate
from jobledger.schemas.topics import Topic
from jobledger.settings import Settings
from jobledger.telemetry.waiting import told_once

#: How long the start waits for Postgres, Kafka and the topics, which a scheduler makes.
START_SECONDS = 60.0


def prepare(settings: Settings, timeout: float = START_SECONDS) -> str:
    """Migrate the schema and check the topics; the id of the topic of events.

    Waits for servers and topics that aren't there yet.

    Raises MigrationError, TopicError, psycopg.Error or KafkaException, with a sentence that says what to do.
    """
    for attempt in _attempts(told_once("db_connection_lost", psycopg.OperationalError), timeout):
        with attempt:
            migrate(settings.postgres_dsn.get_secret_value(), settings.postgres_schema)
    durability = Durability(
        replication_factor=settings.kafka.replication_factor,
        min_insync_replicas=settings.kafka.min_insync_replicas,
        dev=settings.dev,
    )
    found: dict[str, str] = {}
    kafka_lost = told_once("queue_connection_lost", KafkaException)
    for attempt in _attempts(lambda error: kafka_lost(error) or isinstance(error, TopicMissingError), timeout):
        with attempt:
            check_topics(settings.kafka.client_config(), settings.cell, settings.partitions, durability)
            found = topic_ids(settings.kafka.client_config(), settings.cell)
    return found[Topic.EVENTS]


def _attempts(on: Callable[[Exception], bool], timeout: float) -> Iterator[stamina.Attempt]:
    return iter(stamina.retry_context(on=on, attempts=None, timeout=timeout, wait_initial=0.1, wait_max=2.0))

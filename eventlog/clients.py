"""Configurations of the Kafka clients. Every producer: acks=all and idempotent."""

from __future__ import annotations

import logging
from typing import Protocol

from confluent_kafka import KafkaError

from jobledger.schemas.limits import MAX_MESSAGE_BYTES

ClientConfig = dict[str, str | int | float | bool]

KAFKA_LOG = logging.getLogger("librdkafka")
"""Takes the lines of librdkafka, of each client that is given it; they come out when the client is polled."""
KAFKA_LOG.setLevel(logging.WARNING)

#: A broker that is back is found within a second; by default a client waits up to ten for its next try.
RECONNECT_MAX_MS = 1_000
#: Up to syslog's INFO: what of it comes out is for the level of `KAFKA_LOG` to say.
LOG_LEVEL = 6


class KafkaConnection(Protocol):
    """What this package needs to know of the settings."""

    def client_config(self) -> ClientConfig:
        """The part of a librdkafka configuration that says where the cluster is and how to enter it."""


def look_up_config(config: ClientConfig) -> ClientConfig:
    """A consumer like that of `config`, for a few records here and there: it fetches little ahead and waits shortly."""
    return {**config, "queued.max.messages.kbytes": 1024, "fetch.wait.max.ms": 50}


def producer_config(kafka: KafkaConnection, client_id: str) -> ClientConfig:
    """A plain idempotent producer that never gives up on a record by itself (no message time-out)."""
    return {
        **kafka.client_config(),
        "client.id": client_id,
        "acks": "all",
        "enable.idempotence": True,
        "message.timeout.ms": 0,
        "reconnect.backoff.max.ms": RECONNECT_MAX_MS,
        "linger.ms": 0,
        "message.max.bytes": MAX_MESSAGE_BYTES,
        "queue.buffering.max.messages": 100_000,
        "queue.buffering.max.kbytes": 262_144,
        "log_level": LOG_LEVEL,
    }


def transactional_config(kafka: KafkaConnection, client_id: str, transactional_id: str) -> ClientConfig:
    """The producer of a partition owner. The broker ends a transaction that stalls for 10 s."""
    return {
        **kafka.client_config(),
        "client.id": client_id,
        "acks": "all",
        "transactional.id": transactional_id,
        "transaction.timeout.ms": 10_000,
        "reconnect.backoff.max.ms": RECONNECT_MAX_MS,
        "linger.ms": 1,
        "message.max.bytes": MAX_MESSAGE_BYTES,
        "queue.buffering.max.messages": 100_000,
        "log_level": LOG_LEVEL,
    }


def consumer_config(kafka: KafkaConnection, client_id: str, group: str) -> ClientConfig:
    """A consumer of committed records that commits nothing by itself and reports the end of a partition."""
    return {
        **kafka.client_config(),
        "client.id": client_id,
        "group.id": group,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        "reconnect.backoff.max.ms": RECONNECT_MAX_MS,
        "fetch.wait.max.ms": 500,
        "fetch.error.backoff.ms": 50,
        "fetch.queue.backoff.ms": 5,
        "queued.max.messages.kbytes": 32_768,
        "log_level": LOG_LEVEL,
    }


def is_fatal(error: KafkaError) -> bool:
    """Whether the client that gives this error is of no use any more.

    The flag is set in the error by which it happened; later ones say `_FATAL` alone.
    """
    return error.fatal() or error.code() == KafkaError._FATAL

"""Asks the cluster the question that counts: a record is written, and read back."""

from __future__ import annotations

import asyncio
import time
import uuid

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from jobledger.eventlog.clients import KafkaConnection, consumer_config, look_up_config, producer_config
from jobledger.eventlog.partitions import PartitionReader
from jobledger.schemas.topics import Topic, topic_name
from jobledger.telemetry.health import Checked, HealthStatus


class QueueProbe:
    """A check for health: produces a record on the cell's topic of probes and consumes it.

    Its clients live for one probe, so that between probes it costs nothing. They are connected before the time is
    taken, which is that of produce and consume alone. Raises KafkaException when no answer comes within `seconds`.
    """

    def __init__(self, kafka: KafkaConnection, cell: str, instance: str, seconds: float) -> None:
        self._topic = topic_name(cell, Topic.PROBES)
        self._instance = instance
        self._seconds = seconds
        client = f"{instance}-probe"
        self._reading = {**look_up_config(consumer_config(kafka, client, f"{cell}-probe")), "log_level": 0}
        self._writing = {
            **producer_config(kafka, client),
            "message.timeout.ms": max(1, round(seconds * 1000)),
            # A client that lives for one record would wait for its id now and then, for half a second.
            "enable.idempotence": False,
            "log_level": 0,
        }

    async def __call__(self) -> Checked:
        """Probe once, in a thread."""
        try:
            return Checked(seconds=await asyncio.to_thread(self._round_trip))
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise
            # The cluster has answered; schedulers of the release before make no such topic.
            missing = f"Topic '{self._topic}' does not exist; a scheduler of this release makes it at its start."
            return Checked(HealthStatus.DEGRADED, {"error": missing})

    def _round_trip(self) -> float:
        """Seconds from the producing of a record until it was read."""
        deadline = time.monotonic() + self._seconds
        with PartitionReader(self._reading) as reader:
            reader.partitions(self._topic, self._seconds)
            reader.bounds(self._topic, 0, _left(deadline))
            producer = Producer(self._writing)
            producer.list_topics(self._topic, timeout=_left(deadline))
            value = f"{self._instance} {uuid.uuid4()}".encode()
            began = time.monotonic()
            offset = _produce(producer, self._topic, value, deadline)
            found = reader.first_record(self._topic, 0, offset, _left(deadline))
            took = time.monotonic() - began
        if found is None or found.value() != value:
            raise KafkaException(KafkaError(KafkaError._FAIL, f"{self._topic} [0] {offset} is not what was written"))
        return took


def _left(deadline: float) -> float:
    return max(deadline - time.monotonic(), 0.001)


def _produce(producer: Producer, topic: str, value: bytes, deadline: float) -> int:
    """The offset of the record, once the cluster has it."""
    delivered: list[tuple[KafkaError | None, int]] = []

    def note(error: KafkaError | None, message: Message) -> None:
        delivered.append((error, message.offset() or 0))

    producer.produce(topic, value, partition=0, on_delivery=note)
    producer.flush(_left(deadline))
    if not delivered:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"{topic} does not take a record"))
    error, offset = delivered[0]
    if error is not None:
        raise KafkaException(error)
    return offset

from __future__ import annotations

import uuid

import pytest
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.partitioner import murmur2 as aiokafka_murmur2
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from jobledger.domain.identity import (
    derived_id,
    execution_id,
    job_stream,
    key_stream,
    murmur2,
    partition_of,
    queue_stream,
    split_stream,
    tenant_stream,
)

#: From the tests of Kafka's Java client, as signed 32 bit numbers.
JAVA = {
    "21": -973932308,
    "foobar": -790332482,
    "a-little-bit-long-string": -985981536,
    "a-little-bit-longer-string": -1486304829,
    "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    "abc": 479470107,
}
STREAMS = [job_stream("default", str(uuid.uuid5(uuid.NAMESPACE_OID, str(n)))) for n in range(1000)]
PARTITIONS = 16


@pytest.mark.parametrize("text", JAVA)
def test_murmur2_is_that_of_the_java_client(text: str) -> None:
    value = murmur2(text.encode())
    assert (value - 2**32 if value >= 2**31 else value) == JAVA[text]


def test_stream_ids_land_where_aiokafka_puts_them() -> None:
    """A thousand stream ids: the same hash, and the same partition out of 16."""
    partitions = list(range(PARTITIONS))
    for stream in STREAMS:
        key = stream.encode()
        assert murmur2(key) == aiokafka_murmur2(key) & 0xFFFFFFFF
        assert partition_of(stream, PARTITIONS) == DefaultPartitioner()(key, partitions, partitions)


@pytest.mark.kafka
def test_stream_ids_land_where_librdkafka_puts_them(bootstrap_servers: str, cell: str) -> None:
    """The same ids, produced by key with librdkafka's `murmur2_random`, are read back from the partitions we say."""
    topic = f"{cell}.murmur2"
    config = {"bootstrap.servers": bootstrap_servers}
    admin = AdminClient(config)
    admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(20)
    producer = Producer({**config, "partitioner": "murmur2_random"})
    for stream in STREAMS:
        producer.produce(topic, key=stream, value=b"")
    assert producer.flush(30) == 0
    consumer = Consumer({**config, "group.id": cell, "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
    found: dict[str, int] = {}
    try:
        while len(found) < len(STREAMS):
            messages = consumer.consume(500, timeout=10)
            assert messages, f"only {len(found)} records came back"
            for message in messages:
                assert message.error() is None
                found[(message.key() or b"").decode()] = message.partition() or 0
    finally:
        consumer.close()
    assert found == {stream: partition_of(stream, PARTITIONS) for stream in STREAMS}


def test_names_of_streams() -> None:
    """Type and tenant stand in every id and can be read back; the name may hold colons."""
    assert split_stream(job_stream("t", "1")) == ("job", "t", "1")
    assert split_stream(queue_stream("t", "a:b")) == ("queue", "t", "a:b")
    assert split_stream(tenant_stream("t")) == ("tenant", "t", "t")
    assert split_stream(key_stream("t", "ff")) == ("key", "t", "ff")
    with pytest.raises(ValueError, match="not enough values"):
        split_stream("job:t")


def test_derived_ids_follow_from_their_parts() -> None:
    assert execution_id("j", "main", 1) == execution_id("j", "main", 1) != execution_id("j", "main", 2)
    assert derived_id("a", 1) == derived_id("a", 1) != derived_id("a", 2)
    assert uuid.UUID(execution_id("j", "main", 1)).version == 5
    assert execution_id("job:default:0199", "main", 1) == "e881619f-3d5a-538d-80a5-1509e4d8d216"

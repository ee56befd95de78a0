"""What is shown of the log below each queue, and that what nobody has said is not shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from confluent_kafka.admin import PartitionMetadata
from memory_owner import NOW, Decider, credits, job, submit

from jobledger.domain.identity import queue_stream
from jobledger.processors.clock import SystemClock
from jobledger.processors.cluster_view import Seen, bytes_behind
from jobledger.processors.gauges import Gauges
from jobledger.processors.log_gauges import LogGauges
from jobledger.telemetry.metrics import Metrics

GROUP = "c-scheduler"
NOTHING = Seen({}, {}, {})


class Told:
    """A cluster that says what it is told to."""

    def __init__(self) -> None:
        self.seen = NOTHING
        self.asked: list[int] = []

    async def look(self, partitions: Sequence[int]) -> Seen:
        self.asked = list(partitions)
        return self.seen

    def close(self) -> None:
        pass


def _decider(*queues: str) -> Decider:
    one = Decider()
    one.feed(*(credits(queue, 1, incarnation=queue) for queue in queues))
    one.settle()
    return one


def _value(metrics: Metrics, name: str, queue: str, **labels: Any) -> float | None:
    return metrics.registry.get_sample_value(name, {"queue_name": queue, **labels})


async def test_what_the_cluster_says_of_a_partition_is_shown_for_its_queues() -> None:
    """And no more once it is silent, or the partition has gone."""
    one, metrics, cluster = _decider(queue_stream("default", "mail")), Metrics("scheduler", instance_id="t"), Told()
    machines = {3: one.machine}
    gauges = LogGauges(cluster, GROUP, lambda: machines, metrics)
    cluster.seen = Seen({3: one.machine.checkpoint.offset + 7}, {3: True}, {3: 4096})
    await gauges.look()
    assert cluster.asked == [3]
    assert _value(metrics, "queue_consumer_lag_messages", "mail", consumer_group=GROUP) == 7
    assert _value(metrics, "queue_partitions_healthy", "mail") == 1
    assert _value(metrics, "queue_replication_lag_bytes", "mail") == 4096
    cluster.seen = Seen({3: one.machine.checkpoint.offset}, {3: False}, {})
    await gauges.look()
    assert _value(metrics, "queue_consumer_lag_messages", "mail", consumer_group=GROUP) == 0
    assert _value(metrics, "queue_partitions_healthy", "mail") == 0
    assert _value(metrics, "queue_replication_lag_bytes", "mail") is None
    machines.clear()
    await gauges.look()
    assert _value(metrics, "queue_consumer_lag_messages", "mail", consumer_group=GROUP) is None
    assert _value(metrics, "queue_partitions_healthy", "mail") is None


async def test_queues_of_one_name_of_two_tenants_share_their_series() -> None:
    """The label names no tenant: what one of them has must not hide what the other has."""
    streams = [queue_stream(tenant, "mail") for tenant in ("one", "two")]
    one, metrics, cluster = _decider(*streams), Metrics("scheduler", instance_id="t", strict=True), Told()
    other = _decider(streams[0])
    offset = other.machine.checkpoint.offset
    cluster.seen = Seen({0: 1 + one.machine.checkpoint.offset, 1: 5 + offset}, {0: True, 1: True}, {0: 9, 1: 3})
    await LogGauges(cluster, GROUP, lambda: {0: one.machine, 1: other.machine}, metrics).look()
    assert _value(metrics, "queue_consumer_lag_messages", "mail", consumer_group=GROUP) == 5
    assert _value(metrics, "queue_partitions_healthy", "mail") == 3
    assert _value(metrics, "queue_replication_lag_bytes", "mail") == 9


def test_depth_and_age_are_those_of_all_queues_of_a_name() -> None:
    one = Decider()
    for tenant, count in (("one", 2), ("two", 3)):
        stream = queue_stream(tenant, "mail")
        one.feed(credits(stream, 0, incarnation=tenant))
        names = [job(f"{tenant}{number}").replace(":default:", f":{tenant}:") for number in range(count)]
        one.feed(*(submit(name, queue="mail", priority=2) for name in names))
    one.settle()
    metrics, clock = Metrics("scheduler", instance_id="t", strict=True), SystemClock()
    clock.now_ms = lambda: NOW + 4_000  # type: ignore[method-assign]
    Gauges(lambda: {0: one.machine}, metrics, clock).look()
    assert _value(metrics, "queue_depth", "mail", partition="0") == 5
    assert _value(metrics, "queue_depth_by_priority", "mail", priority="2") == 5
    assert _value(metrics, "queue_message_age_seconds", "mail") == 4


def _partition(leader: int, *replicas: int) -> PartitionMetadata:
    found = PartitionMetadata()
    found.leader, found.replicas = leader, list(replicas)
    return found


def test_a_replica_is_behind_by_what_it_lacks_of_its_leader_and_unknown_ones_give_no_number() -> None:
    place = ("c.events", 0)
    three = _partition(1, 1, 2, 3)
    assert bytes_behind(three, {place: {1: 500, 2: 480, 3: 500}}, place) == 20
    assert bytes_behind(three, {place: {1: 500, 2: 510, 3: 500}}, place) == 0
    assert bytes_behind(_partition(1, 1), {place: {1: 500}}, place) == 0
    assert bytes_behind(three, {place: {1: 500, 2: 480}}, place) is None
    assert bytes_behind(three, {}, place) is None
    assert bytes_behind(_partition(-1, 1), {place: {1: 500}}, place) is None
    assert bytes_behind(None, {place: {1: 500}}, place) is None

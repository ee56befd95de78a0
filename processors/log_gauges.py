"""Gauges of the log below each queue: what waits there undecided, whether it is well, how far replicas are behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from jobledger.domain.identity import split_stream
from jobledger.processors.cluster_view import Seen
from jobledger.processors.core.machine import Machine
from jobledger.telemetry.metrics import Metrics
from jobledger.telemetry.service import TaskService

LOOK_SECONDS = 10.0
LAG, HEALTHY, BEHIND = "queue_consumer_lag_messages", "queue_partitions_healthy", "queue_replication_lag_bytes"


class Cluster(Protocol):
    """Who tells of partitions; see ClusterView."""

    async def look(self, partitions: Sequence[int]) -> Seen:
        """What is said of them now."""

    def close(self) -> None:
        """Let go of what it asks with."""


class LogGauges(TaskService):
    """Asks the cluster every few seconds about the partitions that this process serves.

    What is not said has no series until it is. Two tenants may have queues of one name: the gauges show the worse lag
    of them, and the healthy shards of both.
    """

    name = "log-gauges"

    def __init__(
        self, cluster: Cluster, group: str, machines: Callable[[], Mapping[int, Machine]], metrics: Metrics
    ) -> None:
        self._cluster = cluster
        self._group = group
        self._machines = machines
        self._metrics = metrics
        self._shown: set[tuple[str, str]] = set()

    async def start(self) -> None:
        """Begin to look."""
        self._begin(self._run(), self.name)

    async def stop(self) -> None:
        """Look no more."""
        await super().stop()
        self._cluster.close()

    async def _run(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Ask once, and set every gauge that there is an answer for."""
        seen = await self._cluster.look(sorted(self._machines()))
        values: dict[tuple[str, str], int] = {}
        for partition, machine in self._machines().items():  # as it is after the answer
            for stream in machine.streams["queue"]:
                name = split_stream(stream)[2]
                if partition in seen.ends:
                    lag = max(0, seen.ends[partition] - machine.checkpoint.offset)
                    values[LAG, name] = max(values.get((LAG, name), 0), lag)
                if partition in seen.healthy:
                    values[HEALTHY, name] = values.get((HEALTHY, name), 0) + seen.healthy[partition]
                if partition in seen.behind:
                    values[BEHIND, name] = max(values.get((BEHIND, name), 0), seen.behind[partition])
        for (metric, name), value in values.items():
            group = {"consumer_group": self._group} if metric == LAG else {}
            self._metrics.set(metric, value, queue_name=name, **group)
        for metric, name in self._shown - values.keys():
            self._metrics.drop_matching((metric,), queue_name=name)
        self._shown = set(values)

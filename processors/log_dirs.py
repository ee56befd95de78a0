"""How large each replica of a partition is, as the brokers' log directories say: the one request that
confluent-kafka and aiokafka both lack (DescribeLogDirs), sent over a connection of aiokafka."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka.conn import create_conn
from aiokafka.errors import KafkaError
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int16, Int32, Int64, Schema, String
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth

from jobledger.processors.broker_credentials import broker_credentials
from jobledger.settings import KafkaSettings

REQUEST_SECONDS = 5.0
#: Topic and partition.
Place = tuple[str, int]
#: Bytes by broker, by place.
Sizes = dict[Place, dict[int, int]]


class LogDirsUnreadableError(RuntimeError):
    """A broker did not say how large its logs are."""


class _Response(Response):  # type: ignore[misc]
    API_KEY = 35
    API_VERSION = 1
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "results",
            Array(
                ("error_code", Int16),
                ("log_dir", String("utf-8")),
                (
                    "topics",
                    Array(
                        ("name", String("utf-8")),
                        (
                            "partitions",
                            Array(
                                ("partition_index", Int32),
                                ("partition_size", Int64),
                                ("offset_lag", Int64),
                                ("is_future_key", Boolean),
                            ),
                        ),
                    ),
                ),
            ),
        ),
    )


class _RequestV1(RequestStruct):  # type: ignore[misc]
    API_KEY = 35
    API_VERSION = 1
    RESPONSE_TYPE = _Response
    SCHEMA = Schema(("topics", Array(("topic", String("utf-8")), ("partitions", Array(Int32)))))


class _DescribeLogDirs(Request[_RequestV1]):  # type: ignore[misc]
    API_KEY = 35

    def __init__(self, topics: list[tuple[str, list[int]]]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[_RequestV1]) -> _RequestV1:
        return request_struct_class(self._topics)


def who_asks(kafka: KafkaSettings, client_id: str) -> Mapping[str, Any]:
    """What a connection is made with. To be kept: it may read the certificates of all authorities."""
    return {"client_id": client_id, **credentials_to_aiokafka_auth(broker_credentials(kafka))}


async def replica_sizes(
    asker: Mapping[str, Any], brokers: Mapping[int, tuple[str, int]], places: Iterable[Place]
) -> Sizes:
    """Bytes of each replica of the places; `brokers`: host and port by id. Raises LogDirsUnreadableError."""
    wanted: dict[str, list[int]] = {}
    for topic, partition in places:
        wanted.setdefault(topic, []).append(partition)
    request = _DescribeLogDirs(list(wanted.items()))
    try:
        answers = await asyncio.gather(*(_ask(asker, address, request) for address in brokers.values()))
    except (OSError, KafkaError, TimeoutError, NotImplementedError) as error:
        raise LogDirsUnreadableError(f"{type(error).__name__}: {error}") from error
    sizes: Sizes = {}
    for broker, answer in zip(brokers, answers, strict=True):
        for _, topic, partition, size in _replicas(answer):
            sizes.setdefault((topic, partition), {})[broker] = size
    return sizes


async def _ask(asker: Mapping[str, Any], address: tuple[str, int], request: _DescribeLogDirs) -> Any:
    async with asyncio.timeout(REQUEST_SECONDS):
        connection = await create_conn(*address, request_timeout_ms=int(REQUEST_SECONDS * 1000), **asker)
        try:
            return await connection.send(request)
        finally:
            with contextlib.suppress(Exception):
                connection.close()


def _replicas(answer: Any) -> Iterable[tuple[str, str, int, int]]:
    """Directory, topic, partition and bytes of each replica; one that is being moved is not where it belongs yet."""
    for error, directory, topics in answer.results:
        if error:
            raise LogDirsUnreadableError(f"Log directory '{directory}' can't be read: error {error}.")
        for topic, partitions in topics:
            for partition, size, _, future in partitions:
                if not future:
                    yield directory, topic, partition, size

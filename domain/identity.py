"""Names of streams, the partition a stream lives on, and ids that follow from other ids."""

from __future__ import annotations

import re
import struct
from functools import lru_cache
from uuid import UUID, uuid5

_MASK_32 = 0xFFFFFFFF
_MULTIPLIER = 0x5BD1E995
_SEED = 0x9747B28C

#: Namespace of every id that is derived (RFC 9562, version 5).
DERIVED_IDS = UUID("6f1d1d2c-6f5b-5c0a-9f4e-2d1c7e0b5a41")


#: What a queue may be called: keys of `state` are parted by "|", stream ids by ":".
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def is_name(text: str) -> bool:
    """Whether `text` can stand as a name in a stream id."""
    return _NAME.fullmatch(text) is not None


def murmur2(data: bytes) -> int:
    """The unsigned 32 bit murmur2 of `data`, as in Kafka's Java client (org.apache.kafka.common.utils.Utils)."""
    length = len(data)
    h = (_SEED ^ length) & _MASK_32
    words = length // 4
    for k in struct.unpack_from(f"<{words}I", data):
        mixed = (k * _MULTIPLIER) & _MASK_32
        mixed = ((mixed ^ (mixed >> 24)) * _MULTIPLIER) & _MASK_32
        h = ((h * _MULTIPLIER) & _MASK_32) ^ mixed
    tail = data[words * 4 :]
    if tail:
        h = ((h ^ int.from_bytes(tail, "little")) * _MULTIPLIER) & _MASK_32
    h = ((h ^ (h >> 13)) * _MULTIPLIER) & _MASK_32
    return h ^ (h >> 15)


@lru_cache(maxsize=8_192)
def partition_of(name: str, partitions: int) -> int:
    """The partition (0 … partitions-1) of a stream or worker id: Kafka's toPositive(murmur2) mod partitions."""
    return (murmur2(name.encode()) & 0x7FFFFFFF) % partitions


def job_stream(tenant: str, job_id: str) -> str:
    """Stream id of a job."""
    return f"job:{tenant}:{job_id}"


def queue_stream(tenant: str, name: str) -> str:
    """Stream id of a queue."""
    return f"queue:{tenant}:{name}"


def tenant_stream(tenant: str) -> str:
    """Stream id of a tenant."""
    return f"tenant:{tenant}:{tenant}"


def key_stream(tenant: str, digest: str) -> str:
    """The name whose partition holds an idempotency key; jobs with that key are minted onto the same one."""
    return f"key:{tenant}:{digest}"


def split_stream(stream: str) -> tuple[str, str, str]:
    """(type, tenant, name) of a stream id; raises ValueError when it has another form."""
    kind, tenant, name = stream.split(":", 2)
    return kind, tenant, name


def execution_id(job: str, task: str, run: int) -> str:
    """The id of one execution of a task, the same over all its attempts: uuid5(job, task, run)."""
    return str(uuid5(DERIVED_IDS, f"{job}/{task}/{run}"))


def derived_id(*parts: object) -> str:
    """A command id that follows from what caused it, so that doing it twice is one command."""
    return str(uuid5(DERIVED_IDS, "/".join(map(str, parts))))


#: Before this (2020-01-01) an id's time is no time, but digits that somebody chose.
_FIRST_PLAUSIBLE_MS = 1_577_836_800_000


def minted_ms(name: str) -> int | None:
    """When an id was made, in ms since the epoch, as a UUIDv7 tells; None for a name that doesn't tell."""
    if len(name) != 36 or name[14] != "7":
        return None
    try:
        at = int(name[:8] + name[9:13], 16)
    except ValueError:
        return None
    return at if at >= _FIRST_PLAUSIBLE_MS else None

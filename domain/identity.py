"""Names of streams, the partition a stream lives on, and ids that follow from other ids."""

from __future__ import annotations

import re
import struct
from functools import lru_cache
from itertools import count
from uuid import UUID, uuid5

from jobledger.domain.values import Code, Rejection

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


def invalid_name(field: str, value: str) -> Rejection:
    """The rejection of a name that cannot stand in a stream id."""
    return Rejection(
        code=Code.INVALID,
        message="Expected a name of 1 to 100 letters, digits, '_', '.' or '-' that begins with a letter or digit, "
        f"but got '{value[:120]}'.",
        field=field,
        value=value[:120],
    )


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


def cell_stream(partition: int, partitions: int) -> str:
    """Stream id of the cell itself on one of its partitions: the first that lives there."""
    return next(name for n in count() if partition_of(name := f"cell:system:{n}", partitions) == partition)


def key_stream(tenant: str, digest: str) -> str:
    """The name whose partition holds an idempotency key; jobs with that key are minted onto the same one."""
    return f"key:{tenant}:{digest}"


def split_stream(stream: str) -> tuple[str, str, str]:
    """(type, tenant, name) of a stream id; raises ValueError when it has another form."""
    kind, tenant, name = stream.split(":", 2)
    return kind, tenant, name


@lru_cache(maxsize=8_192)  # asked for at each hand-out, start and end of a task
def execution_id(job: str, task: str, run: int) -> str:
    """The id of one execution of a task, the same over all its attempts: uuid5(job, task, run)."""
    return str(uuid5(DERIVED_IDS, f"{job}/{task}/{run}"))


def derived_id(*parts: object) -> str:
    """A command id that follows from what caused it, so that doing it twice is one command."""
    return str(uuid5(DERIVED_IDS, "/".join(map(str, parts))))


#: How far the time in the id of a new job may lie ahead: clocks differ.
ID_AHEAD_MS = 300_000
_TIMED = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-([78])[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def minted_ms(name: str) -> int | None:
    """When an id was made, in ms since the epoch, as a UUIDv7 or an id of `derived_job_id` tells; None for any other.

    Ids have one spelling, lower case with hyphens: another one would be another stream.
    """
    return int(name[:8] + name[9:13], 16) if _TIMED.fullmatch(name) else None


def derived_job_id(decided_at_ms: int, *cause: object) -> str:
    """The id of a job that follows from a decision of the product: a fire of a schedule, a child of a workflow.

    A UUIDv8 (RFC 9562, 5.8): 48 bits of the time of the decision, then a hash of what caused it. The same decision
    gives the same id; nobody else can, since only the system's own commands may begin a job under a UUIDv8.
    """
    rest = uuid5(DERIVED_IDS, "/".join(map(str, (decided_at_ms, *cause)))).int & ((1 << 80) - 1)
    rest &= ~(0xF << 76) & ~(0x3 << 62)
    return str(UUID(int=decided_at_ms << 80 | 0x8 << 76 | 0x2 << 62 | rest))


def fault_of_new_job_id(name: str, now_ms: int, window_ms: int | None = None, *, by_system: bool = False) -> str | None:
    """Why no job can begin under this id, as a sentence; None: it can.

    Stubs of ended jobs are kept for `window_ms` after an id was made or its job ended, whichever is later. So an id
    that tells a time within it has a stub if it had a job, and any other may have had one that nothing tells of: the
    stream would begin twice. `window_ms` None looks ahead only. An id that the system derived comes
    through an outbox, which delivers once however long it takes, so it has no lower bound.
    """
    at = minted_ms(name)
    if at is None or (name[14] == "8" and not by_system):
        return f"Expected a UUIDv7 as the id of a new job, but got '{name[:120]}'; make one with a UUIDv7 library."
    if at > now_ms + ID_AHEAD_MS:
        return (
            f"Expected an id made by now, but '{name}' says that it was made {(at - now_ms) / 1000:,.0f} s from now; "
            f"check the clock of the machine that made it."
        )
    if window_ms is None or by_system or at + window_ms > now_ms:
        return None
    return (
        f"Expected an id made within the last {window_ms / 1000:,.0f} s, as long as repeats are recognised, "
        f"but '{name}' is older; look whether that job exists, and submit under a new id if it does not."
    )

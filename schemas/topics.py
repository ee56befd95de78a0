"""The topic table: every topic, its partitions and the settings that the start check insists on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from jobledger.schemas.limits import MAX_MESSAGE_BYTES

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS

#: Partitions of the topics whose count does not follow the cell's.
TASK_PARTITIONS = 16
HEARTBEAT_PARTITIONS = 1
QUARANTINE_PARTITIONS = 1
PROBE_PARTITIONS = 1


class Topic(StrEnum):
    """Topics by role; the name on the cluster is `<cell>.<role>`."""

    COMMANDS = "commands"
    EVENTS = "events"
    STATE = "state"
    OUTCOMES = "outcomes"
    TASKS = "tasks"
    HEARTBEATS = "heartbeats"
    QUARANTINE = "quarantine"
    PROBES = "probes"


@dataclass(frozen=True, kw_only=True)
class TopicSpec:
    """How a topic has to be. `partitions` None: as many as the cell has."""

    topic: Topic
    partitions: int | None = None
    config: dict[str, str]
    meaning: str


def _deleted_after(ms: int) -> dict[str, str]:
    return {"cleanup.policy": "delete", "retention.ms": str(ms), "retention.bytes": "-1"}


_SIZE = {"max.message.bytes": str(MAX_MESSAGE_BYTES)}

TOPICS: dict[Topic, TopicSpec] = {
    spec.topic: spec
    for spec in (
        TopicSpec(
            topic=Topic.COMMANDS,
            config={**_deleted_after(30 * _DAY_MS), **_SIZE},
            meaning="Groups of 1 to 500 commands to the streams of one partition.",
        ),
        TopicSpec(
            topic=Topic.EVENTS,
            config={**_deleted_after(-1), **_SIZE},
            meaning="The truth and the public interface: one CloudEvent a record, kept for ever.",
        ),
        TopicSpec(
            topic=Topic.STATE,
            config={
                "cleanup.policy": "compact",
                "segment.bytes": str(32 * 1024 * 1024),
                "segment.ms": str(10 * 60 * 1000),
                "min.cleanable.dirty.ratio": "0.1",
                "max.compaction.lag.ms": str(30 * 60 * 1000),
                "delete.retention.ms": str(_HOUR_MS),
                **_SIZE,
            },
            meaning="Snapshots, queue tasks, outbox, keys, stubs and the checkpoint of each partition.",
        ),
        TopicSpec(
            topic=Topic.OUTCOMES,
            config={**_deleted_after(7 * _DAY_MS), **_SIZE},
            meaning="What became of each command that asked for an answer.",
        ),
        TopicSpec(
            topic=Topic.TASKS,
            partitions=TASK_PARTITIONS,
            config={**_deleted_after(7 * _DAY_MS), **_SIZE},
            meaning="Inboxes of the workers: partition murmur2(worker id), shared.",
        ),
        TopicSpec(
            topic=Topic.HEARTBEATS,
            partitions=HEARTBEAT_PARTITIONS,
            config={**_deleted_after(10 * 60 * 1000), "message.timestamp.type": "LogAppendTime"},
            meaning="Liveness of workers; never events.",
        ),
        TopicSpec(
            topic=Topic.QUARANTINE,
            partitions=QUARANTINE_PARTITIONS,
            config={**_deleted_after(-1), **_SIZE},
            meaning="What could not be read or decided, with the reason, and what operators did about it.",
        ),
        TopicSpec(
            topic=Topic.PROBES,
            partitions=PROBE_PARTITIONS,
            config=_deleted_after(10 * 60 * 1000),
            meaning="Records of health checks, which whoever wrote them reads back; nothing depends on them.",
        ),
    )
}


def topic_name(cell: str, topic: Topic) -> str:
    """The topic's name on the cluster."""
    return f"{cell}.{topic.value}"


def partition_count(topic: Topic, partitions: int) -> int:
    """How many partitions a topic has in a cell of `partitions`."""
    own = TOPICS[topic].partitions
    return partitions if own is None else own


def changed_sentence(name: str, known: str, found: str | None) -> str:
    """Why a topic is refused that is not the one it was, and what repairs it."""
    what = f"was deleted and made anew (its id was {known}, now it is {found})" if found else "was deleted"
    return (
        f"Topic '{name}' {what}: what was in it is lost, and what is new in it does not follow on it. Restore it from "
        f"a copy and set JOBLEDGER_ACCEPT_NEW_TOPICS=1 for one start, or, to begin from nothing, delete all topics of "
        f"the cell and the schema in Postgres."
    )

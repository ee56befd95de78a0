"""Creating the topics of a cell, and checking at start that nobody has made them lose events."""

from __future__ import annotations

import time
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, OffsetSpec, ResourceType  # type: ignore[attr-defined]

from jobledger.eventlog.clients import ClientConfig
from jobledger.schemas.topics import TOPICS, Topic, TopicSpec, partition_count, topic_name

ADMIN_SECONDS = 15.0
_TRUTH = {Topic.COMMANDS, Topic.EVENTS, Topic.STATE}


class TopicError(RuntimeError):
    """A topic is not as the log protocol needs it; the message names the command that repairs it."""


class TopicMissingError(TopicError):
    """A topic does not exist, or not yet."""


@dataclass(frozen=True, kw_only=True)
class Durability:
    """How many copies the topics of a cell have. Outside dev: at least 3, with 2 in sync."""

    replication_factor: int
    min_insync_replicas: int
    dev: bool = False


def ensure_topics(config: ClientConfig, cell: str, partitions: int, durability: Durability) -> None:
    """Create the topics that don't exist, then check all; raises TopicError or KafkaException."""
    admin = _admin(config)
    existing = admin.list_topics(timeout=ADMIN_SECONDS).topics
    missing = [spec for spec in TOPICS.values() if topic_name(cell, spec.topic) not in existing]
    _check_none_was_deleted(admin, cell, {spec.topic for spec in missing})
    new = [_new_topic(cell, spec, partitions, durability) for spec in missing]
    futures = admin.create_topics(new, request_timeout=ADMIN_SECONDS) if new else {}
    for future in futures.values():
        try:
            future.result(timeout=ADMIN_SECONDS)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
    _wait_until_known(admin, cell)
    check_topics(config, cell, partitions, durability)


def _check_none_was_deleted(admin: AdminClient, cell: str, missing: set[Topic]) -> None:
    """Raise TopicError when a topic that holds the truth is missing beside one that has records.

    To make it anew would begin a cell that has lost a part of itself.
    """
    lost = sorted(topic_name(cell, topic) for topic in missing & _TRUTH)
    if not lost or missing >= _TRUTH:
        return
    for topic in sorted(_TRUTH - missing):
        name = topic_name(cell, topic)
        partitions = admin.list_topics(name, timeout=ADMIN_SECONDS).topics[name].partitions
        wanted = {TopicPartition(name, p): OffsetSpec.latest() for p in partitions}  # type: ignore[no-untyped-call]
        ends = [future.result(ADMIN_SECONDS).offset for future in admin.list_offsets(wanted).values()]
        if any(ends):
            raise TopicError(
                f"Topic '{lost[0]}' does not exist any more, but '{name}' has records: it was deleted. Restore it from "
                f"a copy, or, to begin from nothing, delete all topics of the cell and the schema in Postgres."
            )


def _admin(config: ClientConfig) -> AdminClient:
    """Quiet: what it can't do comes as an exception, not as a line of librdkafka for each attempt to connect."""
    return AdminClient({**config, "log_level": 0})


def _new_topic(cell: str, spec: TopicSpec, partitions: int, durability: Durability) -> NewTopic:
    config = {
        **spec.config,
        "min.insync.replicas": str(durability.min_insync_replicas),
        "unclean.leader.election.enable": "false",
    }
    count = partition_count(spec.topic, partitions)
    return NewTopic(topic_name(cell, spec.topic), count, durability.replication_factor, config=config)


def _wait_until_known(admin: AdminClient, cell: str) -> None:
    """A new topic takes a moment to have leaders."""
    deadline = time.monotonic() + ADMIN_SECONDS
    while True:
        topics = admin.list_topics(timeout=ADMIN_SECONDS).topics
        known = [topics.get(topic_name(cell, topic)) for topic in TOPICS]
        if all(t is not None and all(p.leader >= 0 for p in t.partitions.values()) for t in known):
            return
        if time.monotonic() > deadline:
            raise TopicError(f"Topics of cell '{cell}' have no leaders after {ADMIN_SECONDS:.0f} s; check the brokers.")
        time.sleep(0.05)


def check_topics(config: ClientConfig, cell: str, partitions: int, durability: Durability) -> None:
    """Raise TopicError when a topic would lose or misplace records; TopicMissingError if nothing is wrong but that
    topics are missing."""
    admin = _admin(config)
    metadata = admin.list_topics(timeout=ADMIN_SECONDS).topics
    missing: list[str] = []
    faults: list[str] = []
    present: list[TopicSpec] = []
    for spec in TOPICS.values():
        name = topic_name(cell, spec.topic)
        if name not in metadata:
            missing.append(f"Topic '{name}' does not exist; any scheduler of the cell creates it at its start.")
            continue
        present.append(spec)
        replicas = min(len(p.replicas) for p in metadata[name].partitions.values())
        faults += _shape_faults(name, spec, len(metadata[name].partitions), partitions, replicas, durability)
    faults += _config_faults(admin, cell, present, durability)
    if faults:
        raise TopicError(" ".join([*missing, *faults]))
    if missing:
        raise TopicMissingError(" ".join(missing))


def _shape_faults(
    name: str, spec: TopicSpec, count: int, partitions: int, replicas: int, durability: Durability
) -> list[str]:
    faults = []
    wanted = partition_count(spec.topic, partitions)
    if count != wanted:
        faults.append(
            f"Topic '{name}' has {count} partitions, but the cell has {wanted}, fixed for ever: set "
            f"JOBLEDGER_PARTITIONS to the number the cell was made with, or use another JOBLEDGER_CELL."
        )
    if not durability.dev and replicas < 3:
        faults.append(
            f"Topic '{name}' has {replicas} replica(s), but needs 3: "
            f"kafka-reassign-partitions.sh --execute with three replicas for each partition of {name}."
        )
    return faults


def _config_faults(admin: AdminClient, cell: str, specs: list[TopicSpec], durability: Durability) -> list[str]:
    resources = [ConfigResource(ResourceType.TOPIC, topic_name(cell, spec.topic)) for spec in specs]
    answers = admin.describe_configs(resources, request_timeout=ADMIN_SECONDS) if resources else {}
    faults = []
    for spec in specs:
        name = topic_name(cell, spec.topic)
        found = next(future.result() for resource, future in answers.items() if resource.name == name)
        values = {key: entry.value for key, entry in found.items()}
        for key, wanted in _wanted(spec, durability).items():
            if not _holds(key, values.get(key, ""), wanted):
                faults.append(
                    f"Topic '{name}' has {key}={values.get(key)}, but the log protocol needs {wanted}: "
                    f"kafka-configs.sh --alter --entity-type topics --entity-name {name} --add-config {key}={wanted}"
                )
    return faults


def _wanted(spec: TopicSpec, durability: Durability) -> dict[str, str]:
    wanted = {**spec.config, "unclean.leader.election.enable": "false"}
    if not durability.dev:
        wanted["min.insync.replicas"] = "2"
    return wanted


#: Settings where more than wanted is as good, -1 meaning without end.
_AT_LEAST = {"retention.ms", "retention.bytes", "max.message.bytes", "min.insync.replicas", "delete.retention.ms"}


def _holds(key: str, value: str, wanted: str) -> bool:
    if key not in _AT_LEAST:
        return value == wanted
    if value == "-1":
        return True
    return wanted != "-1" and int(value or 0) >= int(wanted)


__all__ = ["Durability", "Topic", "TopicError", "check_topics", "ensure_topics"]

"""What a worker that died would have said: which handlers it was on. Run in place of the keeper, after its death."""

from __future__ import annotations

import sys

import uuid_utils
from confluent_kafka import KafkaException, Producer

from jobledger.domain.commands import AnyCommand
from jobledger.domain.identity import partition_of
from jobledger.domain.job.commands import ReportCrashed
from jobledger.domain.queue.commands import SetCredits
from jobledger.domain.values import Actor, ActorKind
from jobledger.eventlog.clients import KAFKA_LOG, ClientConfig, producer_config
from jobledger.schemas.commands import Command, encode_command, join_record
from jobledger.telemetry.logs import configure_logging, get_logger
from jobledger.workers.journal import Head, Running, read_journal

#: For Kafka to take it all; not much later the end of the lease tells the jobs. Nobody waits for this process, so it
#: must not stay for a Kafka that went down with the worker.
FLUSH_SECONDS = 5.0

log = get_logger()


class _Cluster:
    """The connection that the worker had."""

    def __init__(self, config: ClientConfig) -> None:
        self._config = config

    def client_config(self) -> ClientConfig:
        return dict(self._config)


def commands_of(head: Head, running: list[Running]) -> list[tuple[str, AnyCommand]]:
    """Streams and commands: the queues hand nothing more to what has died, the jobs hear that their attempt is over."""
    incarnations = sorted({one.incarnation for one in running})
    closed: list[tuple[str, AnyCommand]] = [
        (
            queue,
            SetCredits(worker=head.worker, incarnation=incarnation, pool=head.pool, credits=0, handlers=head.handlers),
        )
        for queue in head.queues
        for incarnation in incarnations
    ]
    crashed: list[tuple[str, AnyCommand]] = [
        (
            one.job,
            ReportCrashed(
                task=one.task,
                assignment=one.assignment,
                worker=head.worker,
                incarnation=one.incarnation,
                assigned_at_ms=one.assigned_at_ms,
                started_at_ms=one.started_at_ms,
            ),
        )
        for one in running
    ]
    return closed + crashed


def send(head: Head, commands: list[tuple[str, AnyCommand]]) -> int:
    """Send them, each in a record of its own; how many Kafka did not take in time."""
    producer = Producer(producer_config(_Cluster(head.kafka), f"{head.worker}-crash-report"), logger=KAFKA_LOG)
    actor = Actor(ActorKind.WORKER, head.worker)
    for stream, body in commands:
        command = Command(id=str(uuid_utils.uuid7()), stream=stream, actor=actor, body=body)
        value = join_record([encode_command(command)])
        producer.produce(head.topic, value, partition=partition_of(stream, head.partitions))
    return producer.flush(FLUSH_SECONDS)


def main() -> None:
    """Tell the queues and the jobs. Arguments: the journal's descriptor, and where its places begin."""
    head, running = read_journal(int(sys.argv[1]), int(sys.argv[2]))
    configure_logging("worker", head.worker)
    try:
        left = send(head, commands_of(head, running))
    except (KafkaException, BufferError) as error:
        log.error("worker_crashed", worker_id=head.worker, running=_told(running), error=str(error))
        return
    log.error("worker_crashed", worker_id=head.worker, running=_told(running), unsent=left)


def _told(running: list[Running]) -> list[str]:
    return [f"{one.handler} of {one.job}" for one in running[:100]]

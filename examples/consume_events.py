"""Reads `jobledger.events` with plain confluent-kafka: nothing of Jobledger is needed, in Python or elsewhere.

python examples/consume_events.py 127.0.0.1:8081            # follows the log from its first event on
python examples/consume_events.py 127.0.0.1:8081 --once     # ends at the end of the log
"""

import json
import sys

from confluent_kafka import Consumer, KafkaError, KafkaException

TOPIC = "jobledger.events"


def main(servers: str, once: bool) -> None:
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "my-consumer",
            "isolation.level": "read_committed",  # only what was decided
            "auto.offset.reset": "earliest",
            "enable.auto.offset.store": False,  # an offset is committed once its event has been dealt with
            "enable.partition.eof": True,
        }
    )
    assigned: set[int] = set()
    ended: set[int] = set()
    consumer.subscribe([TOPIC], on_assign=lambda _, parts: assigned.update(part.partition for part in parts))
    applied: dict[int, int] = {}  # last seq by partition; keep it with what you make of the events
    try:
        while not (once and assigned and ended >= assigned):
            message = consumer.poll(1.0)
            if message is None:
                continue
            error = message.error()
            if error is not None:
                if error.code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(error)
                ended.add(message.partition())
                continue
            headers = {name: value.decode() for name, value in message.headers() or []}
            event = json.loads(message.value())
            if event["seq"] <= applied.get(message.partition(), 0):
                continue  # had it already
            print(f"{event['seq']:>6}  {headers['ce_type']:<36}  {event['stream']}  version {event['version']}")
            applied[message.partition()] = event["seq"]
            consumer.store_offsets(message)
    finally:
        consumer.close()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8081", "--once" in sys.argv)

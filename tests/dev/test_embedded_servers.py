"""The embedded broker and Postgres keep what was written, whatever ends them."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from jobledger.dev.jars import default_cache_dir
from jobledger.dev.kafka import KafkaBroker, prepare_kafka
from jobledger.dev.ports import free_port
from jobledger.dev.postgres import EmbeddedPostgres


def _write_then_read_after(broker: KafkaBroker, topic: str, restart: str) -> list[bytes]:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(10)
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "enable.idempotence": True})
    for number in range(3):
        producer.produce(topic, str(number).encode())
    assert producer.flush(10) == 0
    getattr(broker, restart)()
    assert not broker.running
    broker.start()
    consumer = Consumer(
        {"bootstrap.servers": broker.bootstrap_servers, "group.id": topic, "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([topic])
    messages = consumer.consume(3, 20)
    consumer.close()
    return [message.value() or b"" for message in messages]


@pytest.mark.kafka
@pytest.mark.parametrize("restart", ["stop", "kill"])
def test_a_restarted_broker_keeps_every_record(kafka_broker: KafkaBroker, cell: str, restart: str) -> None:
    assert _write_then_read_after(kafka_broker, f"{cell}.records", restart) == [b"0", b"1", b"2"]


def _cluster_id(bootstrap_servers: str) -> str | None:
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    return admin.describe_cluster().result(10).cluster_id


@pytest.mark.kafka
def test_each_broker_is_a_cluster_of_its_own(bootstrap_servers: str, tmp_path: Path) -> None:
    """Their storages come from one template; a directory that lost its ids gets new ones and loses nothing else."""
    broker = KafkaBroker(tmp_path / "data", free_port(), free_port(), default_cache_dir())
    kept = broker.data_dir / "log" / "kept"
    kept.parent.mkdir(parents=True)
    kept.write_text("kept")
    broker.start()
    ids = [_cluster_id(one) for one in (bootstrap_servers, broker.bootstrap_servers)]
    broker.stop()
    assert all(ids) and ids[0] != ids[1]
    assert kept.read_text() == "kept"


@pytest.mark.kafka
def test_topics_are_never_created_by_accident(bootstrap_servers: str, cell: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    admin.list_topics(f"{cell}.typo", timeout=10)
    assert f"{cell}.typo" not in admin.list_topics(timeout=10).topics


@pytest.mark.postgres
@pytest.mark.parametrize("restart", ["stop", "kill"])
def test_a_restarted_postgres_keeps_every_committed_row(
    postgres: EmbeddedPostgres, postgres_dsn: str, restart: str
) -> None:
    with psycopg.connect(postgres_dsn) as connection:
        connection.execute("CREATE TABLE kept (number int)")
        connection.execute("INSERT INTO kept VALUES (7)")
    getattr(postgres, restart)()
    assert not postgres.running
    postgres.start()
    with psycopg.connect(postgres_dsn) as connection:
        assert connection.execute("SELECT number FROM kept").fetchall() == [(7,)]
        assert connection.execute("SHOW fsync").fetchone() == ("on",)


@pytest.mark.postgres
def test_each_test_gets_an_empty_database(postgres_dsn: str) -> None:
    with psycopg.connect(postgres_dsn) as connection:
        tables = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    assert tables == (0,)


@pytest.mark.kafka
def test_a_cache_that_java_cannot_use_costs_a_slow_start_and_nothing_else(tmp_path: Path) -> None:
    """A damaged one, and an empty one, which says that this Java makes none."""
    real = default_cache_dir()
    prepare_kafka(real)
    for number, harmed in enumerate((b"no cache", b"")):
        cache = tmp_path / f"cache-{number}"
        cache.mkdir()
        for made in real.iterdir():
            if made.suffix == ".aot":
                (cache / made.name).write_bytes(harmed)
            else:
                (cache / made.name).symlink_to(made)
        broker = KafkaBroker(tmp_path / f"data-{number}", free_port(), free_port(), cache)
        broker.start()
        broker.stop()

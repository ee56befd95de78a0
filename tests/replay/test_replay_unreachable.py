"""A comparison without Kafka: one sentence that says where it was looked for."""

from __future__ import annotations

import pytest

from jobledger.dev.ports import free_port
from jobledger.replay import log
from jobledger.replay.report import VerifyError
from jobledger.schemas.topics import Topic
from jobledger.settings import KafkaSettings


def test_kafka_that_is_away_is_named_with_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "METADATA_SECONDS", 1.0)
    where = f"127.0.0.1:{free_port()}"
    reader = log.Log(KafkaSettings(bootstrap_servers=where), "c")
    with pytest.raises(VerifyError, match=rf"Kafka at {where} can't be .* set JOBLEDGER_KAFKA_BOOTSTRAP_SERVERS\.$"):
        reader.partitions(Topic.EVENTS)
    reader.close()

from __future__ import annotations

import io
import json
import logging

import pytest

from jobledger.telemetry.library_logs import REPEAT_SECONDS, StandardLibraryHandler
from jobledger.telemetry.logs import configure_logging


@pytest.fixture
def said() -> io.BytesIO:
    stream = io.BytesIO()
    configure_logging("scheduler", "s", to_stream=stream)
    return stream


def lines(stream: io.BytesIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_what_a_kafka_client_repeats_comes_out_once_with_the_count_of_the_rest(said: io.BytesIO) -> None:
    """The first line gives the reason; after half a minute one says how many were left out."""
    now = [1000.0]
    (handler,) = [h for h in logging.getLogger().handlers if isinstance(h, StandardLibraryHandler)]
    handler._repeats._monotonic = lambda: now[0]
    client = logging.getLogger("aiokafka.consumer.group_coordinator")
    for n in range(300):
        client.error("Group Coordinator Request failed: [Error 15] try %d", n)
        client.error("Unable to connect to node with id %d", n)
        now[0] += 0.1
    assert [line["message"] for line in lines(said)] == [
        "Group Coordinator Request failed: [Error 15] try 0",
        "Unable to connect to node with id 0",
    ]
    now[0] += REPEAT_SECONDS
    client.error("Group Coordinator Request failed: [Error 15] try 300")
    last = lines(said)[-1]
    assert last["context"] == {"logger": client.name, "left_out": 299}


def test_lines_of_others_and_other_lines_all_come_out(said: io.BytesIO) -> None:
    """Only clients of the broker repeat themselves, and only what they repeat is left out."""
    for n in range(5):
        logging.getLogger("my.library").error("the same")
        logging.getLogger("aiokafka").error("another reason: %s", "abcde"[n])
    assert len(lines(said)) == 10

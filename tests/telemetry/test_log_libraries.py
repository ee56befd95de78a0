"""Lines of the libraries that the roles run have the form of ours."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import faust
import pytest
import structlog
from confluent_kafka import Producer
from mode.utils.logging import get_logger as mode_logger

from jobledger.dev.ports import free_port
from jobledger.eventlog.clients import KAFKA_LOG, producer_config
from jobledger.settings import KafkaSettings
from jobledger.telemetry.http_server import HttpServer
from jobledger.telemetry.log_line import LEVEL_NUMBERS, SINK
from jobledger.telemetry.logs import configure_logging

FIELDS = ["timestamp", "level", "service", "instance_id", "trace_id", "span_id", "event", "message", "context"]


@pytest.fixture(autouse=True)
def stream() -> Iterator[io.BytesIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.BytesIO()
    configure_logging("scheduler", "scheduler-1", to_stream=stream)
    yield stream
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    SINK.configured = False


def of(stream: io.BytesIO, logger: str) -> list[dict[str, Any]]:
    """The lines of a library, each checked for its form."""
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    for line in lines:
        assert list(line) == FIELDS
        assert line["level"] in LEVEL_NUMBERS
    found = [line for line in lines if line["context"].get("logger", "").startswith(logger)]
    assert {line["event"] for line in found} <= {"library_log"}
    return found


@pytest.mark.scenario("a library logs")
def test_librdkafka(stream: io.BytesIO, capfd: pytest.CaptureFixture[str]) -> None:
    """Through our clients' configuration; nothing goes to standard error beside it."""
    nobody = KafkaSettings(
        bootstrap_servers=f"127.0.0.1:{free_port()}",
        security_protocol="SASL_PLAINTEXT",
        sasl_username="u",
        sasl_password="hunter2-planted",  # type: ignore[arg-type]
    )
    producer = Producer({**producer_config(nobody, "planted"), "debug": "security,conf"}, logger=KAFKA_LOG)
    for _ in range(100):
        producer.poll(0.05)
        if found := of(stream, "librdkafka"):
            break
    assert "Connection refused" in found[0]["message"]
    assert found[0]["level"] == "ERROR"
    assert b"hunter2" not in stream.getvalue()
    del producer
    assert capfd.readouterr().err == ""


async def test_uvicorn(stream: io.BytesIO) -> None:
    """What it says of requests that are none, and of an application that fails."""

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("password=hunter2-planted")

    server = HttpServer(broken, "127.0.0.1", 0, "JOBLEDGER_API_PORT")
    await server.start()
    for request in (b"\x00garbage\r\n\r\n", b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(request)
        await reader.read()
        writer.close()
    await server.stop()
    invalid, failed = of(stream, "uvicorn")
    assert (invalid["level"], invalid["message"]) == ("WARN", "Invalid HTTP request received.")
    assert (failed["level"], failed["context"]["error_type"]) == ("ERROR", "RuntimeError")
    assert b"hunter2" not in stream.getvalue()


def test_faust_mode_and_aiokafka(stream: io.BytesIO) -> None:
    """Their loggers go through the root logger, also once an app has been made."""
    faust.App("logs-test", broker="kafka://127.0.0.1:9")
    for name in ("faust.app.base", "mode.services", "aiokafka.consumer.group_coordinator"):
        mode_logger(name).error("Broker %s is away: %s", "kafka://u:hunter2-planted@h:1", "x")
        (line,) = of(stream, name)
        assert line["message"] == "Broker kafka://u:[hidden]@h:1 is away: x"


def test_asyncio(stream: io.BytesIO) -> None:
    """An exception that nobody took is one line too."""
    loop = asyncio.new_event_loop()
    loop.call_soon(lambda: 1 / 0)
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    (line,) = of(stream, "asyncio")
    assert line["context"]["error_type"] == "ZeroDivisionError"

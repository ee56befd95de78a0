"""What libraries say of values that they could not take never reaches the log: planted secrets are looked for."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable
from enum import StrEnum
from typing import Any

import msgspec
import psycopg
import pytest
import structlog
from confluent_kafka import KafkaException, Producer
from graphql import GraphQLError, build_schema, graphql_sync
from psycopg.conninfo import conninfo_to_dict
from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings

from jobledger.settings import Settings
from jobledger.telemetry.log_line import SINK, scrub
from jobledger.telemetry.logs import configure_logging, get_logger

SECRET = "hunter2-planted"
log = get_logger()


@pytest.fixture
def stream() -> Any:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.BytesIO()
    configure_logging("api", "api-1", "DEBUG", to_stream=stream)
    yield stream
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    SINK.configured = False


class Payload(BaseModel):
    card: int


class Color(StrEnum):
    RED = "red"


class Spec(msgspec.Struct, tag_field="kind", tag="spec"):
    pass


class Other(msgspec.Struct, tag_field="kind", tag="other"):
    pass


def _graphql(query: str, variables: dict[str, Any] | None = None) -> None:
    schema = build_schema("type Query { a(b: Int): Int } enum Color { RED }")
    (error, *_) = graphql_sync(schema, query, variable_values=variables).errors or []
    raise error


def _conninfo(text: str) -> Callable[[], object]:
    return lambda: conninfo_to_dict(text)


MISTAKES: dict[str, Callable[[], object]] = {
    "pydantic": lambda: Payload.model_validate({"card": SECRET}),
    "pydantic json": lambda: Payload.model_validate_json(json.dumps({"card": SECRET})),
    "msgspec": lambda: msgspec.json.decode(json.dumps(SECRET).encode(), type=Color),
    "msgspec tag": lambda: msgspec.json.decode(json.dumps({"kind": SECRET}).encode(), type=Spec | Other),
    "settings": lambda: Settings(postgres_dsn=SECRET, api_port=f"postgresql://u:{SECRET}@h/d"),
    "DSN": _conninfo(f"host=x {SECRET}"),
    "DSN option": _conninfo(f"host=x {SECRET}=y"),
    "URL": _conninfo(f"postgresql://u:{SECRET}@[h/d"),
    "graphql variable": lambda: _graphql("query($b: Int) { a(b: $b) }", {"b": SECRET}),
    "graphql literal": lambda: _graphql(f'{{ a(b: "{SECRET}") }}'),
    "librdkafka": lambda: Producer({"sasl.password": SECRET, "security.protocol": "nothing"}),
    "librdkafka name": lambda: Producer({"sasl.pasword": SECRET}),
}


@pytest.mark.parametrize("library", MISTAKES)
def test_what_a_library_could_not_take_is_not_told(library: str, stream: io.BytesIO) -> None:
    """Neither as the exception of a line, nor as the text of one, nor by the library's own logger."""
    try:
        MISTAKES[library]()
    except (ValidationError, msgspec.MsgspecError, psycopg.Error, GraphQLError, KafkaException) as error:
        log.exception("request_failed")
        log.error("queue_connection_lost", error=str(error))
        log.warning("task_refused", reason=f"can't: {error}")
        logging.getLogger("lib").error("failed: %s", error, exc_info=True)
    lines = stream.getvalue().decode()
    assert lines.count("\n") == 4
    assert SECRET not in lines


@pytest.mark.parametrize(
    "text",
    [
        f'duplicate key value violates unique constraint "jobs_key"\nDETAIL:  Key (idempotency_key)=({SECRET}) exists.',
        f"value too long\nCONTEXT:  COPY jobs, line 1, column payload: {SECRET}",
        f"syntax error at or near \"x\"\nLINE 1: SELECT '{SECRET}'\n        ^",
        f'invalid input syntax for type integer: "{SECRET}"',
        f'invalid input syntax for type timestamp with time zone: "{SECRET}"',
        f"password={SECRET} host=db",
        f"sasl.password: {SECRET}",
        f"kafka://a:{SECRET}@b/c",
        f"headers {{'x-api-key': '{SECRET}', 'a': 1}}",
        f"Authorization: Bearer {SECRET}",
        f'{{"idempotencyKey": "{SECRET}"}}',
        f"api_key={SECRET}",
    ],
)
def test_texts_that_hold_secrets_lose_them(text: str) -> None:
    assert SECRET not in scrub(text)
    assert scrub("failed: " + text).startswith("failed: ")


def test_settings_do_not_show_secrets_when_they_are_printed() -> None:
    assert issubclass(Settings, BaseSettings)
    shown = Settings(postgres_dsn=f"postgresql://u:{SECRET}@h/d", kafka={"sasl_password": SECRET})
    assert SECRET not in f"{shown!r} {shown}"

"""One line of the log: its fields, its limits, and what never stands in one."""

from __future__ import annotations

import re
import sys
import time
import traceback
from collections.abc import Callable
from functools import lru_cache
from typing import Any, BinaryIO, Literal

import orjson

Level = Literal["DEBUG", "INFO", "WARN", "ERROR", "FATAL"]
LEVEL_NUMBERS: dict[Level, int] = {"DEBUG": 10, "INFO": 20, "WARN": 30, "ERROR": 40, "FATAL": 50}
"""The numbers of the standard library."""

MAX_LINE = 16 * 1024
"""Longer lines have their strings cut to `MAX_STRING` and lose what is nested."""
MAX_STRING = 500
_MAX_FRAMES = 20
_MAX_KEYS = 50

# Context keys that would hold secrets or what users put into jobs. A line that has one shows that the caller is wrong,
# but it's the line that must not leak.
_HIDDEN = frozenset(
    {
        *("payload", "result", "idempotency_key", "dsn", "postgres_dsn", "credentials", "secret", "token"),
        *("password", "passwd", "sasl_password", "ssl_key_password", "api_key", "apikey", "authorization", "cookie"),
    }
)
#: Texts of errors, which may quote what could not be read or written.
_QUOTING = ("error", "reason")

_URL_PASSWORD = re.compile(r"(?<=://)([^\s/@:]*):[^\s/@]*@")
_NAMED_SECRET = re.compile(
    r"\b(password|sasl\.password|ssl\.key\.password|secret|token|api[-_]?key|idempotency[-_]?key|authorization|cookie)"
    r"(['\"]?\s*[=:]\s*)(?:bearer\s+|basic\s+)?('[^']*'|\"[^\"]*\"|[^\s,;&'\"]+)",
    re.IGNORECASE,
)
# What libraries say of the value that they could not take: pydantic, then Postgres (the rows of a statement stand in
# the lines behind the first), msgspec and graphql-core.
_QUOTED_VALUES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"input_value=.*?(?=, input_type=|\n|$)", re.DOTALL), "input_value=[hidden]"),
    (re.compile(r"\n(?:DETAIL|CONTEXT|LINE \d+|QUERY|STATEMENT|HINT):.*", re.DOTALL), ""),
    (re.compile(r"(syntax for type [\w ]+: ).*", re.DOTALL), r"\1[hidden]"),
    (re.compile(r"(connection (?:info string|option|URI)[^\"']*)([\"']).*", re.DOTALL), r"\1[hidden]"),
    (re.compile(r"(missing \"=\" after )\".*?\"( in connection)", re.DOTALL), r"\1[hidden]\2"),
    (re.compile(r"(Invalid (?:enum )?value )'.*'", re.DOTALL), r"\1[hidden]"),
    (re.compile(r"\n\nGraphQL request:.*", re.DOTALL), ""),
    (
        re.compile(r"(got invalid value |cannot represent [\w -]+: |, found |\bValue )([\"'{\[\d]).*", re.DOTALL),
        r"\1[hidden]",
    ),
)
#: A text without any of these holds nothing that the expressions look for; most have none, and looking is dear.
_MARKS = (
    *("input_value", "\n", "syntax for type", "connection ", "invalid ", "represent", "found ", "value ", "://"),
    *("password", "secret", "token", "key", "authorization", "cookie"),
)


def scrub(text: str, limit: int = MAX_STRING) -> str:
    """The text without passwords, and without the values that libraries quote in their errors; cut to a limit."""
    text = text[: 4 * limit]
    folded = text.lower()
    if any(mark in folded for mark in _MARKS):
        for pattern, instead in _QUOTED_VALUES:
            text = pattern.sub(instead, text)
        text = _NAMED_SECRET.sub(r"\1\2[hidden]", _URL_PASSWORD.sub(r"\1:[hidden]@", text))
    return text if len(text) <= limit else text[:limit] + "…"


@lru_cache(maxsize=256)  # formatting a date costs more than the rest of a line
def _second(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def timestamp(millis: int) -> str:
    """Milliseconds since the epoch as the log writes times: UTC with three digits and Z."""
    return f"{_second(millis // 1000)}.{millis % 1000:03d}Z"


class Sink:
    """What all loggers of the process share: where lines go and who writes them."""

    def __init__(self) -> None:
        self.configured = False
        self.service = ""
        self.instance_id = ""
        self.clock: Callable[[], float] = time.time
        self.check_events = False
        self.stream: BinaryIO = sys.stdout.buffer
        self.lost_lines = 0

    def line(self, level: Level, event: str, message: str, traceparent: str, context: dict[str, Any]) -> bytes:
        """One line without its end."""
        if not _HIDDEN.isdisjoint(context):
            for key in _HIDDEN & context.keys():
                context[key] = "[hidden]"
        for key in _QUOTING:
            if key in context:
                context[key] = scrub(str(context[key]))
        fields = {
            "timestamp": timestamp(int(self.clock() * 1000)),
            "level": level,
            "service": self.service,
            "instance_id": self.instance_id,
            "trace_id": traceparent[3:35],
            "span_id": traceparent[36:52],
            "event": event,
            "message": message,
            "context": context,
        }
        line = _dump(fields)
        if len(line) > MAX_LINE:
            fields["message"] = message[:MAX_STRING]
            fields["context"] = _shortened(context)
            line = _dump(fields)
        return line

    def write(self, line: bytes) -> None:
        """Write a line; one that can't be written is counted."""
        try:
            self.stream.write(line + b"\n")
            self.stream.flush()
        except (OSError, ValueError):  # reader of stdout gone, or closed: work goes on without its log
            self.lost_lines += 1


SINK = Sink()


def _dump(fields: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(fields, default=str, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z)
    except orjson.JSONEncodeError:  # lone surrogates, integers over 64 bits, nesting: a line must come out all the same
        fields["context"] = _shortened(fields["context"])
        fields["message"] = fields["message"].encode("utf-8", "replace").decode()
        return orjson.dumps(fields)


def _shortened(context: dict[str, Any]) -> dict[str, Any]:
    def short(value: object) -> str | int | float | bool | None:
        if value is None or isinstance(value, bool | float):
            return value
        if isinstance(value, int) and abs(value) < 2**53:
            return value
        return str(value)[:MAX_STRING].encode("utf-8", "replace").decode()

    return {str(short(str(key))): short(value) for key, value in list(context.items())[:_MAX_KEYS]}


def add_error(context: dict[str, Any], error: object) -> None:
    """Put an exception's class, text and frames (no source values) into the context."""
    if error is True:
        error = sys.exc_info()[1]
    elif isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        context["error_type"] = type(error).__name__
        context.setdefault("error", str(error))
        frames = traceback.extract_tb(error.__traceback__)[-_MAX_FRAMES:]
        context["stack"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]

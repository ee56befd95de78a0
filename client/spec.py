"""A job to be submitted: its options, and the checks that need no server."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Final, TypedDict, TypeGuard
from uuid import UUID

import msgspec
import uuid_utils

from jobledger.client.errors import InvalidInput, PayloadTooLarge
from jobledger.client.operations import inputs
from jobledger.schemas import limits
from jobledger.workers.durations import seconds_of
from jobledger.workers.handler import Handler
from jobledger.workers.retrying import MAX_ATTEMPTS, RETRY_BOUNDS, RetryPolicy
from jobledger.workers.values import to_json

_NAME = re.compile(limits.NAME_PATTERN)
_UUID = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_SURROGATE = re.compile("[\ud800-\udfff]")
#: As the API has it for tags: they are shown on one line.
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NAME_RULE = "1 to 100 letters, digits, '_', '-' or '.', beginning with a letter or digit"


class _Nothing(Enum):
    NO_PAYLOAD = "NO_PAYLOAD"

    def __repr__(self) -> str:
        return self.name


#: Where no payload is given the handler gets `{}`; None is a payload, JSON's null.
NO_PAYLOAD: Final = _Nothing.NO_PAYLOAD


class JobOptions(TypedDict, total=False):
    """The options of `submit` beside handler and payload; see JobSpec."""

    at: datetime | None
    in_: str | float | timedelta | None
    queue: str
    priority: int
    tags: Mapping[str, str] | None
    idempotency_key: str | None
    retry: RetryPolicy | int | None
    timeout: str | float | timedelta | None
    expected_duration: str | float | timedelta | None
    parent: str | None
    command_id: str | None


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """One job to submit. `handler`: its name or the decorated function; `payload`: anything with a JSON form.

    `at` (a datetime with zone) or `in_` (seconds, timedelta, "10m"): not before. `retry` (attempts, or a RetryPolicy)
    and `timeout` (of one attempt): else those that the decorated function declares. `expected_duration`: from due to
    its end; beyond five minutes the service level of completion leaves it out. `command_id`: a UUID; the same one again
    is the same command.
    """

    handler: str | Handler[..., Any]
    payload: object = NO_PAYLOAD
    at: datetime | None = None
    in_: str | float | timedelta | None = None
    queue: str = "default"
    priority: int = 3
    tags: Mapping[str, str] = field(default_factory=dict)
    idempotency_key: str | None = None
    retry: RetryPolicy | int | None = None
    timeout: str | float | timedelta | None = None
    expected_duration: str | float | timedelta | None = None
    parent: str | None = None
    command_id: str = field(default_factory=lambda: str(uuid_utils.uuid7()))

    def as_input(self) -> inputs.SubmitJobInput:
        """The API's SubmitJobInput; raises InvalidInput or PayloadTooLarge, naming field, value and what is right."""
        given: inputs.SubmitJobInput = {
            "handler": _handler(self.handler),
            "queue": checked_name("queue", self.queue),
            "priority": _priority(self.priority),
            "commandId": _uuid("command_id", self.command_id),
            "payloadText": _text(self.payload),
        }
        if self.at is not None and self.in_ is not None:
            problem = f"at is {self.at} and in_ is {self.in_!r}, but they exclude each other; give one of them."
            raise InvalidInput(problem, "INVALID", ["in_"], str(self.in_))
        if self.at is not None:
            given["at"] = _aware(self.at)
        if self.in_ is not None:
            given["delaySeconds"] = _seconds("in_", self.in_)
        timeout = self._timeout()
        if timeout is not None:
            given["timeoutSeconds"] = timeout
        if self.expected_duration is not None:
            given["expectedDurationSeconds"] = _seconds("expected_duration", self.expected_duration)
        if self.tags and (tags := checked_tags(self.tags)):
            given["tags"] = tags
        if self.idempotency_key is not None:
            given["idempotencyKey"] = _key(self.idempotency_key)
        if self.parent is not None:
            given["parentId"] = _uuid("parent", self.parent)
        policy = self.policy()
        if policy is not None:
            given["retry"] = _retry(policy)
        return given

    def _timeout(self) -> float | None:
        if self.timeout is not None:
            return _seconds("timeout", self.timeout)
        return self.handler.timeout_seconds if isinstance(self.handler, Handler) else None

    def policy(self) -> RetryPolicy | None:
        """The policy that is sent: the one given, else the handler's; a number of attempts changes that alone."""
        declared = self.handler.retry if isinstance(self.handler, Handler) else None
        if self.retry is None:
            return declared
        if isinstance(self.retry, RetryPolicy):
            return self.retry
        if isinstance(self.retry, bool) or not isinstance(self.retry, int) or not 1 <= self.retry <= MAX_ATTEMPTS:
            raise wrong("retry", self.retry, f"a number of attempts, 1 to {MAX_ATTEMPTS:,}, or a RetryPolicy")
        return msgspec.structs.replace(declared or RetryPolicy(), max_attempts=self.retry)


def spec_of(handler: str | Handler[..., Any], payload: object, options: JobOptions) -> JobSpec:
    """The spec of `submit`'s parameters; None stands for no tags, and for a command id that is made here."""
    omitted = [name for name in ("tags", "command_id") if options.get(name, "") is None]
    given: dict[str, Any] = {name: value for name, value in options.items() if name not in omitted}
    return JobSpec(handler=handler, payload=payload, **given)


def wrong(name: str, value: object, right: str) -> InvalidInput:
    """The refusal of one value: a sentence with its name, itself, and what it must be."""
    shown = f"{value!r:.80}"
    return InvalidInput(f"{name} is {shown}, but must be {right}.", "INVALID", [name], f"{value!s:.120}")


def is_text(value: object) -> TypeGuard[str]:
    """Whether it is a text that can be sent: half of a surrogate pair has no form in UTF-8."""
    return isinstance(value, str) and not _SURROGATE.search(value)


def _handler(handler: object) -> str:
    if isinstance(handler, Handler):
        return handler.name
    if isinstance(handler, str) and _NAME.fullmatch(handler):
        return handler
    if callable(handler):
        name = getattr(handler, "__name__", type(handler).__name__)
        raise InvalidInput(
            f"handler is the function '{name}', which is no handler: put @handler(\"{name}\") on it, or give a name.",
            "INVALID",
            ["handler"],
            name,
        )
    raise wrong("handler", handler, f"a decorated function or its name: {_NAME_RULE}")


def checked_name(field_name: str, value: object) -> str:
    """A name of a queue or handler; raises InvalidInput."""
    if isinstance(value, str) and _NAME.fullmatch(value):
        return value
    raise wrong(field_name, value, _NAME_RULE)


def _priority(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 5:
        return value
    raise wrong("priority", value, "a whole number, 1 (first) to 5 (last)")


def _uuid(name: str, value: object) -> str:
    if isinstance(value, str) and _UUID.fullmatch(value):
        return value
    try:
        return str(UUID(str(value)))
    except ValueError:
        raise wrong(name, value, "a UUID") from None


def _text(payload: object) -> str:
    try:
        text = to_json({} if payload is NO_PAYLOAD else payload)
    except ValueError as error:
        message = f"payload is a {type(payload).__name__} that is not JSON: {str(error).rstrip('.')}."
        raise InvalidInput(message, "INVALID", ["payload"], f"{payload!r:.120}") from error
    size = len(text.encode())
    if size > limits.MAX_PAYLOAD_BYTES:
        raise PayloadTooLarge(
            f"payload has {size:,} bytes as JSON, but must have at most {limits.MAX_PAYLOAD_BYTES:,} (256 KiB); keep "
            f"large data elsewhere and send where it is.",
            "PAYLOAD_TOO_LARGE",
            ["payload"],
            f"{size} bytes",
        )
    return text


def _aware(at: object) -> str:
    if not isinstance(at, datetime):
        raise wrong("at", at, "a datetime with a time zone, such as datetime.now(UTC) + timedelta(hours=1)")
    if at.tzinfo is None:
        raise InvalidInput(
            f"at is {at.isoformat()}, which has no time zone; use datetime(..., tzinfo=UTC).",
            "INVALID",
            ["at"],
            at.isoformat(),
        )
    return at.isoformat()


def _seconds(name: str, value: str | float | timedelta) -> float:
    try:
        return seconds_of(value)
    except ValueError as error:
        raise InvalidInput(f"{name}: {error}", "INVALID", [name], str(value)) from error


def checked_tags(tags: object) -> list[inputs.TagInput]:
    """Tags as the API takes them; raises InvalidInput."""
    if not isinstance(tags, Mapping):
        raise wrong("tags", tags, 'a mapping of names to values, such as {"team": "billing"}')
    if len(tags) > limits.MAX_TAGS:
        raise wrong("tags", f"{len(tags)} tags", f"at most {limits.MAX_TAGS}")
    for name, value in tags.items():
        if not is_text(name) or not 1 <= len(name) <= limits.MAX_TAG_LENGTH or _CONTROL.search(name):
            right = f"text of 1 to {limits.MAX_TAG_LENGTH} characters, none of them a control character"
            raise wrong("a name in tags", name, right)
        if not isinstance(value, str):
            raise InvalidInput(
                f"tags: the value of '{name}' is {value!r:.80}, {_a(type(value).__name__)}, but must be text; "
                f"write {str(value)!r:.80}.",
                "INVALID",
                ["tags", name],
                f"{value!s:.120}",
            )
        if not is_text(value) or len(value) > limits.MAX_TAG_LENGTH or _CONTROL.search(value):
            right = f"text of at most {limits.MAX_TAG_LENGTH} characters, none of them a control character"
            raise wrong(f"tags[{name!r:.40}]", value, right)
    return [{"name": name, "value": value} for name, value in tags.items()]


def _a(word: str) -> str:
    return f"an {word}" if word[0] in "aeio" else f"a {word}"


def _key(key: object) -> str:
    if is_text(key) and 1 <= len(key) <= limits.MAX_KEY_LENGTH:
        return key
    raise wrong("idempotency_key", key, f"text of 1 to {limits.MAX_KEY_LENGTH} characters")


def _retry(retry: RetryPolicy) -> inputs.RetryPolicyInput:
    for name, low, high in RETRY_BOUNDS:
        value = getattr(retry, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise InvalidInput(
                f"retry.{name} is {value!r:.80}, but must be a number from {low:,} to {high:,}.",
                "INVALID",
                ["retry", name],
                f"{value!s:.120}",
            )
    given: inputs.RetryPolicyInput = {
        "maxAttempts": retry.max_attempts,
        "initialSeconds": retry.initial_seconds,
        "factor": retry.factor,
        "maxSeconds": retry.max_seconds,
        "jitterRatio": retry.jitter_ratio,
    }
    if retry.give_up_on:
        given["giveUpOn"] = list(retry.give_up_on)
    return given

"""The edge's courtesy checks: an input becomes a command body, or the error that says what to mend."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from strawberry import UNSET

from jobledger.domain.identity import fault_of_new_job_id
from jobledger.domain.job.commands import SubmitJob
from jobledger.domain.values import Lineage, Opaque, RetryPolicy
from jobledger.graphql.options import later_options
from jobledger.graphql.types.errors import ErrorCode, UserError, user_error
from jobledger.graphql.types.inputs import SubmitJobInput, TagInput
from jobledger.schemas import limits

_NAME = re.compile(limits.NAME_PATTERN)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DAY = 86_400
MAX_TIMEOUT_SECONDS = 30 * _DAY
MAX_EXPECTED_DURATION_SECONDS = 365 * _DAY
MAX_REASON_LENGTH = 1_000
_DEFAULT_RETRY = RetryPolicy()
_NO_LINEAGE = Lineage()
_encode = msgspec.json.Encoder().encode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode

#: Field, lowest and highest value.
_RETRY_BOUNDS = (
    ("max_attempts", 1, 1_000),
    ("initial_seconds", 0, _DAY),
    ("factor", 1, 100),
    ("max_seconds", 0, 30 * _DAY),
    ("jitter_ratio", 0, 1),
)
_CAMEL = {
    "max_attempts": "maxAttempts",
    "initial_seconds": "initialSeconds",
    "max_seconds": "maxSeconds",
    "jitter_ratio": "jitterRatio",
}


class Refused(Exception):
    """Carries the typed error out of a check."""

    def __init__(self, error: UserError) -> None:
        super().__init__(error.message)
        self.error = error


def refuse(problem: str, remedy: str, field: str, value: object, code: ErrorCode = ErrorCode.INVALID) -> Refused:
    """The refusal of one field's value; `field` is dotted."""
    return Refused(user_error(code, problem, remedy, field.split("."), value))


def check_name(kind: str, field: str, value: object) -> str:
    """A name of a handler or queue."""
    if isinstance(value, str) and _NAME.fullmatch(value):
        return value
    raise refuse(
        f"{kind} name {value!r:.80} is not valid" if value else f"{kind} name is empty",
        "use 1 to 100 letters, digits, '_', '-' or '.', beginning with a letter or digit",
        field,
        value,
    )


def check_uuid(field: str, value: object) -> str:
    """A UUID in its usual form."""
    try:
        return str(UUID(str(value)))
    except ValueError:
        raise refuse(f"{field} {value!r:.80} is not a UUID", "use one such as a UUIDv7", field, value) from None


def check_new_job_id(field: str, value: object, now_ms: int) -> str:
    """The id of a new job: a UUIDv7 that was not made in the future. Whether it is too old, its owner knows."""
    job_id = check_uuid(field, value)
    fault = fault_of_new_job_id(job_id, now_ms)
    if fault is None:
        return job_id
    problem, _, remedy = fault.removesuffix(".").partition("; ")
    raise refuse(problem, remedy, field, value)


def check_time(field: str, value: object) -> int:
    """An instant as ms since the epoch."""
    try:
        if not isinstance(value, str):
            raise ValueError
        at = datetime.fromisoformat(value)
    except ValueError:
        raise refuse(
            f"{field} {value!r:.80} is not a time", "write it like 2026-01-31T09:30:00Z or with +01:00", field, value
        ) from None
    if at.tzinfo is None:
        raise refuse(f"{field} '{value}' has no zone", "end it with Z or an offset such as +01:00", field, value)
    try:
        return round(at.timestamp() * 1000)
    except (OverflowError, ValueError):
        raise refuse(f"{field} '{value}' is out of range", "use a time after 1970", field, value) from None


def check_number(field: str, value: Any, low: float, high: float) -> float:
    """A finite number within bounds."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and low <= value <= high:
        return value
    raise refuse(f"{field} {value} is out of range", f"use {low:g} to {high:,.0f}", field, value)


def check_text(field: str, value: str, longest: int) -> str:
    """A short text without control characters."""
    if len(value) > longest:
        raise refuse(f"{field} has {len(value):,} characters", f"use at most {longest:,}", field, value)
    if _CONTROL.search(value):
        raise refuse(f"{field} contains a control character", "leave it out", field, value)
    return value


def given(value: object) -> bool:
    """Whether a field was given, and not null."""
    return value is not None and value is not UNSET


def check_tags(tags: Sequence[TagInput] | None, prefix: str = "tags") -> dict[str, str]:
    """Tags by name."""
    if not tags:
        return {}
    if len(tags) > limits.MAX_TAGS:
        raise refuse(f"{prefix} has {len(tags)} entries", f"use at most {limits.MAX_TAGS}", prefix, len(tags))
    found: dict[str, str] = {}
    for index, tag in enumerate(tags):
        name = check_text(f"{prefix}.{index}.name", tag.name, limits.MAX_TAG_LENGTH)
        if not name:
            raise refuse("A tag has an empty name", "name it", f"{prefix}.{index}.name", name)
        if name in found:
            raise refuse(f"Tag {name!r} is given twice", "give each name once", f"{prefix}.{index}.name", name)
        found[name] = check_text(f"{prefix}.{index}.value", tag.value, limits.MAX_TAG_LENGTH)
    return found


def check_payload(item: SubmitJobInput) -> Opaque:
    """The payload as JSON text."""
    if given(item.payload_text):
        return Opaque(_payload_text(item))
    if not given(item.payload):
        return Opaque("null")
    try:
        data = _encode(item.payload)
        text = data.decode()
    except (ValueError, TypeError, OverflowError) as error:
        raise refuse(f"payload can't be written as JSON ({error})", "send valid JSON", "payload", "") from None
    except RecursionError:
        raise _too_deep("payload") from None
    _check_size("payload", len(data))
    return Opaque(text)


def _payload_text(item: SubmitJobInput) -> str:
    text = item.payload_text
    assert text is not None
    if given(item.payload):
        raise refuse("payload and payloadText are both given", "give one of them", "payloadText", text)
    try:
        data = text.encode()
        _check_size("payloadText", len(data))
        msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise refuse(f"payloadText is not valid JSON ({error})", "send valid JSON", "payloadText", text) from None
    except RecursionError:
        raise _too_deep("payloadText") from None
    return text


def _too_deep(field: str) -> Refused:
    return refuse(f"{field} is nested too deeply", "send fewer levels", field, "")


def _check_size(field: str, size: int) -> None:
    if size > limits.MAX_PAYLOAD_BYTES:
        raise refuse(
            f"{field} has {size:,} bytes as JSON",
            f"send at most {limits.MAX_PAYLOAD_BYTES:,} bytes (256 KiB), and keep larger data elsewhere",
            field,
            f"{size} bytes",
            ErrorCode.PAYLOAD_TOO_LARGE,
        )


def check_due(item: SubmitJobInput, now_ms: int) -> int | None:
    """When the job may start, ms since the epoch; None: at once."""
    if given(item.delay_seconds):
        if given(item.at):
            raise refuse("at and delaySeconds are both given", "give one of them", "delaySeconds", item.delay_seconds)
        seconds = check_number("delaySeconds", item.delay_seconds, 0, limits.MAX_DUE_AHEAD_MS / 1000)
        return now_ms + round(seconds * 1000)
    if not given(item.at):
        return None
    due = check_time("at", item.at)
    if due > now_ms + limits.MAX_DUE_AHEAD_MS:
        raise refuse(f"at '{item.at}' is over ten years ahead", "use a time within ten years", "at", item.at)
    return due if due > now_ms else None


def check_retry(retry: Any) -> RetryPolicy:
    """The policy, with defaults where nothing was given."""
    if not given(retry):
        return _DEFAULT_RETRY
    values = {}
    for field, low, high in _RETRY_BOUNDS:
        value = getattr(retry, field)
        if given(value):
            values[field] = check_number(f"retry.{_CAMEL.get(field, field)}", value, low, high)
    given_up = _error_types(retry.give_up_on) if given(retry.give_up_on) else ()
    return RetryPolicy(**values, give_up_on=given_up)  # type: ignore[arg-type]


def _error_types(names: Sequence[str]) -> tuple[str, ...]:
    field = "retry.giveUpOn"
    if len(names) > limits.MAX_GIVE_UP_ON:
        raise refuse(f"{field} has {len(names)} entries", f"use at most {limits.MAX_GIVE_UP_ON}", field, len(names))
    for index, name in enumerate(names):
        if not name.isidentifier() or len(name) > limits.MAX_ERROR_TYPE_LENGTH:
            raise refuse(
                f"{field}.{index} {name!r:.80} is not the name of an error's type",
                "write it like ValueError, without its module",
                f"{field}.{index}",
                name,
            )
    return tuple(dict.fromkeys(names))


def digest(text: str | bytes) -> str:
    """sha256 in hex."""
    return hashlib.sha256(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")).hexdigest()


def submit_body(item: SubmitJobInput, now_ms: int) -> SubmitJob:
    """The command body of a submission; raises Refused."""
    handler = check_name("Handler", "handler", item.handler)
    queue = item.queue if item.queue == "default" else check_name("Queue", "queue", item.queue)
    if not 1 <= item.priority <= 5:
        raise refuse(
            f"priority {item.priority} is out of range", "use 1 (first) to 5 (last)", "priority", item.priority
        )
    timeout = None
    if given(item.timeout_seconds):
        timeout = check_number("timeoutSeconds", item.timeout_seconds, 0.001, MAX_TIMEOUT_SECONDS)
    expected = None
    if given(item.expected_duration_seconds):
        expected = check_number(
            "expectedDurationSeconds", item.expected_duration_seconds, 0.001, MAX_EXPECTED_DURATION_SECONDS
        )
    parent = check_uuid("parentId", item.parent_id) if given(item.parent_id) else None
    tags = check_tags(item.tags) if item.tags else {}
    body = SubmitJob(
        handler=handler,
        queue=queue,
        payload=check_payload(item),
        priority=item.priority,
        due_at_ms=check_due(item, now_ms),
        retry=check_retry(item.retry),
        timeout_seconds=timeout,
        expected_duration_seconds=expected,
        lineage=Lineage(parent=parent, tags=tags) if parent or tags else _NO_LINEAGE,
    )
    if given(item.idempotency_key):
        return _with_key(item, body)
    if given(item.command_id):  # a command id that is used again for another job has to be noticed too
        return msgspec.structs.replace(body, request_digest=_request_digest(item, body))
    return body


def _with_key(item: SubmitJobInput, body: SubmitJob) -> SubmitJob:
    key = item.idempotency_key
    assert key is not None
    if not 1 <= len(key) <= limits.MAX_KEY_LENGTH:
        raise refuse(
            f"idempotencyKey has {len(key):,} characters",
            f"use 1 to {limits.MAX_KEY_LENGTH}",
            "idempotencyKey",
            key,
        )
    return msgspec.structs.replace(body, key_digest=digest(key), request_digest=_request_digest(item, body))


def _request_digest(item: SubmitJobInput, body: SubmitJob) -> str:
    """Over what makes two requests the same: times as they were asked for, the payload's value."""
    when = ["at", item.at] if given(item.at) else ["delay", item.delay_seconds] if given(item.delay_seconds) else None
    asked: list[object] = [
        body.handler,
        body.queue,
        msgspec.json.decode(body.payload.data),
        body.priority,
        when,
        body.retry,
        body.timeout_seconds,
        body.lineage,
    ]
    if later := later_options(body):
        asked.append(later)
    return digest(_encode_sorted(asked))

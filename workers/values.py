"""Between Python values and the JSON text that the log holds: payloads, results, checkpoints, errors."""

from __future__ import annotations

import json
import traceback
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_jsonable_python

from jobledger.domain.job.commands import MAX_CHECKPOINT_BYTES
from jobledger.domain.values import Opaque
from jobledger.schemas.limits import MAX_ERROR_BYTES, MAX_RESULT_BYTES
from jobledger.workers.errors import CheckpointError, PayloadError, ResultError

MAX_PROBLEMS_SHOWN = 5
_ENCODINGS = ("json",)


def to_json(value: object) -> str:
    """Compact JSON text of a value: models, dataclasses, dates, UUIDs, enums as pydantic writes them.

    Raises ValueError, with a sentence about the value, for what has no JSON form: objects, NaN, lone surrogates.
    """
    try:
        plain = to_jsonable_python(value, inf_nan_mode="constants")
        text = json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        text.encode()
    except PydanticSerializationError as error:
        raise ValueError(str(error)) from error
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    return text


def read_payload(adapter: TypeAdapter[Any], payload: Opaque, handler: str) -> Any:
    """The payload as the type that the handler declares; raises PayloadError naming the first fields that are wrong."""
    if payload.encoding not in _ENCODINGS:
        raise PayloadError(f"Payload for '{handler}' has encoding '{payload.encoding}', but only json is known.")
    try:
        return adapter.validate_json(payload.data)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False, include_context=False)
        shown = "; ".join(
            f"{'.'.join(map(str, problem['loc'])) or 'payload'}: {problem['msg']}"
            for problem in problems[:MAX_PROBLEMS_SHOWN]
        )
        more = f" (and {len(problems) - MAX_PROBLEMS_SHOWN} more)" if len(problems) > MAX_PROBLEMS_SHOWN else ""
        raise PayloadError(f"Payload doesn't fit handler '{handler}': {shown}{more}.") from None


def encode_result(value: object, handler: str) -> Opaque | None:
    """What a handler returned as text of the log; None stays None. Raises ResultError."""
    if value is None:
        return None
    try:
        text = to_json(value)
    except ValueError as error:
        raise ResultError(
            f"Handler '{handler}' returned a {type(value).__name__} that is not JSON: {error}. "
            f"Return dicts, lists, strings, numbers, models or dataclasses."
        ) from error
    size = len(text.encode())
    if size > MAX_RESULT_BYTES:
        raise ResultError(
            f"Handler '{handler}' returned {size} bytes of JSON, but a result has at most {MAX_RESULT_BYTES}: "
            f"store it elsewhere and return where it is."
        )
    return Opaque(text)


def encode_checkpoint(data: object) -> Opaque:
    """The data of a checkpoint as text of the log; raises CheckpointError."""
    try:
        text = to_json(data)
    except ValueError as error:
        raise CheckpointError(f"Checkpoint is not JSON: {error}.") from error
    size = len(text.encode())
    if size > MAX_CHECKPOINT_BYTES:
        raise CheckpointError(f"Checkpoint has {size} bytes of JSON, but at most {MAX_CHECKPOINT_BYTES} are kept.")
    return Opaque(text)


def describe_error(error: BaseException) -> Opaque:
    """`{"message": …, "traceback": …}` of an exception, cut to the limit of the log.

    The traceback has frames and source lines, no values of variables.
    """
    try:
        message = str(error)
    except Exception as failed:  # noqa: BLE001 - an error whose text can't be had is reported all the same
        message = f"(its text can't be had: {type(failed).__name__})"
    frames = "".join(traceback.format_tb(error.__traceback__))
    return error_text(message, frames[-MAX_ERROR_BYTES // 4 :])


def error_text(message: str, frames: str = "") -> Opaque:
    """The same for what is no exception of ours: a time-out, a process that died."""
    # Lone surrogates as text: escaped as JSON they would be refused by strict readers, the API's among them.
    message, frames = (text.encode(errors="backslashreplace").decode() for text in (message, frames))
    body = {"message": message[: MAX_ERROR_BYTES // 8], **({"traceback": frames} if frames else {})}
    # Plain ASCII: whatever else is in the message can be written, at six bytes a character at most.
    text = json.dumps(body, separators=(",", ":"))
    if len(text) > MAX_ERROR_BYTES:
        text = json.dumps({"message": body["message"]}, separators=(",", ":"))
    return Opaque(text)

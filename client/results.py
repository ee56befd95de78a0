"""Results of handlers as the types that the handlers declare."""

from __future__ import annotations

import functools
import json
import typing
from typing import Any

from pydantic import (
    PydanticSchemaGenerationError,
    PydanticUndefinedAnnotation,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
)

from jobledger.client.errors import ResultMismatch
from jobledger.workers.handler import Handler

_UNUSABLE = (NameError, TypeError, PydanticUserError, PydanticUndefinedAnnotation, PydanticSchemaGenerationError)


def read_result(handler: Handler[..., Any] | None, job_id: str, result: Any) -> Any:
    """The JSON value of a result as the type that the handler's annotation names; raises ResultMismatch.

    As it is when only the handler's name is known, or nothing can be told from the annotation.
    """
    adapter = None if handler is None else _adapter(handler)
    if handler is None or adapter is None:
        return result
    try:
        return adapter.validate_json(json.dumps(result))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) or "result"
        raise ResultMismatch(job_id, handler.name, f"{where}: {first['msg']}", result) from None


@functools.lru_cache(maxsize=1_000)
def _adapter(handler: Handler[..., Any]) -> TypeAdapter[Any] | None:
    try:
        hints = typing.get_type_hints(handler.function, include_extras=True)
        return TypeAdapter(hints["return"]) if "return" in hints else None
    except _UNUSABLE:
        return None

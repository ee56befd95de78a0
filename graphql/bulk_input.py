"""The items of a bulk as light structs.

Strawberry converts an input object field by field in Python, 60 µs a job, after graphql-core has checked it. For a
thousand jobs that is most of the work of the api, so `submitJobs` takes graphql-core's checked values as they are.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, cast

import msgspec
import strawberry
from graphql import GraphQLResolveInfo
from strawberry import UNSET
from strawberry.types import get_object_definition, has_object_definition
from strawberry.types.base import StrawberryList, StrawberryOptional

from jobledger.graphql.mutations import submit_jobs
from jobledger.graphql.types.inputs import SubmitJobInput


def fields_of(inputs: type[Any]) -> type[msgspec.Struct]:
    """A struct with the fields of an input type, and of those in it; what was not given is None.

    What the fields may hold has been checked.
    """
    fields = []
    for one in get_object_definition(inputs, strict=True).fields:
        default = None if one.default is UNSET else one.default
        required = one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING
        kind = _kind_of(one.type)
        fields.append((one.python_name, kind) if required else (one.python_name, kind, default))
    return msgspec.defstruct(inputs.__name__.replace("Input", "Fields"), fields, rename="camel", kw_only=True)


def _kind_of(declared: Any) -> Any:
    if isinstance(declared, StrawberryOptional):
        return _kind_of(declared.of_type) | None
    if isinstance(declared, StrawberryList):
        return list[_kind_of(declared.of_type)]  # type: ignore[misc]
    return fields_of(declared) if has_object_definition(declared) else Any


SubmitJobFields = fields_of(SubmitJobInput)
_read = partial(msgspec.convert, type=list[SubmitJobFields])  # type: ignore[valid-type]


async def _resolve(root: object, info: GraphQLResolveInfo[Any], *, input: list[dict[str, Any]]) -> object:
    return await submit_jobs(info.context, cast(list[SubmitJobInput], _read(input)))


def take_bulks_directly(schema: strawberry.Schema) -> None:
    """Let `submitJobs` resolve without Strawberry's conversion of its argument."""
    mutation = schema._schema.mutation_type
    assert mutation is not None
    mutation.fields["submitJobs"].resolve = _resolve

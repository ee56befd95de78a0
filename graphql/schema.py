"""The schema, built once per process."""

from __future__ import annotations

import strawberry
from strawberry.schema.config import StrawberryConfig

from jobledger.graphql.admission import Admission
from jobledger.graphql.mutations import Mutation
from jobledger.graphql.queries import Query
from jobledger.graphql.scalars import SCALARS
from jobledger.graphql.subscriptions import Subscription


def build_schema(*, sort: bool = False) -> strawberry.Schema:
    """The executable schema. `sort`: types in alphabetical order, for the exported file alone.

    Sorting makes new enum types that no longer know Strawberry's enums, so the one that is executed is not sorted.
    """
    return strawberry.Schema(
        query=Query,
        mutation=Mutation,
        subscription=Subscription,
        extensions=[Admission],
        config=StrawberryConfig(scalar_map=SCALARS, sort_schema=sort),
    )

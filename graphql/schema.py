"""The schema, built once per process."""

from __future__ import annotations

import strawberry
from graphql import GraphQLError
from strawberry.schema.config import StrawberryConfig
from strawberry.types import ExecutionContext

from jobledger.graphql.admission import Admission
from jobledger.graphql.bulk_input import take_bulks_directly
from jobledger.graphql.document_limits import Documents
from jobledger.graphql.mutations import Mutation
from jobledger.graphql.queries import Query
from jobledger.graphql.scalars import SCALARS
from jobledger.graphql.subscriptions import Subscription


class Schema(strawberry.Schema):
    """Strawberry's schema without a log line for every error: users' errors are answers, `Admission` logs the rest."""

    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        """Log nothing here."""


def build_schema(*, sort: bool = False) -> strawberry.Schema:
    """The executable schema. `sort`: types in alphabetical order, for the exported file alone.

    Sorting makes new enum types that no longer know Strawberry's enums, so the one that is executed is not sorted.
    """
    documents = Documents()
    schema = Schema(
        query=Query,
        mutation=Mutation,
        subscription=Subscription,
        extensions=[lambda: Admission(documents)],
        config=StrawberryConfig(scalar_map=SCALARS, sort_schema=sort),
    )
    if not sort:
        take_bulks_directly(schema)
    return schema

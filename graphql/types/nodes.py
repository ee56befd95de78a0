"""What the schema has of the Relay specification."""

from __future__ import annotations

import strawberry

from jobledger.graphql.scalars import Cursor


@strawberry.interface(description="Something with an id of its own.")
class Node:
    """Global object identification: `node(id)` gives it back."""

    id: strawberry.ID


@strawberry.type(description="Where a page of a connection stands.")
class PageInfo:
    """Of the Relay cursor connections specification."""

    has_next_page: bool
    has_previous_page: bool
    start_cursor: Cursor | None
    end_cursor: Cursor | None

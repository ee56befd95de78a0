"""The Starlette application of an api process."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.responses import RedirectResponse
from starlette.routing import Route, WebSocketRoute

from jobledger.graphql.components import Components
from jobledger.graphql.graphiql import graphiql_routes
from jobledger.graphql.http import GraphQLView
from jobledger.graphql.schema import build_schema
from jobledger.graphql.trace_intake import intake_route
from jobledger.telemetry.health import Health
from jobledger.telemetry.health_server import health_routes


def build_app(components: Components, health: Health, *, graphiql: bool = True) -> Starlette:
    """`/graphql` for everything, `/health/*` and `/metrics`; `/` leads to GraphiQL."""
    view = GraphQLView(build_schema(), components, graphiql=graphiql)
    return Starlette(
        routes=[
            Route("/graphql", view),
            WebSocketRoute("/graphql", view),
            *(graphiql_routes() if graphiql else []),
            Route("/", lambda request: RedirectResponse("/graphql"), methods=["GET"]),
            *health_routes(health, components.metrics),
            *([intake_route(components.traces)] if components.traces is not None else []),
        ]
    )

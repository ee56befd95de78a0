"""GraphQL over HTTP, server-sent events and WebSockets: Strawberry's view with the negotiation it lacks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, cast

import msgspec
import strawberry
from cross_web import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL
from strawberry.exceptions import ConnectionRejectionError
from strawberry.http import GraphQLHTTPResponse
from strawberry.subscriptions import GRAPHQL_SSE_PROTOCOL, GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import BaseGraphQLTransportWSHandler
from strawberry.subscriptions.protocols.graphql_transport_ws.types import SubscribeMessage
from strawberry.types.unset import UnsetType

from jobledger.graphql.access import ENDPOINT, AccessError
from jobledger.graphql.components import Components
from jobledger.graphql.context import RequestContext, new_context
from jobledger.graphql.graphiql import graphiql_page
from jobledger.schemas.limits import MAX_SUBMIT_BYTES
from jobledger.telemetry.traceparent import parse_traceparent

#: A full bulk, and room for the document and the rest of the inputs.
MAX_BODY_BYTES = MAX_SUBMIT_BYTES + 1024 * 1024
#: The text is read character by character in the event loop; values belong into variables.
MAX_QUERY_LENGTH = 256 * 1024
MAX_CORRELATION_LENGTH = 200
CONNECTION_INIT_TIMEOUT = timedelta(seconds=10)
MAX_SUBSCRIPTIONS_PER_CONNECTION = 100
RESPONSE_TYPE = "application/graphql-response+json"


class LimitedWebSocket(BaseGraphQLTransportWSHandler[RequestContext, None]):
    """A connection whose operations are counted."""

    async def handle_subscribe(self, message: SubscribeMessage) -> None:
        """Begin an operation, or say that it is one too many."""
        view = cast(GraphQLView, self.view)
        if self.connection_acknowledged and (error := await view.over_limit(self.context)) is not None:
            await self.send_message({"id": message["id"], "type": "error", "payload": [error.formatted]})
            return
        await super().handle_subscribe(message)


class TooLarge(Exception):
    """The body is over its bound."""


class GraphQLView(GraphQL[RequestContext, None]):
    """One endpoint for queries, mutations and subscriptions."""

    graphql_transport_ws_handler_class = LimitedWebSocket

    def __init__(self, schema: strawberry.Schema, components: Components, *, graphiql: bool = True) -> None:
        super().__init__(
            schema,
            graphql_ide="graphiql" if graphiql else None,
            subscription_protocols=[GRAPHQL_TRANSPORT_WS_PROTOCOL, GRAPHQL_SSE_PROTOCOL],
            connection_init_wait_timeout=CONNECTION_INIT_TIMEOUT,
            max_subscriptions_per_connection=MAX_SUBSCRIPTIONS_PER_CONNECTION,
        )
        self._components = components

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; errors of the transport are JSON too."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        request = Request(scope, _bounded(receive))
        try:
            _check_length(request)
            response = await self.run(request)
        except TooLarge:
            response = self._refusal(413, f"The body is over {MAX_BODY_BYTES:,} bytes; send less at once.")
        except AccessError as error:
            response = self._refusal(error.status, error.message, error.headers, code=error.code, endpoint=ENDPOINT)
        except HTTPException as error:
            response = self._refused(request, error)
        await response(scope, receive, send)

    async def get_context(self, request: Request | WebSocket, response: Response | WebSocket) -> RequestContext:
        """The context of a request, or of a connection. Raises AccessError for a request that may not be."""
        context = new_context(self._components, request.method if isinstance(request, Request) else "WEBSOCKET")
        context.peer = request.client.host if request.client is not None else ""
        context.authorization = request.headers.get("authorization", "")
        if context.method == "POST":  # a GET gets no more than the page of GraphiQL
            access = self._components.access
            context.actor = access.actor(context.authorization)
            await access.count(context.tenant, context.peer)
        traceparent = request.headers.get("traceparent", "")
        if traceparent and parse_traceparent(traceparent) is not None:
            context.traceparent = traceparent
        correlation = request.headers.get("x-correlation-id", "")
        if 0 < len(correlation) <= MAX_CORRELATION_LENGTH and correlation.isprintable():
            context.correlation_id = correlation
        return context

    async def on_ws_connect(self, context: RequestContext) -> UnsetType | dict[str, object] | None:
        """A connection has begun; its key comes with the handshake or, from a browser, with this message."""
        params = context.connection_params
        given = {str(k).lower(): v for k, v in params.items()} if isinstance(params, Mapping) else {}
        authorization = context.authorization or given.get("authorization", "")
        try:
            context.actor = self._components.access.actor(authorization if isinstance(authorization, str) else "")
        except AccessError as error:
            self._count(context.method, ENDPOINT, error.status)
            raise ConnectionRejectionError({"message": error.message}) from error
        return await super().on_ws_connect(context)

    async def over_limit(self, context: RequestContext) -> AccessError | None:
        """Count an operation of a connection; the error when it is one too many."""
        try:
            await self._components.access.count(context.tenant, context.peer)
        except AccessError as error:
            self._count(context.method, ENDPOINT, error.status)
            return error
        return None

    def decode_json(self, data: str | bytes) -> object:
        """Strict JSON: no NaN, no lone surrogates."""
        try:
            return msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeError) as error:
            raise json.JSONDecodeError(str(error), "", 0) from None
        except RecursionError:
            raise json.JSONDecodeError("it is nested too deeply", "", 0) from None

    def parse_json(self, data: str | bytes) -> Any:
        """The body; says what is wrong with it."""
        try:
            found = self.decode_json(data)
        except json.JSONDecodeError as error:
            raise HTTPException(400, f"The request is not valid JSON: {error.msg}.") from None
        if not isinstance(found, dict | list):
            raise HTTPException(400, "The request must be a JSON object with a `query`.")
        query = found.get("query") if isinstance(found, dict) else None
        if isinstance(query, str) and len(query) > MAX_QUERY_LENGTH:
            raise HTTPException(
                400,
                f"The query has {len(query):,} characters, over the bound of {MAX_QUERY_LENGTH:,}: "
                f"put its values into variables.",
            )
        return found

    def encode_json(self, data: object) -> str:
        """Text, as WebSockets want it."""
        return msgspec.json.encode(data).decode()

    def create_response(self, response_data: Any, sub_response: Response) -> Response:
        """The answer in the media type that the caller accepts, with the status that this type gives it."""
        content = cast("GraphQLHTTPResponse", response_data)
        accept = sub_response.headers.get("x-accept", "")
        refused = "data" not in content
        modern = RESPONSE_TYPE in accept
        status = 400 if modern and refused else 200
        media_type = RESPONSE_TYPE if modern else "application/json"
        return Response(msgspec.json.encode(content), status, media_type=f"{media_type}; charset=utf-8")

    async def process_result(self, request: Any, result: Any) -> GraphQLHTTPResponse:
        """The answer to an operation, or one event of a stream: a request that is refused has no `data` at all."""
        content = await super().process_result(request, result)
        errors = cast("list[Mapping[str, object]]", content.get("errors") or [])
        if content.get("data") is None and any("path" not in error for error in errors):
            content.pop("data", None)
        return content

    async def get_sub_response(self, request: Request | WebSocket) -> Response:
        """Carries the Accept header to `create_response`, which does not get the request."""
        sub_response = await super().get_sub_response(request)
        sub_response.headers["x-accept"] = request.headers.get("accept", "")
        return sub_response

    async def create_streaming_response(self, request: Any, stream: Any, sub_response: Response, headers: Any) -> Any:
        """A stream of events; without the note that `get_sub_response` left."""
        del sub_response.headers["x-accept"]
        return await super().create_streaming_response(request, stream, sub_response, headers)

    async def render_graphql_ide(self, request: Request) -> Response:
        """The page of GraphiQL."""
        return graphiql_page()

    def _refused(self, request: Request, error: HTTPException) -> Response:
        reason = error.reason
        status = error.status_code
        headers = {}
        if request.method == "GET" and "not allowed" in reason:
            status, headers = 405, {"allow": "POST"}
        elif reason == "Unsupported content type":
            status, reason = 415, "Send the request as application/json."
        return self._refusal(status, reason, headers)

    def _count(self, method: str, endpoint: str, status: int) -> None:
        labels = {"method": method, "endpoint": endpoint, "status_code": str(status)}
        self._components.metrics.inc("api_requests_total", **labels)

    def _refusal(
        self,
        status: int,
        reason: str,
        headers: Mapping[str, str] | None = None,
        *,
        code: str = "INVALID",
        endpoint: str = "/graphql:_invalid",
    ) -> Response:
        self._count("POST", endpoint, status)
        body = {"errors": [{"message": reason, "extensions": {"code": code}}]}
        return Response(msgspec.json.encode(body), status, dict(headers or {}), "application/json; charset=utf-8")


def _check_length(request: Request) -> None:
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or int(length) > MAX_BODY_BYTES:
        raise TooLarge


def _bounded(receive: Receive) -> Receive:
    """Counts a body whose length nobody announced."""
    size = 0

    async def count() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > MAX_BODY_BYTES:
            raise TooLarge
        return message

    return count

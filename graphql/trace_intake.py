"""`POST /v1/traces` of `jobledger dev`: OTLP over HTTP (protobuf), as every OpenTelemetry exporter sends it.

For this machine alone: whoever else asks is refused.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from jobledger.graphql.trace_store import StoredSpan, TraceStore, Value

if TYPE_CHECKING:
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

PATH = "/v1/traces"
MAX_BODY_BYTES = 4 * 1024 * 1024
MAX_TEXT = 1_000
MAX_ATTRIBUTES = 32
_PROTOBUF = "application/x-protobuf"
_TRACE_ID_BYTES, _SPAN_ID_BYTES = 16, 8


def intake_route(store: TraceStore) -> Route:
    """The route that fills a store."""

    async def take(request: Request) -> Response:
        if not _is_near(request):
            return _refusal(403, "Traces are taken from this machine alone.")
        kind = request.headers.get("content-type", "").partition(";")[0].strip()
        if kind != _PROTOBUF or request.headers.get("content-encoding", "identity") != "identity":
            return _refusal(415, f"Send OTLP as {_PROTOBUF}, not compressed.")
        body = await _read(request)
        if body is None:
            return _refusal(413, f"The body is over {MAX_BODY_BYTES:,} bytes; send fewer spans at once.")
        return _store(store, body)

    return Route(PATH, take, methods=["POST"])


def _is_near(request: Request) -> bool:
    try:
        return request.client is not None and ip_address(request.client.host).is_loopback
    except ValueError:
        return False


async def _read(request: Request) -> bytes | None:
    """The body; None if it is over the bound."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            return None
    return bytes(body)


def _store(store: TraceStore, body: bytes) -> Response:
    # Imported here: only the api of a dev stack needs it, and only once something exports.
    from google.protobuf.message import DecodeError  # noqa: PLC0415
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (  # noqa: PLC0415
        ExportTraceServiceRequest,
        ExportTraceServiceResponse,
    )

    sent = ExportTraceServiceRequest()
    try:
        sent.ParseFromString(body)
    except DecodeError:
        return _refusal(400, "The body is no ExportTraceServiceRequest.")
    for resource in sent.resource_spans:
        names = {one.key: one.value.string_value for one in resource.resource.attributes}
        service = names.get("service.name", "")[:MAX_TEXT]
        for scope in resource.scope_spans:
            for span in scope.spans:
                if len(span.trace_id) == _TRACE_ID_BYTES and len(span.span_id) == _SPAN_ID_BYTES:
                    store.add(_read_span(span, service))
    return Response(ExportTraceServiceResponse().SerializeToString(), media_type=_PROTOBUF)


def _read_span(span: Span, service: str) -> StoredSpan:
    return StoredSpan(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex() or None,
        name=span.name[:MAX_TEXT],
        service=service,
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        attributes={one.key[:MAX_TEXT]: _value(one.value) for one in span.attributes[:MAX_ATTRIBUTES]},
        links=tuple(link.trace_id.hex() for link in span.links[:MAX_ATTRIBUTES]),
        failed=span.status.code == span.status.STATUS_CODE_ERROR,
    )


def _value(value: AnyValue) -> Value:
    kind = value.WhichOneof("value")
    if kind == "string_value":
        return value.string_value[:MAX_TEXT]
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values[:MAX_ATTRIBUTES]]
    if kind in ("int_value", "double_value", "bool_value"):
        plain: Any = getattr(value, kind)
        return plain if isinstance(plain, int | bool) else float(plain)
    return None


def _refusal(status: int, sentence: str) -> Response:
    return JSONResponse({"errors": [{"message": sentence}]}, status)

"""What every operation passes: bounds on the document, the cache of documents, masking of errors, accounting."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

from graphql import ExecutionResult as CoreResult
from graphql import GraphQLError, OperationDefinitionNode
from strawberry.extensions import SchemaExtension
from strawberry.types import ExecutionResult
from strawberry.types.graphql import OperationType

from jobledger.graphql.context import RequestContext
from jobledger.graphql.document_limits import MAX_TOKENS, Documents, check_document, root_fields, unclear_operation
from jobledger.graphql.request_spans import Request
from jobledger.graphql.types.errors import HTTP_STATUS, ErrorCode
from jobledger.telemetry.logs import get_logger
from jobledger.telemetry.traceparent import current_traceparent, sampled_trace_id

MASKED = "Internal error; it is in the api's log."

log = get_logger()


class Admission(SchemaExtension):
    """One for each operation; the cache is the schema's."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._passed = False
        self._streamed = False
        self._endpoint = "/graphql:_invalid"
        self._status = 400

    @property
    def _context(self) -> RequestContext | None:
        return cast("RequestContext | None", self.execution_context.context)

    def on_operation(self) -> Iterator[None]:
        """Count the operation by its root fields, trace it, and mask what is not for the caller."""
        began = time.perf_counter()
        request = self._begin()
        try:
            yield
            result = self.execution_context.result
            if not self._streamed and isinstance(result, CoreResult | ExecutionResult):
                self._mask(result)
            if self._context is not None and not self._is(OperationType.SUBSCRIPTION):
                errors = self.execution_context.pre_execution_errors or getattr(result, "errors", None) or []
                self._account(self._context, errors, time.perf_counter() - began)
        finally:
            if request is not None and self._context is not None:
                self._end(self._context, request)

    def _begin(self) -> Request | None:
        """Give the operation a context of its own: a WebSocket has one for all that run on it, side by side."""
        context = self._context
        if context is None:
            return None
        context.owner_questions.begin()
        request = context.components.spans.begin(context.traceparent)
        self.execution_context.context = replace(context, traceparent=request.traceparent, statuses={})
        current_traceparent.set(request.traceparent)
        return request

    def _end(self, context: RequestContext, request: Request) -> None:
        # Set, not reset: a stream may be closed from another context than that of its beginning.
        current_traceparent.set("")
        context.components.spans.end(
            request,
            context.method,
            self._endpoint,
            self._status,
            waits=self._is(OperationType.MUTATION),
            stream=self._is(OperationType.SUBSCRIPTION),
        )

    def on_parse(self) -> Iterator[None]:
        """A document that passed before is not parsed again."""
        context = self.execution_context
        found = self._documents.get(context.query or "")
        if found is not None:
            context.graphql_document = found
            self._passed = True
        else:
            context.parse_options["max_tokens"] = MAX_TOKENS
        yield

    def on_validate(self) -> Iterator[None]:
        """Nor validated again."""
        context = self.execution_context
        assert context.graphql_document is not None
        # Strawberry takes the first operation when none is named, and tells nobody whether one was.
        named = context._provided_operation_name is not None
        if not named and (error := unclear_operation(context.graphql_document)):
            context.pre_execution_errors = [error]
        elif self._passed:
            context.pre_execution_errors = []
        elif errors := check_document(context.graphql_document):
            context.pre_execution_errors = errors
        yield
        if not context.pre_execution_errors and context.query:
            self._documents.put(context.query, context.graphql_document)

    def on_execute(self) -> Iterator[None]:
        """Subscriptions are counted when they open."""
        if self._context is not None and self._is(OperationType.SUBSCRIPTION):
            self._account(self._context, [], 0.0)
        yield

    def on_stream_result(self, result: Any) -> Iterator[None]:
        """Mask errors of single results of a stream."""
        self._streamed = True
        self._mask(result)
        yield

    def _is(self, kind: OperationType) -> bool:
        try:
            return self.execution_context.operation_type is kind
        except RuntimeError:
            return False

    def _mask(self, result: Any) -> None:
        if result.errors:
            result.errors = [self._masked(error) for error in result.errors]

    def _masked(self, error: GraphQLError) -> GraphQLError:
        original = error.original_error
        if original is None or isinstance(original, GraphQLError):
            if error.path is None:  # of the document or its variables, by the library: it knows none of our codes
                error.extensions = {"code": ErrorCode.INVALID, **(error.extensions or {})}
            return error
        method = self._context.method if self._context is not None else ""
        endpoint = f"/graphql:{error.path[0]}" if error.path else "/graphql"
        reason = f"{type(original).__name__}: {original}"
        log.error("api_request_failed", method=method, endpoint=endpoint, error=reason, exc_info=original)
        return GraphQLError(MASKED, error.nodes, path=error.path, extensions={"code": "INTERNAL"})

    def _account(self, context: RequestContext, errors: list[GraphQLError], seconds: float) -> None:
        document = self.execution_context.graphql_document
        refused = document is None or any(error.path is None for error in errors)
        operation = None if refused else self._operation()
        fields = root_fields(document, operation) if document is not None and operation is not None else {}
        metrics = context.components.metrics
        if not fields:
            fields = {"_invalid": "_invalid"}
            context.statuses["_invalid"] = 400
        failed = {str(error.path[0]): _status(error) for error in errors if error.path}
        self._status = 0
        for alias, field in fields.items():
            status = failed.get(alias) or context.statuses.get(field, 200)
            self._status = max(self._status, status)
            endpoint = f"/graphql:{field}"
            metrics.inc("api_requests_total", method=context.method, endpoint=endpoint, status_code=str(status))
        endpoint = next(iter(fields.values())) if len(fields) == 1 else "_multiple"
        self._endpoint = f"/graphql:{endpoint}"
        labels = {"method": context.method, "endpoint": self._endpoint}
        trace_id = sampled_trace_id(context.traceparent)
        metrics.observe("api_request_duration_seconds", seconds, exemplar_trace_id=trace_id, **labels)

    def _operation(self) -> Any:
        name, document = self.execution_context.operation_name, self.execution_context.graphql_document
        operations = [d for d in document.definitions if isinstance(d, OperationDefinitionNode)] if document else []
        return next((d for d in operations if d.name is not None and d.name.value == name), operations[0])


def _status(error: GraphQLError) -> int:
    code = str((error.extensions or {}).get("code"))
    return HTTP_STATUS.get(code, 500)

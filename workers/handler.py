"""The `@handler` decorator: a function, its name, and how it is to be run."""

from __future__ import annotations

import functools
import inspect
import re
import typing
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Generic, Literal, ParamSpec, TypeVar, overload

from pydantic import PydanticUndefinedAnnotation, PydanticUserError, TypeAdapter

from jobledger.schemas.limits import NAME_PATTERN
from jobledger.workers.context import Context
from jobledger.workers.durations import seconds_of
from jobledger.workers.errors import HandlerLoadError
from jobledger.workers.retrying import RetryPolicy, policy_of

P = ParamSpec("P")
R = TypeVar("R")
RunIn = Literal["loop", "process", "thread"]

_NAME = re.compile(NAME_PATTERN)
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Handler(Generic[P, R]):
    """A handler. Calling it calls the function itself, as if it were not decorated.

    `run_in`: `loop` for async functions; `process` or `thread` for plain ones. `timeout_seconds` and `retry` apply to
    jobs that name none themselves. `lines`: where its module has decorated functions of this name.
    """

    def __init__(
        self,
        function: Callable[P, R],
        name: str,
        timeout_seconds: float | None,
        run_in: RunIn,
        retry: RetryPolicy | None = None,
    ) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.name = name
        self.timeout_seconds = timeout_seconds
        self.run_in = run_in
        self.retry = retry
        self.takes_payload, self.takes_context = _shape(function, name)
        self.lines = _note_line(function, name)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function, with no validation and no worker."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<handler {self.name!r}: {self.function.__module__}.{self.function.__qualname__}, {self.run_in}>"

    @functools.cached_property
    def adapter(self) -> TypeAdapter[Any]:
        """Validates payloads; raises HandlerLoadError when the annotation can't be used."""
        return _adapter(self)

    def arguments(self, payload: object, context: Context) -> list[object]:
        """The arguments for a call with this payload and context."""
        given: list[object] = [payload] if self.takes_payload else []
        return [*given, context] if self.takes_context else given


@overload
def handler(name: Callable[P, R], /) -> Handler[P, R]: ...


@overload
def handler(
    name: str | None = None,
    *,
    timeout: str | float | timedelta | None = None,
    retry: RetryPolicy | int | None = None,
    run_in: Literal["process", "thread"] | None = None,
) -> Callable[[Callable[P, R]], Handler[P, R]]: ...


def handler(
    name: str | Callable[P, R] | None = None,
    *,
    timeout: str | float | timedelta | None = None,
    retry: RetryPolicy | int | None = None,
    run_in: Literal["process", "thread"] | None = None,
) -> Callable[[Callable[P, R]], Handler[P, R]] | Handler[P, R]:
    """Make a function the handler of jobs submitted under `name`; without one, under the function's own name.

        @handler("send_email", timeout="30s", retry=RetryPolicy(max_attempts=5, give_up_on=[BadAddress]))
        async def send_email(payload: Email, ctx: Context) -> Receipt: ...

        @handler
        def resize(payload: Picture) -> str: ...

    The first parameter is the payload, validated as its annotation says; a parameter annotated `Context` gets the
    context; both may be left out. `timeout` (of one attempt): seconds, a timedelta, or text such as "30s", "5m",
    "1h30m". `retry`: a RetryPolicy, or a number of attempts. Both apply to jobs that name none themselves: the client
    sends `retry` with each job that is submitted by the function and not by its name. Async functions run in the
    worker's event loop. Plain ones run in a process of their own that can be killed, or with `run_in="thread"` in a
    thread, which can only be asked to stop. Raises HandlerLoadError for what can't work.
    """
    if callable(name):
        return _decorated(name, None, None, None, None)

    def decorate(function: Callable[P, R]) -> Handler[P, R]:
        return _decorated(function, name, timeout, retry, run_in)

    _check_name(name)
    return decorate


def _decorated(
    function: Callable[P, R],
    name: str | None,
    timeout: str | float | timedelta | None,
    retry: RetryPolicy | int | None,
    run_in: RunIn | None,
) -> Handler[P, R]:
    name = getattr(function, "__name__", "") if name is None else name
    _check_name(name)
    try:
        limit = None if timeout is None else seconds_of(timeout)
    except ValueError as error:
        raise HandlerLoadError(f"timeout of handler '{name}': {error}") from error
    try:
        policy = None if retry is None else policy_of(retry)
    except ValueError as error:
        raise HandlerLoadError(f"retry of handler '{name}': {error}") from error
    if run_in not in (None, "process", "thread"):
        raise HandlerLoadError(f"run_in of handler '{name}' is {run_in!r}, but must be 'process' or 'thread'.")
    return Handler(function, name, limit, _placement(function, name, run_in), policy)


#: Lines at which a module has decorated functions of one name: a later one hides an earlier one.
_lines: dict[tuple[str, str], set[int]] = {}


def _note_line(function: Callable[..., object], name: str) -> set[int]:
    code = getattr(function, "__code__", None)
    if code is None or "<locals>" in function.__qualname__:
        return set()
    lines = _lines.setdefault((function.__module__, name), set())
    lines.add(code.co_firstlineno)
    return lines


def _check_name(name: object) -> None:
    if name is None or (isinstance(name, str) and _NAME.match(name)):
        return
    raise HandlerLoadError(
        f"Handler name {name!r} is not valid: use 1 to 100 letters, digits, '_', '.', '-', "
        f'and give it in brackets: @handler("send_email").'
    )


def _placement(function: Callable[..., object], name: str, run_in: RunIn | None) -> RunIn:
    if not inspect.isroutine(function):
        raise HandlerLoadError(f"@handler('{name}') stands on a {type(function).__name__}; put it on a function.")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise HandlerLoadError(f"Handler '{name}' is a generator; return the result instead of yielding it.")
    if not inspect.iscoroutinefunction(function):
        return run_in or "process"
    if run_in is not None:
        raise HandlerLoadError(
            f"Handler '{name}' is async and runs in the event loop; leave run_in='{run_in}' out, "
            f"or make it a plain def."
        )
    return "loop"


def _shape(function: Callable[..., object], name: str) -> tuple[bool, bool]:
    """Whether the function takes a payload and a context; raises HandlerLoadError for other signatures."""
    parameters = list(inspect.signature(function).parameters.values())
    wrong = [p.name for p in parameters if p.kind not in _POSITIONAL]
    if wrong or len(parameters) > 2:
        raise HandlerLoadError(
            f"Handler '{name}' has the signature {inspect.signature(function)}, but must have (payload), "
            f"(payload, ctx: Context), (ctx: Context) or ()."
        )
    if not parameters:
        return False, False
    if len(parameters) == 2:
        return True, True
    return (False, True) if _is_context(function, parameters[0]) else (True, False)


def _is_context(function: Callable[..., object], parameter: inspect.Parameter) -> bool:
    annotation = parameter.annotation
    if isinstance(annotation, str):
        return annotation.rpartition(".")[2] == Context.__name__
    return annotation is Context


def _adapter(of: Handler[Any, Any]) -> TypeAdapter[Any]:
    if not of.takes_payload:
        return TypeAdapter(Any)
    parameter = next(iter(inspect.signature(of.function).parameters))
    try:
        hints = typing.get_type_hints(of.function, include_extras=True)
        return TypeAdapter(hints.get(parameter, Any))
    except (NameError, TypeError, PydanticUserError, PydanticUndefinedAnnotation) as error:
        raise HandlerLoadError(
            f"The annotation of '{parameter}' in handler '{of.name}' can't be used for payloads: {error}. "
            f"Use a pydantic model, dataclass, TypedDict, dict, a scalar or Any, defined at module level."
        ) from error

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from typing_extensions import TypedDict

from jobledger import Context, handler
from jobledger.domain.spec import TaskSpec
from jobledger.domain.values import Opaque
from jobledger.workers.attempt import Attempt, AttemptEnd, EndStatus, call
from jobledger.workers.context import CancelFlag, Checkpoint
from jobledger.workers.durations import seconds_of
from jobledger.workers.errors import CheckpointError, HandlerLoadError, NonRetryable, Retry
from jobledger.workers.handler import Handler
from jobledger.workers.registry import Registry, load_handlers
from jobledger.workers.retrying import RetryPolicy
from jobledger.workers.task_info import TaskInfo

INFO = TaskInfo(
    job_id="0199",
    tenant="default",
    task="main",
    execution_id="e",
    attempt=2,
    assignment=3,
    spec=TaskSpec(handler="h", payload=Opaque("{}")),
    queue="default",
    worker="w",
    deadline_ms=1_700_000_000_000,
    traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-00",
)


class Model(BaseModel):
    to: str
    at: datetime | None = None


@dataclass
class Point:
    x: int
    y: int = 0


class Options(TypedDict):
    depth: int


def _call(
    function: Any, payload: str, saved: list[Checkpoint] | None = None, checkpoint: str | None = None
) -> AttemptEnd:
    one: Handler[Any, Any] = handler("h")(function)
    attempt = Attempt(
        handler=one,
        info=replace(INFO, spec=TaskSpec(handler="h", payload=Opaque(payload))),
        checkpoint=None if checkpoint is None else Opaque(checkpoint),
        cancel=CancelFlag(),
        save=(saved if saved is not None else []).append,
    )
    return call(attempt)


def _take_model(payload: Model) -> str:
    return type(payload).__name__ + payload.to


def _take_point(payload: Point) -> int:
    return payload.x + payload.y


def _take_options(payload: Options) -> int:
    return payload["depth"]


def _take_scalar(payload: int) -> int:
    return payload + 1


def _take_any(payload: Any) -> Any:
    return payload


def _take_bare(payload):  # type: ignore[no-untyped-def]
    return payload


def _take_context(ctx: Context) -> list[Any]:
    return [ctx.job_id, ctx.attempt, ctx.fencing_token, ctx.execution_id, ctx.cancelled, ctx.trace == INFO.traceparent]


def _take_nothing() -> str:
    return "ran"


@pytest.mark.parametrize(
    ("function", "payload", "result"),
    [
        (_take_model, '{"to": "a@b"}', "Modela@b"),
        (_take_point, '{"x": 1, "y": 2}', 3),
        (_take_options, '{"depth": 4}', 4),
        (_take_scalar, "41", 42),
        (_take_any, "[1, null]", [1, None]),
        (_take_bare, '{"a": 1}', {"a": 1}),
        (_take_context, "null", ["0199", 2, 3, "e", False, True]),
        (_take_nothing, "{}", "ran"),
    ],
)
def test_payload_arrives_as_the_declared_type(function: Any, payload: str, result: object) -> None:
    """Models, dataclasses, TypedDicts, scalars and untyped payloads are validated and handed over."""
    end = _call(function, payload)
    assert end.status is EndStatus.SUCCESS, end.error
    assert end.result is not None
    assert json.loads(end.result.data) == result


def test_wrong_payload_fails_for_good_and_names_the_field() -> None:
    """A payload that doesn't fit is a failure that no retry mends; the message has the field and not the value."""
    end = _call(_take_point, '{"x": "secret-value"}')
    assert (end.status, end.error_type, end.retryable) == (EndStatus.FAILED, "PayloadError", False)
    assert end.error is not None
    message = json.loads(end.error.data)["message"]
    assert "x: Input should be a valid integer" in message
    assert "secret-value" not in message


def _return_object() -> object:
    return object()


def _return_nan() -> float:
    return float("nan")


def _return_much() -> str:
    return "ä" * 140_000


@pytest.mark.parametrize(
    ("function", "words"), [(_return_object, "object"), (_return_nan, "JSON"), (_return_much, "280002 bytes")]
)
def test_result_that_cannot_be_kept_is_a_clear_failure(function: Any, words: str) -> None:
    """A result that isn't JSON or is over 256 KiB fails the attempt, not retryable, with a sentence."""
    end = _call(function, "null")
    assert (end.status, end.error_type, end.retryable) == (EndStatus.FAILED, "ResultError", False)
    assert end.error is not None
    assert words in json.loads(end.error.data)["message"]


def _return_rich() -> dict[str, Any]:
    return {"model": Model(to="x", at=datetime(2026, 1, 1, tzinfo=UTC)), "point": Point(1)}


def test_models_and_dates_become_json() -> None:
    """Models, dataclasses and dates in a result are written as pydantic writes them."""
    end = _call(_return_rich, "null")
    assert end.result is not None
    assert json.loads(end.result.data) == {
        "model": {"to": "x", "at": "2026-01-01T00:00:00Z"},
        "point": {"x": 1, "y": 0},
    }


def _raise_retry() -> None:
    raise Retry("later")


def _raise_final() -> None:
    raise NonRetryable("never")


def _raise_exit() -> None:
    sys.exit(4)


def _raise_odd() -> None:
    raise ValueError("\udc80" + "x" * 100_000)


@pytest.mark.parametrize(
    ("function", "error_type", "retryable"),
    [
        (_raise_retry, "Retry", True),
        (_raise_final, "NonRetryable", False),
        (_raise_exit, "SystemExit", True),
        (_raise_odd, "ValueError", True),
    ],
)
def test_exceptions_become_failures(function: Any, error_type: str, retryable: bool) -> None:
    """Whatever a handler raises is a failure with its class, a bounded text and a traceback."""
    end = _call(function, "null")
    assert (end.status, end.error_type, end.retryable) == (EndStatus.FAILED, error_type, retryable)
    assert end.error is not None
    assert len(end.error.data.encode()) <= 16 * 1024
    assert "traceback" in json.loads(end.error.data) or len(end.error.data) > 8_000


def _save_steps(payload: int, ctx: Context) -> Any:
    before = ctx.last_checkpoint
    ctx.checkpoint({"page": payload})
    return [before, ctx.last_checkpoint]


def test_checkpoint_is_handed_on_and_read_back() -> None:
    """A saved checkpoint leaves the handler as JSON and is at once the last one; an older one is there at the start."""
    saved: list[Checkpoint] = []
    end = _call(_save_steps, "7", saved, checkpoint='{"page":3}')
    assert saved == [Checkpoint(Opaque('{"page":7}'))]
    assert end.result == Opaque('[{"page":3},{"page":7}]')


def test_checkpoint_that_cannot_be_kept_raises() -> None:
    """Too large or not JSON: CheckpointError, and nothing is saved."""
    saved: list[Checkpoint] = []
    context = Context(INFO, save=saved.append)
    for data in ("x" * 70_000, object()):
        with pytest.raises(CheckpointError):
            context.checkpoint(data)
    assert saved == []
    assert context.last_checkpoint is None


def test_deadline_is_a_time_with_zone() -> None:
    """The deadline is aware, and the seconds left follow from the clock."""
    context = Context(INFO, clock=lambda: 1_699_999_990.0)
    assert context.deadline == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert context.seconds_left == 10.0


def _two_extra(a: int, b: Context, c: int) -> None: ...


def _keyword_only(*, payload: int) -> None: ...


async def _async_process(payload: int) -> None: ...


def _generator(payload: int) -> Any:
    yield payload


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: handler("bad name")(_take_any), "not valid"),
        (lambda: handler("x", timeout="soon")(_take_any), "length of time"),
        (lambda: handler("x", timeout=0)(_take_any), "above 0"),
        (lambda: handler("x", run_in="fork")(_take_any), "run_in"),  # type: ignore[arg-type]
        (lambda: handler("x", run_in="process")(_async_process), "event loop"),
        (lambda: handler("x")(_generator), "generator"),
        (lambda: handler("x")(_two_extra), "signature"),
        (lambda: handler("x")(_keyword_only), "signature"),
        (lambda: handler("x")(Model), "put it on a function"),
        (lambda: handler(7), "brackets"),  # type: ignore[call-overload]
        (lambda: handler("x", retry=0)(_take_any), "retry of handler 'x': max_attempts is 0, but must be 1 to 1000"),
        (lambda: handler("x", retry="3")(_take_any), "must be a RetryPolicy or a number"),  # type: ignore[call-overload]
        (lambda: handler("x", retry=RetryPolicy(factor=0.1))(_take_any), "factor is 0.1, but must be 1 to 100"),
    ],
)
def test_what_cannot_be_a_handler_is_refused_with_a_sentence(make: Any, words: str) -> None:
    with pytest.raises(HandlerLoadError, match=words):
        make()


class CardDeclinedError(Exception):
    pass


class CardExpiredError(CardDeclinedError):
    pass


def _raise_bases() -> None:
    raise CardExpiredError("2019")


def test_a_bare_decorator_takes_the_name_of_the_function() -> None:
    """`@handler` and `@handler()` are `@handler("name_of_the_function")`."""

    def resize(payload: int) -> int:
        return payload

    assert handler(resize).name == handler()(resize).name == "resize"
    assert handler(resize)(3) == 3


def test_a_handler_declares_how_it_is_retried() -> None:
    """Attempts alone, or a policy; errors to give up on are classes or names."""
    assert handler("x", retry=5)(_take_any).retry == RetryPolicy(max_attempts=5)
    policy = RetryPolicy(max_attempts=5, give_up_on=[CardDeclinedError, "Fraud"])
    assert handler("x", retry=policy)(_take_any).retry == policy
    assert policy.give_up_on == ("CardDeclinedError", "Fraud")
    assert handler("x")(_take_any).retry is None


@pytest.mark.parametrize("wrong", ["CardDeclinedError", CardDeclinedError, [7], ["no name"], ["x"] * 33])
def test_errors_to_give_up_on_are_classes_or_names(wrong: Any) -> None:
    with pytest.raises(ValueError, match="but must be at most 32 classes of errors or their names, in a list"):
        RetryPolicy(give_up_on=wrong)


def test_the_bases_of_an_error_are_told() -> None:
    """A policy that gives up on a class gives up on those derived from it."""
    end = _call(_raise_bases, "null")
    assert (end.error_type, end.error_bases) == ("CardExpiredError", ("CardDeclinedError", "Exception"))


def _raise_later() -> None:
    raise Retry("the bank is closed", after="1h30m")


def _raise_never() -> None:
    raise Retry("whenever", after="soon")


def test_a_handler_says_when_to_try_again() -> None:
    """`Retry(after=…)` goes with the failure; what is no length of time is an error of the handler."""
    end = _call(_raise_later, "null")
    assert (end.error_type, end.retry_after_seconds, end.retryable) == ("Retry", 5400.0, True)
    assert end.error is not None
    assert json.loads(end.error.data)["message"] == "the bank is closed"
    assert _call(_raise_retry, "null").retry_after_seconds is None
    assert _call(_raise_never, "null").error_type == "ValueError"


def test_a_decorated_function_can_still_be_called() -> None:
    """Calling a handler calls the function: unit tests need nothing of ours."""
    assert handler("h")(_take_scalar)(1) == 2
    assert handler("h")(_take_scalar).run_in == "process"
    assert handler("h", run_in="thread")(_take_scalar).run_in == "thread"
    assert handler("h")(_async_process).run_in == "loop"


def test_durations_are_read_as_people_write_them() -> None:
    assert seconds_of("1h30m") == 5400
    assert seconds_of("250ms") == 0.25
    assert seconds_of(timedelta(minutes=1)) == 60
    assert seconds_of(2) == 2


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (None, "was not found"),
        ("import no_such_library_at_all", "needs 'no_such_library_at_all'"),
        ("1 / 0", "failed at import: ZeroDivisionError"),
        ("x = 1", "has no handlers"),
        ("from jobledger import handler\n@handler('a b')\ndef f(): ...", "not valid"),
        (
            "from jobledger import handler\n@handler('a')\ndef f(): ...\n@handler('a')\ndef g(): ...",
            "defined twice",
        ),
        (
            "from jobledger import handler\n@handler\ndef f(): ...\n@handler\ndef f(payload: int): ...",
            "Handler 'f' is defined twice in module 'handlers_[0-9]+', at lines 2 and 4; rename one",
        ),
        (
            "import sys\nsys.exit('no licence')",
            "ends the process when it is imported",
        ),
        ("def f(:", "failed at import: SyntaxError: invalid syntax"),
        ("raise ValueError('two\\nlines')", r"ValueError: two lines \(handlers_[0-9]+.py, line 1\)$"),
        ("from jobledger import handler\n@handler('a')\ndef f(payload: 'Nowhere'): ...", "annotation of 'payload'"),
    ],
)
def test_modules_that_cannot_be_loaded(
    source: str | None, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each way in which a handler module can be wrong has its own sentence."""
    name = f"handlers_{abs(hash(words))}"
    monkeypatch.syspath_prepend(str(tmp_path))
    if source is not None:
        (tmp_path / f"{name}.py").write_text(source)
    with pytest.raises(HandlerLoadError, match=words):
        load_handlers([name])


@pytest.mark.parametrize("name", ["my_app/handlers.py", "./handlers.py", ".handlers", "my handlers", "", "a..b"])
def test_what_is_no_name_of_a_module_is_said(name: str) -> None:
    with pytest.raises(HandlerLoadError, match=r"is not the name of a module; .* such as '[a-z_.]+'\.$"):
        load_handlers([name])


def test_a_handler_imported_by_two_modules_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "first_handlers.py").write_text("from jobledger import handler\n@handler('a')\ndef f(): ...")
    (tmp_path / "second_handlers.py").write_text("from first_handlers import f")
    assert load_handlers(["first_handlers", "second_handlers"]).names == ["a"]
    assert Registry().names == []


def test_importing_the_package_is_light() -> None:
    """`import jobledger` loads neither pydantic nor a Kafka client."""
    code = "import jobledger, sys; sys.exit(any(m in sys.modules for m in ('pydantic', 'confluent_kafka', 'httpx')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

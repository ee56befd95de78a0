"""Queries over log lines, in the syntax of Lucene: `level:ERROR AND event:task_failed AND @timestamp:[now-1h TO now]`.

A field is one of a line (`level`, `event`, `trace_id`, …; `@timestamp` is `timestamp`) or of its context
(`execution_id`, `dispatch_latency_ms`, …). Values are compared whole, with `*` and `?` as wildcards; in `message`,
`error` and `reason`, and without a field in `message`, they are looked for in the text. What stands beside each other
without AND or OR has to hold both. `| sort @timestamp` behind it puts lines in order (`-@timestamp`: the newest first).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from luqum import tree
from luqum.exceptions import ParseError
from luqum.thread import parse

from jobledger.telemetry.log_line import timestamp

Line = Mapping[str, Any]
Test = Callable[[Line], bool]
_ValueTest = Callable[[Any], bool]

_TOP = frozenset({"timestamp", "level", "service", "instance_id", "trace_id", "span_id", "event", "message"})
_TEXTS = frozenset({"message", "error", "reason"})
_DATE_MATH = re.compile(r"now(?:([+-])(\d+)([smhdw]))?")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_SORT = re.compile(r"\s*sort\s+(-?)@?timestamp(?:\s+(asc|desc))?\s*")
_AT = re.compile(r"^(.*?) at (?:position (\d+)|the end)!?$", re.DOTALL)


class QueryError(ValueError):
    """The query can't be understood; the text is one sentence that names the position (from 1)."""

    def __init__(self, what: str, position: int) -> None:
        super().__init__(f"The query is wrong at character {position + 1}: {what}.")


@dataclass(frozen=True, slots=True)
class Query:
    """A test of a line, and the order that was asked for: True the newest first, False the oldest, None any."""

    matches: Test
    newest_first: bool | None = None


def read_query(text: str, now: float) -> Query:
    """The query of a text; `now` in Unix seconds is what date mathematics counts from. Raises QueryError."""
    words, _, order = _split_at_pipe(text)
    newest_first: bool | None = None
    if order:
        sort = _SORT.fullmatch(order)
        if sort is None:
            raise QueryError("after | only `sort @timestamp` or `sort -@timestamp` is understood", len(words) + 1)
        newest_first = bool(sort[1]) != (sort[2] == "desc")
    if not words.strip():
        return Query(lambda _: True, newest_first)
    try:
        parsed = parse(words)
    except ParseError as error:
        raise _syntax(str(error), words) from error
    return Query(_Compiler(now).test(parsed), newest_first)


def _split_at_pipe(text: str) -> tuple[str, str, str]:
    """What stands before and behind the first | that is in no phrase."""
    inside = False
    for place, char in enumerate(text):
        if char == '"' and (place == 0 or text[place - 1] != "\\"):
            inside = not inside
        elif char == "|" and not inside:
            return text[:place], "|", text[place + 1 :]
    return text, "", ""


def _syntax(message: str, words: str) -> QueryError:
    found = _AT.match(message)
    position = int(found[2]) if found and found[2] else len(words)
    if position >= len(words):
        return QueryError("it ends too early; is a bracket or a quote open?", len(words))
    return QueryError(f"{words[position : position + 20]!r} is not expected here", position)


def value_of(line: Line, field: str) -> Any:
    """The value of a field of a line or of its context; None when it has none."""
    name = field.removeprefix("@")
    if name in _TOP:
        return line.get(name)
    found: Any = line.get("context")
    for part in name.removeprefix("context.").split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


class _Compiler:
    """Makes functions of the parts of a query."""

    def __init__(self, now: float) -> None:
        self._now = now

    def test(self, node: tree.Item, field: str = "") -> Test:
        """The test of a part; `field` is the one that it stands behind."""
        match node:
            case tree.AndOperation() | tree.UnknownOperation():
                parts = [self.test(one, field) for one in node.children]
                return lambda line: all(part(line) for part in parts)
            case tree.OrOperation():
                parts = [self.test(one, field) for one in node.children]
                return lambda line: any(part(line) for part in parts)
            case tree.Not() | tree.Prohibit():
                inner = self.test(node.a, field)
                return lambda line: not inner(line)
            case tree.Plus():
                return self.test(node.a, field)
            case tree.Group() | tree.FieldGroup():
                return self.test(node.expr, field)
            case tree.SearchField():
                if field:
                    raise QueryError(f"field {node.name} stands inside field {field}", node.pos)
                return self.test(node.expr, node.name)
            case _:
                return self._leaf(node, field or "message")

    def _leaf(self, node: tree.Item, field: str) -> Test:
        matches = self._value_test(node, field)

        def test(line: Line) -> bool:
            found = value_of(line, field)
            if isinstance(found, list):
                return any(matches(one) for one in found if one is not None)
            return found is not None and matches(found)

        return test

    def _value_test(self, node: tree.Item, field: str) -> _ValueTest:
        match node:
            case tree.Phrase():
                return _equals(node.unescaped_value[1:-1], field)
            case tree.Word() if node.is_wildcard():
                return lambda _: True
            case tree.Word() if node.has_wildcard():
                return _like(node.value, field)
            case tree.Word():
                return _equals(node.unescaped_value, field)
            case tree.Range():
                low = self._bound(node.low, from_below=True, included=node.include_low)
                high = self._bound(node.high, from_below=False, included=node.include_high)
                return lambda value: low(value) and high(value)
            case tree.From():
                return self._bound(node.a, from_below=True, included=node.include)
            case tree.To():
                return self._bound(node.a, from_below=False, included=node.include)
            case _:
                kind = {"Regex": "a regular expression", "Boost": "a boost (^)"}.get(type(node).__name__, "~")
                raise QueryError(f"{kind} is not understood here", node.pos)

    def _bound(self, node: tree.Item, *, from_below: bool, included: bool) -> _ValueTest:
        """Whether a value is on the right side of a bound: a time, a number or `*`."""
        if isinstance(node, tree.Prohibit):
            text, position = f"-{node.a.value}", node.pos
        else:
            text, position = node.value.strip('"'), node.pos
        if text == "*":
            return lambda _: True
        number = _number(text)
        if number is not None:
            return lambda value: (found := _number(value)) is not None and _beyond(found, number, from_below, included)
        moment = self._moment(text, position)
        return lambda value: isinstance(value, str) and _beyond(value, moment, from_below, included)

    def _moment(self, text: str, position: int) -> str:
        """A time as lines have it, which sorts as it passes."""
        math = _DATE_MATH.fullmatch(text)
        if math is not None:
            moved = int(f"{math[1]}{math[2]}") * _SECONDS[math[3]] if math[1] else 0
            return _as_logged(self._now + moved)
        try:
            moment = datetime.fromisoformat(text.replace("\\", ""))
        except ValueError:
            raise QueryError(
                f"{text!r} is no number and no time; write 100, now-1h, 2026-01-31 or 2026-01-31T09:30:00Z", position
            ) from None
        return _as_logged((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _as_logged(seconds: float) -> str:
    return timestamp(max(0, int(seconds * 1000)))


def _number(value: object) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return value
    try:
        return float(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _beyond(value: Any, bound: Any, from_below: bool, included: bool) -> bool:
    if value == bound:
        return included
    return bool(value > bound) if from_below else bool(value < bound)


def _text(value: object) -> str:
    return value if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)


def _equals(wanted: str, field: str) -> _ValueTest:
    if field in _TEXTS:
        folded = wanted.casefold()
        return lambda value: folded in _text(value).casefold()
    number = _number(wanted)
    if number is None:
        return lambda value: _text(value) == wanted
    return lambda value: _text(value) == wanted or (not isinstance(value, str) and _number(value) == number)


def _like(pattern: str, field: str) -> _ValueTest:
    """A word with wildcards; a backslash takes the meaning from the character behind it."""
    parts = re.findall(r"\\.|.", pattern, re.DOTALL)
    meaning = {"*": ".*", "?": "."}
    expression = re.compile("".join(meaning.get(part) or re.escape(part[-1]) for part in parts), re.DOTALL)
    if field in _TEXTS:
        return lambda value: expression.search(_text(value)) is not None
    return lambda value: expression.fullmatch(_text(value)) is not None

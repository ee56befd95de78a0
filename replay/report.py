"""What a verification found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

#: How many differences are told in full; the rest is counted.
MAX_SHOWN = 50
_MAX_TEXT = 400


class VerifyError(RuntimeError):
    """The verification could not be done; the message says why and what to do. Nothing is known then."""


class VerifySettingsError(VerifyError):
    """The settings name another cell than the log holds: no repetition helps."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as the events say. `found` None: it is not there; `expected` None: it should not be."""

    where: str
    key: str
    expected: Any
    found: Any

    def __str__(self) -> str:
        return f"{self.where}: {self.key}: expected {_short(self.expected)}, found {_short(self.found)}"


def _short(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + "…"


@dataclass(slots=True)
class Report:
    """The outcome. `state_vector` and `read_model_vector` name by partition the seq at which was compared."""

    cell: str
    differences: list[Difference] = field(default_factory=list)
    difference_count: int = 0
    events: int = 0
    streams: int = 0
    rows: int = 0
    #: Records on `events` that are no events at all; every reader leaves them aside.
    foreign: int = 0
    seconds: float = 0.0
    state_vector: dict[int, int] = field(default_factory=dict)
    read_model_vector: dict[int, int] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether nothing differs."""
        return self.difference_count == 0

    def add(self, where: str, key: object, expected: Any, found: Any) -> None:
        """Note a difference."""
        self.difference_count += 1
        if len(self.differences) < MAX_SHOWN:
            self.differences.append(Difference(where, str(key), expected, found))

    def compare(self, where: str, key: object, expected: Any, found: Any) -> None:
        """Note a difference unless both are equal."""
        if expected != found:
            self.add(where, key, expected, found)

    def lines(self) -> Iterator[str]:
        """The report as text."""
        for difference in self.differences:
            yield str(difference)
        hidden = self.difference_count - len(self.differences)
        if hidden:
            yield f"… and {hidden} more differences."
        what = f"{self.events} events of {self.streams} streams on {len(self.state_vector)} partitions"
        judged = "no difference" if self.ok else f"{self.difference_count} difference(s)"
        if self.foreign:
            yield f"{self.foreign} record(s) on the events' topic are no events and were left aside."
        yield (
            f"Cell '{self.cell}': {what} folded in {self.seconds:.1f} s and compared with the state and with "
            f"{self.rows} rows of the read models: {judged}."
        )

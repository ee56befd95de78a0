"""What `make demo` shows while it runs, and what it learns from the subscription on the way."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

_LINE_SECONDS = 2.0
_ENDED = {"SUCCEEDED", "DEAD_LETTERED", "CANCELLED"}


@dataclass(slots=True)
class Tally:
    """The jobs of a run as their events tell."""

    total: int
    status: dict[str, str] = field(default_factory=dict)
    """By job id."""
    worker: dict[str, str] = field(default_factory=dict)
    """By job id, while it runs."""
    ends: Counter[str] = field(default_factory=Counter)
    """How often the end of a job came, by job id."""
    lost: int = 0
    """Attempts that went down with a worker."""
    events: int = 0

    def add(self, event: Mapping[str, Any]) -> None:
        """Take in one event of the subscription."""
        self.events += 1
        job, status, kind = event["jobId"], event["status"], event["type"]
        if status is not None:
            self.status[job] = status
        if ".task.started." in kind:
            self.worker[job] = event["data"].get("worker") or ""
        elif ".task.lost." in kind:
            self.lost += 1
        if status in _ENDED:
            self.ends[job] += 1
            self.worker.pop(job, None)

    @property
    def ended(self) -> int:
        """Jobs that have ended."""
        return len(self.ends)

    def counts(self) -> Counter[str]:
        """Jobs by status; those without an event yet are left out."""
        return Counter(self.status.values())

    def line(self) -> str:
        """The numbers in one line."""
        parts = [f"{count} {status.lower().replace('_', ' ')}" for status, count in sorted(self.counts().items())]
        lost = f", {self.lost} lost with a worker and handed out again" if self.lost else ""
        return f"{self.ended}/{self.total} ended ({', '.join(parts)}{lost})"


class View:
    """A progress bar on a terminal, a line every two seconds elsewhere."""

    def __init__(self, tally: Tally, title: str) -> None:
        self._tally = tally
        self._title = title
        self._bar: Any = None
        self._task: Any = None
        self._shown_at = 0.0

    def __enter__(self) -> Self:
        if sys.stdout.isatty():
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[numbers]}"), TimeElapsedColumn()
            )
            self._task = self._bar.add_task(self._title, total=self._tally.total, numbers="")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._show()
        if self._bar is not None:
            self._bar.stop()

    def update(self) -> None:
        """Show the tally as it is now, if it is time."""
        if self._bar is not None or time.monotonic() - self._shown_at >= _LINE_SECONDS:
            self._show()

    def say(self, sentence: str) -> None:
        """A line above the bar."""
        if self._bar is not None:
            self._bar.console.print(sentence, markup=False, highlight=False)
        else:
            tell(sentence)

    def _show(self) -> None:
        self._shown_at = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._task, completed=self._tally.ended, numbers=self._tally.line())
        else:
            tell(f"  {self._tally.line()}")


def tell(sentence: str) -> None:
    """One line on standard output."""
    sys.stdout.write(f"{sentence}\n")
    sys.stdout.flush()

"""Named loggers, and the level of each, which can be changed while the process runs.

Our loggers have the names of their modules (`jobledger.processors.observer`), those of `ctx.logger` are
`handlers.<name>`; libraries have theirs. A level holds for a name and for all below it: `jobledger.processors` for each
module of that package, `root` for everything.

A logger is an object of one of structlog's filtering classes, in which a method below the level does nothing at all. To
change the level is to give the object another of these classes, so that no line pays for the possibility.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Iterator, Mapping

import structlog

from jobledger.telemetry.log_line import LEVEL_NUMBERS, Level

ROOT = "root"
_OURS = ("jobledger", "handlers")
#: Below INFO these show the records, requests or statements that they handle.
_TALKATIVE = frozenset(
    {*("aiokafka", "faust", "mode", "librdkafka"), *("uvicorn", "websockets", "httpcore", "psycopg", "urllib3")}
)

BoundLogger = structlog.typing.FilteringBoundLogger


class UnknownLoggerError(LookupError):
    """There is no logger of that name; the text is one sentence."""


class LevelNotAllowedError(ValueError):
    """The logger can't have that level; the text is one sentence."""


class Loggers:
    """All loggers of a process. `make` gives a new one that has no level yet."""

    def __init__(self, make: Callable[[], BoundLogger]) -> None:
        self._make = make
        self._loggers: dict[str, BoundLogger] = {}
        self._base: Level = "DEBUG"
        self._changed: dict[str, Level] = {}
        self._library_levels: dict[str, int] = {}

    @property
    def changed(self) -> Mapping[str, Level]:
        """The levels that are not as the process was started with, by logger."""
        return self._changed

    def get(self, name: str) -> BoundLogger:
        """The logger of this name."""
        logger = self._loggers.get(name)
        if logger is None:
            logger = self._loggers[name] = self._make()
            self._set(logger, self.level_of(name))
        return logger

    def start_with(self, level: Level) -> None:
        """The level of all loggers for which no other is set; those that were set are forgotten."""
        self.change({})
        self._base = level
        self._renew()

    def change(self, levels: Mapping[str, Level]) -> None:
        """Set these levels, and let all other loggers go back to what the process was started with."""
        for name in self._changed.keys() - levels.keys():
            if (before := self._library_levels.pop(name, None)) is not None:
                logging.getLogger(name).setLevel(before)
        for name, level in levels.items():
            if not self._is_ours(name):
                library = logging.getLogger(name)
                self._library_levels.setdefault(name, library.level)
                library.setLevel(max(LEVEL_NUMBERS[level], logging.INFO) if name == ROOT else LEVEL_NUMBERS[level])
        self._changed = dict(levels)
        self._renew()

    def level_of(self, name: str) -> Level:
        """The least level that comes out of this logger."""
        if not self._is_ours(name) and name != ROOT:
            number = logging.getLogger(name).getEffectiveLevel()
            return next((level for level, least in LEVEL_NUMBERS.items() if number <= least), "FATAL")
        for above in _upwards(name):
            if above in self._changed:
                return self._changed[above]
        return self._base

    def names(self) -> list[str]:
        """Every logger that there is."""
        libraries = [name for name in logging.root.manager.loggerDict if not self._is_ours(name)]
        return [ROOT, *sorted([*self._loggers, *libraries])]

    def check(self, name: str, level: Level) -> None:
        """Raise UnknownLoggerError or LevelNotAllowedError if that level can't be set."""
        names = self.names()
        if name not in names and not any(known.startswith(f"{name}.") for known in names):
            near = difflib.get_close_matches(name, names, n=3)
            hint = f": did you mean {' or '.join(near)}?" if near else "; GET /log-levels shows those that there are."
            raise UnknownLoggerError(f"There is no logger '{name}'{hint}")
        if level == "DEBUG" and name.partition(".")[0] in _TALKATIVE:
            raise LevelNotAllowedError(f"Logger '{name}' would show records and secrets at DEBUG: INFO is its least.")

    def _is_ours(self, name: str) -> bool:
        return name.partition(".")[0] in _OURS or name in self._loggers

    def _renew(self) -> None:
        for name, logger in list(self._loggers.items()):
            self._set(logger, self.level_of(name))

    def _set(self, logger: BoundLogger, level: Level) -> None:
        logger.__class__ = structlog.make_filtering_bound_logger(LEVEL_NUMBERS[level])


def _upwards(name: str) -> Iterator[str]:
    while name:
        yield name
        name = name.rpartition(".")[0]
    yield ROOT

"""`/log-levels` of the health server: reads the levels of loggers, and changes them for a time.

    GET    /log-levels                                   every logger with its level, and what was changed by whom
    PUT    /log-levels/LOGGER?level=DEBUG&seconds=600    changes one; it goes back by itself
    DELETE /log-levels/LOGGER                            lets it go back now

Only programs on the same machine may change a level, and no web page (a browser names its origin).
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobledger.telemetry.listening import is_loopback
from jobledger.telemetry.log_levels import LevelNotAllowedError, Loggers, UnknownLoggerError
from jobledger.telemetry.log_line import Level
from jobledger.telemetry.logs import LOGGERS, get_logger, timestamp

PATH = "/log-levels"
DEFAULT_SECONDS = 600.0
MAX_SECONDS = 86_400.0
LEVELS: tuple[Level, ...] = ("DEBUG", "INFO", "WARN", "ERROR")
ACTOR_HEADER = "x-jobledger-actor"
MAX_ACTOR = 100

log = get_logger()


class _RefusedError(Exception):
    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(slots=True)
class _Change:
    level: Level
    until_ms: int
    by: str
    timer: asyncio.TimerHandle = field(repr=False)

    def shown(self, name: str) -> dict[str, str]:
        return {"logger": name, "level": self.level, "until": timestamp(self.until_ms), "changed_by": self.by}


class LogLevelsPage:
    """Levels that were changed, each with the time at which it goes back; used in one event loop."""

    def __init__(self, loggers: Loggers = LOGGERS) -> None:
        self._loggers = loggers
        self._changes: dict[str, _Change] = {}

    def routes(self) -> list[Route]:
        """For a Starlette application."""
        return [
            Route(PATH, self._show, methods=["GET"]),
            Route(f"{PATH}/{{name}}", self._alter, methods=["PUT", "DELETE"]),
        ]

    async def _show(self, _: Request) -> Response:
        return _json(
            200,
            {
                "changed": [change.shown(name) for name, change in sorted(self._changes.items())],
                "loggers": {name: self._loggers.level_of(name) for name in self._loggers.names()},
            },
        )

    async def _alter(self, request: Request) -> Response:
        try:
            by = _who(request)
            name = request.path_params["name"]
            if request.method == "DELETE":
                return self._delete(name, by)
            level, seconds = _level(request), _seconds(request)
            self._loggers.check(name, level)
        except UnknownLoggerError as error:
            return _json(404, {"error": str(error)})
        except LevelNotAllowedError as error:
            return _json(400, {"error": str(error)})
        except _RefusedError as error:
            return _json(error.status, {"error": str(error)})
        return _json(200, self._change(name, level, seconds, by))

    def _change(self, name: str, level: Level, seconds: float, by: str) -> dict[str, str]:
        was = self._loggers.level_of(name)
        self._forget(name)
        timer = asyncio.get_running_loop().call_later(seconds, self._restore, name, "The time is over.")
        change = _Change(level, int((time.time() + seconds) * 1000), by, timer)
        self._changes[name] = change
        self._apply()
        until = timestamp(change.until_ms)
        log.warning("log_level_changed", logger=name, log_level=level, was=was, until=until, changed_by=by)
        return {**change.shown(name), "was": was}

    def _delete(self, name: str, by: str) -> Response:
        if name not in self._changes:
            raise _RefusedError(404, f"The level of '{name}' was not changed; GET {PATH} shows what was.")
        self._restore(name, f"Asked for by {by}.")
        return _json(200, {"logger": name, "level": self._loggers.level_of(name)})

    def _restore(self, name: str, reason: str) -> None:
        self._forget(name)
        self._apply()
        log.info("log_level_restored", logger=name, log_level=self._loggers.level_of(name), reason=reason)

    def _forget(self, name: str) -> None:
        if (change := self._changes.pop(name, None)) is not None:
            change.timer.cancel()

    def _apply(self) -> None:
        self._loggers.change({name: change.level for name, change in self._changes.items()})


def _who(request: Request) -> str:
    """Who asks, as the log tells it; raises _RefusedError for somebody who may not."""
    host = request.client.host if request.client is not None else ""
    if not is_loopback(host):
        raise _RefusedError(403, "Levels are changed from the machine (or the container) of the process alone.")
    if "origin" in request.headers:
        raise _RefusedError(403, "Levels are not changed by web pages.")
    actor = "".join(char for char in request.headers.get(ACTOR_HEADER, "") if char.isprintable())
    return f"{actor[:MAX_ACTOR] or 'somebody'} at {host}"


def _level(request: Request) -> Level:
    given = request.query_params.get("level", "").upper()
    for level in LEVELS:
        if given == level:
            return level
    raise _RefusedError(400, f"The level is '{given}': choose {', '.join(LEVELS)}.")


def _seconds(request: Request) -> float:
    given = request.query_params.get("seconds", str(DEFAULT_SECONDS))
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= MAX_SECONDS:
        raise _RefusedError(400, f"seconds is '{given}': give a number above 0 and at most {MAX_SECONDS:.0f} (a day).")
    return seconds


def _json(status: int, body: object) -> Response:
    headers = {"content-type": "application/json", "cache-control": "no-store"}
    return Response(orjson.dumps(body), status, headers)

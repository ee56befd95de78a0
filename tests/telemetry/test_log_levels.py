"""Levels of single loggers, changed while the process runs."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
import structlog
from starlette.applications import Starlette

from jobledger.telemetry.log_levels import LevelNotAllowedError, UnknownLoggerError
from jobledger.telemetry.log_levels_page import MAX_SECONDS, LogLevelsPage
from jobledger.telemetry.log_line import SINK
from jobledger.telemetry.logs import LOGGERS, configure_logging, get_logger

deep, beside, handler = get_logger("jobledger.one.deep"), get_logger("jobledger.two"), get_logger("handlers.send")
FOREIGN = logging.getLogger("faust.levels")


@pytest.fixture(autouse=True)
def stream() -> Iterator[io.BytesIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.BytesIO()
    configure_logging("scheduler", "scheduler-1", "INFO", to_stream=stream)
    yield stream
    LOGGERS.change({})
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    SINK.configured = False


def told(stream: io.BytesIO) -> list[dict[str, Any]]:
    """All lines but those of the client with which the tests ask."""
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    return [line for line in lines if line["context"].get("logger") != "httpx"]


def _all_debug() -> None:
    for log in (deep, beside, handler):
        log.debug("part_started", part="x")


def test_loggers_have_the_names_of_their_modules() -> None:
    assert get_logger() is LOGGERS.get(__name__)
    from jobledger.telemetry import listening

    assert listening.log is LOGGERS.get("jobledger.telemetry.listening")


@pytest.mark.parametrize(
    ("name", "lines"), [("root", 3), ("jobledger", 2), ("jobledger.one", 1), ("jobledger.on", 0), ("handlers", 1)]
)
def test_a_level_holds_for_a_name_and_all_below_it(name: str, lines: int, stream: io.BytesIO) -> None:
    _all_debug()
    LOGGERS.change({name: "DEBUG"})
    _all_debug()
    assert len(told(stream)) == lines
    LOGGERS.change({})
    _all_debug()
    assert len(told(stream)) == lines


def test_the_nearest_name_decides(stream: io.BytesIO) -> None:
    LOGGERS.change({"jobledger": "ERROR", "jobledger.one": "DEBUG"})
    deep.debug("part_started", part="x")
    beside.warning("process_started")
    assert [line["level"] for line in told(stream)] == ["DEBUG"]
    assert get_logger("jobledger.one.later").is_enabled_for(logging.DEBUG)


def test_libraries_go_back_to_the_level_that_they_had(stream: io.BytesIO) -> None:
    FOREIGN.setLevel(logging.WARNING)
    FOREIGN.info("no")
    LOGGERS.change({"faust.levels": "INFO"})
    FOREIGN.info("yes")
    LOGGERS.change({})
    FOREIGN.info("no")
    assert [line["message"] for line in told(stream)] == ["yes"]
    assert FOREIGN.level == logging.WARNING


def test_what_can_not_be_set_is_refused_with_a_reason() -> None:
    LOGGERS.check("jobledger.one", "DEBUG")
    LOGGERS.check("root", "DEBUG")
    with pytest.raises(UnknownLoggerError, match=r"no logger 'jobledger.twoo': did you mean jobledger.two"):
        LOGGERS.check("jobledger.twoo", "DEBUG")
    with pytest.raises(LevelNotAllowedError, match="INFO is its least"):
        LOGGERS.check("faust.levels", "DEBUG")
    LOGGERS.change({"root": "DEBUG"})
    assert logging.getLogger().level == logging.INFO, "libraries' records stay out"


Ask = httpx.AsyncClient


def _client(host: str) -> Ask:
    app = Starlette(routes=LogLevelsPage().routes())
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, client=(host, 1)), base_url="http://role")


@pytest.fixture
async def ask() -> AsyncIterator[Ask]:
    async with _client("127.0.0.1") as client:
        yield client


@pytest.mark.scenario("a level is changed")
async def test_a_change_is_shown_told_and_goes_back_by_itself(ask: Ask, stream: io.BytesIO) -> None:
    url = "/log-levels/jobledger.one?level=debug&seconds=0.2"
    answer = await ask.put(url, headers={"x-jobledger-actor": "ann@host\n"})
    changed = answer.json()
    assert answer.status_code == 200
    assert (changed["logger"], changed["level"], changed["was"]) == ("jobledger.one", "DEBUG", "INFO")
    page = (await ask.get("/log-levels")).json()
    assert [one["logger"] for one in page["changed"]] == ["jobledger.one"]
    assert page["loggers"]["jobledger.one.deep"] == "DEBUG"
    assert page["loggers"]["jobledger.two"] == "INFO"
    await asyncio.sleep(0.3)
    assert not deep.is_enabled_for(logging.DEBUG)
    first, second = told(stream)
    assert (first["event"], first["level"]) == ("log_level_changed", "WARN")
    assert first["context"]["changed_by"] == "ann@host at 127.0.0.1"
    assert first["context"]["until"] == changed["until"]
    assert (second["event"], second["context"]["log_level"]) == ("log_level_restored", "INFO")


async def test_a_change_can_be_renewed_and_taken_back(ask: Ask) -> None:
    assert (await ask.put("/log-levels/handlers.send?level=DEBUG&seconds=0.1")).status_code == 200
    assert (await ask.put("/log-levels/handlers.send?level=DEBUG")).status_code == 200
    await asyncio.sleep(0.15)
    assert handler.is_enabled_for(logging.DEBUG), "the first time does not end the second change"
    assert (await ask.delete("/log-levels/handlers.send")).json() == {"logger": "handlers.send", "level": "INFO"}
    assert not handler.is_enabled_for(logging.DEBUG)
    assert (await ask.delete("/log-levels/handlers.send")).status_code == 404


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("jobledger.one", 400, "choose DEBUG, INFO, WARN, ERROR"),
        ("jobledger.one?level=LOUD", 400, "The level is 'LOUD'"),
        ("jobledger.one?level=DEBUG&seconds=x", 400, "seconds is 'x'"),
        ("jobledger.one?level=DEBUG&seconds=nan", 400, "seconds is 'nan'"),
        (f"jobledger.one?level=DEBUG&seconds={MAX_SECONDS + 1}", 400, "at most 86400"),
        ("nobody?level=DEBUG", 404, "There is no logger 'nobody'"),
        ("faust.levels?level=DEBUG", 400, "INFO is its least"),
    ],
)
async def test_a_wrong_request_is_one_sentence_and_changes_nothing(
    ask: Ask, path: str, status: int, words: str
) -> None:
    answer = await ask.put(f"/log-levels/{path}")
    assert answer.status_code == status
    assert words in answer.json()["error"]
    assert not LOGGERS.changed


async def test_others_and_web_pages_may_not_change_levels(stream: io.BytesIO) -> None:
    async with _client("192.0.2.7") as stranger:
        refused = await stranger.put("/log-levels/jobledger.one?level=DEBUG")
        assert (await stranger.get("/log-levels")).status_code == 200
    async with _client("127.0.0.1") as page:
        origin = await page.put("/log-levels/jobledger.one?level=DEBUG", headers={"origin": "https://evil"})
    assert (refused.status_code, origin.status_code) == (403, 403)
    assert not LOGGERS.changed
    assert not told(stream)

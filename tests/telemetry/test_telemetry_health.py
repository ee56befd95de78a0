from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator

import httpx
import pytest
import structlog
from starlette.applications import Starlette

from jobledger.telemetry import health_protocol
from jobledger.telemetry.health import Checked, Health, HealthStatus
from jobledger.telemetry.health_server import HealthServer, health_routes
from jobledger.telemetry.listening import ListenError, is_loopback, warn_if_exposed
from jobledger.telemetry.log_line import SINK
from jobledger.telemetry.logs import configure_logging
from jobledger.telemetry.metrics import Metrics


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def health(time: Time) -> Health:
    return Health("1.2.3", clock=lambda: 1705314600.0, monotonic=time)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("scheduler", instance_id="scheduler-1")


@pytest.fixture
async def server(health: Health, metrics: Metrics) -> AsyncIterator[HealthServer]:
    server = HealthServer(health, metrics, port=0)
    await server.start()
    yield server
    await server.stop()


async def fine() -> dict[str, object]:
    return {"depth": 234}


async def broken() -> None:
    raise ConnectionError("no route to postgresql://u:hunter2@db/x")


async def get(server: HealthServer, path: str, **named) -> httpx.Response:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", trust_env=False) as client:
        return await client.request(named.pop("method", "GET"), path, **named)


async def raw(server: HealthServer, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(data)
        await writer.drain()
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()
        await writer.wait_closed()


async def test_live_asks_no_component(health: Health, server: HealthServer) -> None:
    health.add("queue", broken)
    answer = await get(server, "/health/live")
    assert answer.status_code == 200
    assert answer.json()["status"] == "HEALTHY"


async def test_ready_is_503_until_started_and_while_a_critical_component_is_down(
    health: Health, server: HealthServer
) -> None:
    answer = await get(server, "/health/ready")
    assert (answer.status_code, answer.json()["reasons"]) == (503, ["process: starting or stopping"])
    health.set_ready(True)
    health.add("cache", broken, critical=False)
    assert (await get(server, "/health/ready")).status_code == 200
    health.add("database", broken)
    answer = await get(server, "/health/ready")
    assert answer.status_code == 503
    assert answer.json()["reasons"][0].startswith("database: ConnectionError")
    assert "hunter2" not in answer.text
    health.remove("database")
    assert (await get(server, "/health/ready")).status_code == 200


async def test_status_has_the_shape_of_the_reference(health: Health, server: HealthServer, time: Time) -> None:
    health.add("queue", fine)
    time.now += 86400
    answer = await get(server, "/health/status")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "status": "HEALTHY",
        "timestamp": "2024-01-15T10:30:00.000Z",
        "components": {"queue": {"status": "HEALTHY", "latency_ms": 0.0, "depth": 234}},
        "version": "1.2.3",
        "uptime_seconds": 86400,
    }


async def test_the_worst_component_decides_and_one_that_is_not_critical_only_degrades(health: Health) -> None:
    async def degraded() -> Checked:
        return Checked(HealthStatus.DEGRADED, {"why": "slow"})

    async def overall() -> str:
        code, body = await health.status()
        assert code == 200
        return str(body["status"])

    assert await overall() == "HEALTHY"
    health.add("a", degraded)
    assert await overall() == "DEGRADED"
    health.add("a", broken, critical=False)
    assert await overall() == "DEGRADED"
    health.add("b", broken)
    assert await overall() == "UNHEALTHY"


async def test_a_check_that_hangs_is_unhealthy_after_its_time_out_and_a_slow_one_degraded() -> None:
    async def hang() -> None:
        await asyncio.sleep(60)

    async def slow() -> None:
        await asyncio.sleep(0.02)

    health = Health("1")
    health.add("hang", hang, timeout=0.05)
    health.add("slow", slow, slow_after=0.01)
    _, body = await health.status()
    assert body["components"]["hang"]["status"] == "UNHEALTHY"
    assert body["components"]["hang"]["error"] == "no answer within 0.05 s"
    assert body["components"]["slow"]["status"] == "DEGRADED"
    assert body["components"]["slow"]["latency_ms"] >= 10


async def test_many_probes_at_once_cost_one_check(health: Health, time: Time) -> None:
    calls = 0

    async def count() -> None:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0)

    health.add("queue", count)
    health.set_ready(True)
    await asyncio.gather(*(health.status() for _ in range(20)))
    assert calls == 1
    time.now += 1
    await health.ready()
    assert calls == 2


async def test_what_was_found_is_kept_as_long_as_the_component_says_and_a_failure_two_seconds(
    health: Health, time: Time
) -> None:
    calls: list[float] = []
    fails = False

    async def probe() -> None:
        calls.append(time.now)
        if fails:
            raise ConnectionError("gone")

    health.add("queue", probe, keep_seconds=10)
    health.set_ready(True)
    for _ in range(20):
        await asyncio.gather(health.ready(), health.status())
        time.now += 0.5
    assert calls == [100.0]
    fails = True
    for _ in range(8):
        assert (await health.ready())[0] == 503
        time.now += 0.5
    assert calls == [100.0, 110.0, 112.0]
    fails = False
    await health.ready()
    assert calls[3:] == [114.0] and (await health.ready())[0] == 200


async def test_a_process_that_starts_asks_nobody_whether_it_is_ready(health: Health) -> None:
    """And what was found before it had started does not count afterwards."""
    calls = 0

    async def probe() -> None:
        nonlocal calls
        calls += 1

    health.add("queue", probe, keep_seconds=10)
    assert (await health.ready())[0] == 503 and calls == 0
    await health.status()
    assert calls == 1
    health.set_ready(True)
    assert (await health.ready())[0] == 200 and calls == 2
    health.set_ready(False)
    assert (await health.ready())[0] == 503 and calls == 2


async def test_a_check_can_say_what_the_answer_took(health: Health) -> None:
    async def probe() -> Checked:
        return Checked(seconds=0.6)

    health.add("queue", probe, slow_after=0.5)
    assert (await health.status())[1]["components"]["queue"] == {"status": "DEGRADED", "latency_ms": 600.0}


async def test_nothing_that_hangs_keeps_live_from_its_answer(health: Health, server: HealthServer) -> None:
    hanging = asyncio.Event()

    async def hang() -> None:
        await hanging.wait()

    health.add("queue", hang, timeout=5)
    asking = asyncio.ensure_future(get(server, "/health/status"))
    await asyncio.sleep(0.05)
    assert (await asyncio.wait_for(get(server, "/health/live"), 2)).status_code == 200
    assert not asking.done()
    hanging.set()
    assert (await asking).status_code == 200


async def test_metrics_come_as_text_or_openmetrics(server: HealthServer, metrics: Metrics) -> None:
    metrics.observe("scheduling_latency_seconds", 0.2, exemplar_trace_id="ab" * 16)
    text = await get(server, "/metrics")
    assert text.headers["content-type"].startswith("text/plain")
    assert 'jobledger_build_info{role="scheduler",version="0"} 1.0' in text.text
    rich = await get(server, "/metrics?x=1", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert rich.headers["content-type"].startswith("application/openmetrics-text")
    assert rich.text.endswith("# EOF\n")


async def test_other_paths_and_methods_are_refused_in_one_sentence(server: HealthServer) -> None:
    missing = await get(server, "/health")
    assert missing.status_code == 404
    assert "/health/live" in missing.text
    assert (await get(server, "/health/live", method="POST")).status_code == 405
    assert (await get(server, "/health/live/")).status_code == 404
    head = await get(server, "/health/live", method="HEAD")
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) > 0


async def test_an_answer_has_these_headers_and_ends_its_connection(server: HealthServer) -> None:
    names = {"content-type", "content-length", "cache-control", "connection"}
    for path, method in (("/health/live", "GET"), ("/metrics", "GET"), ("/nothing", "GET"), ("/health/live", "PUT")):
        answer = await get(server, path, method=method)
        assert set(answer.headers) - {"allow"} == names, path
        assert (answer.headers["connection"], answer.headers["cache-control"]) == ("close", "no-store")
    twice = await raw(server, b"GET /health/live HTTP/1.1\r\n\r\nGET /metrics HTTP/1.1\r\n\r\n")
    assert twice.count(b"HTTP/1.1 ") == 1
    assert (await raw(server, b"POST /metrics HTTP/1.1\r\ncontent-length: 9\r\n\r\n")).split(b" ")[1] == b"405"


@pytest.mark.scenario("a request breaks", emits=("request_failed",))
async def test_a_broken_collector_is_answered_500(server: HealthServer, metrics: Metrics) -> None:
    def break_down(_accept: str) -> tuple[bytes, str]:
        raise ValueError("no such series")

    metrics.render = break_down  # type: ignore[method-assign]
    assert (await get(server, "/metrics")).status_code == 500
    assert (await get(server, "/health/live")).status_code == 200


async def test_a_client_may_close_its_side_once_it_has_asked(server: HealthServer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET /health/live HTTP/1.0\r\n\r\n")
    writer.write_eof()
    assert (await reader.read()).split(b" ")[1] == b"200"
    writer.close()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / SPDY/1\r\n\r\n", b"400"),
        (b"GET http://[ HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /metrics HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n", b"200"),
        (b"GET /metrics HTTP/1.1\r\nx: " + b"y" * 20_000 + b"\r\n\r\n", b"431"),
        (b"GET /metrics HTTP/1.1\r\nx: " + b"y" * 20_000, b"431"),
    ],
)
async def test_bad_requests_get_an_answer(server: HealthServer, data: bytes, status: bytes) -> None:
    assert (await raw(server, data)).split(b" ")[1] == status


async def test_a_request_that_never_ends_is_given_up(server: HealthServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_protocol, "REQUEST_TIMEOUT", 0.05)
    assert (await raw(server, b"GET /metrics")).split(b" ")[1] == b"408"


async def test_an_answer_that_nobody_takes_is_given_up(
    server: HealthServer, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health_protocol, "REQUEST_TIMEOUT", 0.1)
    monkeypatch.setattr(metrics, "render", lambda _accept: (b"x" * 30_000_000, "text/plain"))
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
    writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
    await asyncio.sleep(0.5)
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(reader.readexactly(30_000_000), 10)
    writer.close()


async def test_the_number_of_connections_is_bounded(server: HealthServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_protocol, "MAX_CONNECTIONS", 1)
    _, held = await asyncio.open_connection("127.0.0.1", server.port)
    await asyncio.sleep(0.05)
    assert (await raw(server, b"")).split(b" ")[1] == b"503"
    held.close()
    await held.wait_closed()
    await asyncio.sleep(0.05)
    assert (await get(server, "/health/live")).status_code == 200


async def test_a_taken_port_is_one_clear_sentence(server: HealthServer, health: Health, metrics: Metrics) -> None:
    second = HealthServer(health, metrics, port=server.port)
    with pytest.raises(ListenError) as caught:
        await second.start()
    assert str(caught.value).startswith(f"Cannot listen on 127.0.0.1:{server.port} (")
    assert "set JOBLEDGER_HEALTH_PORT" in str(caught.value)
    await second.stop()


async def test_stop_closes_open_connections_and_may_be_called_again(health: Health, metrics: Metrics) -> None:
    server = HealthServer(health, metrics, port=0)
    await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    await asyncio.sleep(0.05)
    await asyncio.wait_for(server.stop(), 2)
    await server.stop()
    with pytest.raises(OSError):
        await asyncio.wait_for(get_error(reader, server.port), 2)
    writer.close()


async def get_error(reader: asyncio.StreamReader, port: int) -> None:
    await reader.read()
    await asyncio.open_connection("127.0.0.1", port)


@pytest.mark.scenario("a listener is open to others")
def test_a_listener_that_others_can_reach_is_warned_about() -> None:
    stream = io.BytesIO()
    configure_logging("scheduler", "scheduler-1", to_stream=stream, check_events=True)
    try:
        warn_if_exposed("127.0.0.1", 1)
        warn_if_exposed("localhost", 1)
        warn_if_exposed("::1", 1)
        assert stream.getvalue() == b""
        warn_if_exposed("0.0.0.0", 9090)
        assert json.loads(stream.getvalue())["event"] == "listener_exposed"
        assert not is_loopback("scheduler.internal")
    finally:
        structlog.reset_defaults()
        SINK.configured = False


async def test_the_api_mounts_the_same_answers(health: Health, metrics: Metrics) -> None:
    health.add("queue", fine)
    app = Starlette(routes=health_routes(health, metrics))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        assert (await client.get("/health/live")).json()["status"] == "HEALTHY"
        assert (await client.get("/health/ready")).status_code == 503
        assert (await client.get("/health/status")).json()["components"]["queue"]["depth"] == 234
        text = await client.get("/metrics")
    assert text.headers["content-type"].count("charset") == 1
    assert "jobledger_build_info" in text.text

"""The pairs that the two clients stand on."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest

from jobledger import AsyncClient, Client, Unavailable
from jobledger.client.asynchronous.transport import needs_certificates
from jobledger.client.deadline import Deadline, Pauses
from jobledger.client.primitives import MAX_ITEMS_AHEAD, AsyncInbox, Inbox, Reading
from jobledger.dev.ports import free_port

JOB = "01990000-0000-7000-8000-000000000000"


async def test_a_slow_reader_ends_its_own_subscription_only() -> None:
    """It still gets what had come, in order, then asks again behind that; whoever fills the inbox never waits."""
    waits, thread = AsyncInbox(), Inbox()
    for inbox in (waits, thread):
        for n in range(MAX_ITEMS_AHEAD + 50):
            inbox.put({"type": "next", "n": n})
    got = [await waits.get(1.0) for _ in range(MAX_ITEMS_AHEAD + 1)]
    assert got == [thread.get(1.0) for _ in range(MAX_ITEMS_AHEAD + 1)]
    assert [message.get("n") for message in got] == [*range(MAX_ITEMS_AHEAD), None]
    assert got[-1] == {"type": "dropped"}


async def test_an_empty_inbox_is_a_time_out() -> None:
    with pytest.raises(TimeoutError):
        await AsyncInbox().get(0.0)
    with pytest.raises(TimeoutError):
        Inbox().get(0.0)


def test_an_inbox_is_filled_by_another_thread() -> None:
    inbox, gate = Inbox(), threading.Event()
    reading = Reading(lambda: (gate.wait(10), inbox.put({"type": "next"})))
    assert not reading.done
    gate.set()
    assert inbox.get(10) == {"type": "next"}
    reading.wait()
    assert reading.done


def test_pauses_grow_and_deadlines_end() -> None:
    pauses = Pauses()
    assert [pauses.take() for _ in range(7)] == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    pauses.reset()
    assert pauses.next == 0.1
    assert Deadline(None).left() is None
    assert not Deadline(None).within(1e9)
    assert Deadline(0).left() == 0
    assert Deadline(0).within(0.1)
    assert 0 < Deadline(0).at_most(5) < 0.01
    assert Deadline(100).at_most(5) == 5


async def test_an_api_that_stays_away_ends_every_wait_with_a_sentence() -> None:
    """After the client's time-out, subscriptions too: nobody waits for ever in silence."""
    url = f"http://127.0.0.1:{free_port()}"
    async with AsyncClient(url, timeout=0.5) as client:
        job = client.job(JOB)
        for call in (job.wait(), anext(job.events()), anext(client.as_completed([job]))):
            with pytest.raises(Unavailable, match=r"127\.0\.0\.1"):
                await asyncio.wait_for(call, 30)

    def synchronous() -> None:
        with Client(url, timeout=0.5) as twin:
            for call in (twin.job(JOB).wait, lambda: next(twin.job(JOB).events())):
                with pytest.raises(Unavailable, match=r"127\.0\.0\.1"):
                    call()

    await asyncio.wait_for(asyncio.to_thread(synchronous), 30)


@pytest.mark.parametrize(
    ("url", "environment", "expected"),
    [
        ("http://api:8000", {}, False),
        ("https://api", {}, True),
        ("http://api:8000", {"https_proxy": "https://proxy"}, True),
    ],
)
def test_certificates_are_read_where_tls_can_come_into_play(
    monkeypatch: pytest.MonkeyPatch, url: str, environment: dict[str, str], expected: bool
) -> None:
    """An address without TLS, and no proxy, needs none; everything else has them verified."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert needs_certificates(url) is expected

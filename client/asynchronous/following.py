"""Subscriptions that go on when a connection breaks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from jobledger.client.asynchronous.calls import AsyncCalls
from jobledger.client.deadline import Deadline, Pauses
from jobledger.client.errors import Unavailable
from jobledger.client.primitives import sleep_async


async def follow(
    client: AsyncCalls,
    query: str,
    wanted: Mapping[str, Any],
    after: str | None,
    deadline: Deadline,
    *,
    from_start: bool = False,
) -> AsyncGenerator[dict[str, Any], None]:
    """Events for ever: goes on behind the last one when a connection breaks or the API asks to subscribe again.

    Raises TimeoutError at the deadline, Unavailable when the API is away for longer than the client's time-out.
    A loop of its own: each event begins pauses and time-out anew, which stamina's attempts have no way to say.
    """
    pauses = Pauses()
    patience = Deadline(client.timeout)
    while True:
        variables: dict[str, Any] = {"filter": wanted, "after": after}
        if from_start:
            variables["fromStart"] = after is None
        try:
            async with aclosing(client.transport.subscribe(query, variables, deadline)) as items:
                async for item in items:
                    pauses.reset()
                    one = item["jobEvents"]
                    after = one["position"]
                    if one["__typename"] == "Resync":
                        break
                    client.positions.note(after)
                    yield one
                    patience = Deadline(client.timeout)
                patience = Deadline(client.timeout)
        except Unavailable:
            if patience.within(pauses.next):
                raise
            if deadline.within(pauses.next):
                raise TimeoutError from None
            await sleep_async(pauses.take())

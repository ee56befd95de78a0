"""Subscriptions that go on when a connection breaks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, TypeVar

from jobledger.client.asynchronous.calls import AsyncCalls
from jobledger.client.deadline import Deadline, Pauses
from jobledger.client.errors import Unavailable
from jobledger.client.operations import outputs
from jobledger.client.operations.operation import Operation
from jobledger.client.primitives import sleep_async

Event = TypeVar("Event")
END_TYPES = ["job.succeeded", "job.dead_lettered", "job.cancelled", "job.discarded"]


async def follow(
    client: AsyncCalls,
    subscription_after: Callable[[str | None], Operation[Event | outputs.Resync]],
    after: str | None,
    deadline: Deadline,
) -> AsyncGenerator[Event, None]:
    """Events for ever: when a connection breaks or the API asks for it, it subscribes again behind the last one.

    Raises TimeoutError at the deadline, Unavailable when the API is away for longer than the client's time-out.
    A loop of its own: each event begins pauses and time-out anew, which stamina's attempts have no way to say.
    """
    pauses = Pauses()
    patience = Deadline(client.timeout)
    while True:
        one = subscription_after(after)
        try:
            async with aclosing(client.transport.subscribe(one.document, one.variables, deadline)) as items:
                async for item in items:
                    pauses.reset()
                    event: Any = item[one.field]
                    after = event["position"]
                    if event["__typename"] == "Resync":
                        break
                    client.positions.note(after)
                    yield event
                    patience = Deadline(client.timeout)
                patience = Deadline(client.timeout)
        except Unavailable:
            if patience.within(pauses.next):
                raise
            if deadline.within(pauses.next):
                raise TimeoutError from None
            await sleep_async(pauses.take())

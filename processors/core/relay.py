"""Sends the outbox entries of owners after their commit, in order, until they have arrived."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from jobledger.processors.core.plan import OutboxEntry
from jobledger.processors.core.ports import OutboxHolder

RESEND_SECONDS = 0.5


class TransportError(RuntimeError):
    """An entry could not be handed over; nothing of it was sent."""


class Transport(Protocol):
    """Carries entries to where they belong: in order per destination, each until it has arrived or failed."""

    async def start(self) -> None:
        """Begin to carry."""

    async def stop(self) -> None:
        """Wait a while for what is under way, then carry nothing any more; may be called twice."""

    def send(self, entry: OutboxEntry) -> asyncio.Future[Any]:
        """Hand over an entry; the future is done when it has arrived, and raises when it could not be delivered.

        Raises TransportError.
        """


class OutboxRelay:
    """`Relay` over transports of one kind. A transport keeps the order and never gives up by itself.

    When a delivery fails all the same, everything that has not arrived is sent again through a new
    transport, in order; receivers drop what they have had, and what lies beyond a gap.
    """

    def __init__(self, make_transport: Callable[[], Transport], resent: Callable[[str], None]) -> None:
        """`resent` hears the reason each time that everything is sent again."""
        self._make_transport = make_transport
        self._resent = resent
        self._transport = make_transport()
        self._holders: dict[OutboxHolder, None] = {}
        self._renewing: asyncio.Task[None] | None = None
        self._ended: asyncio.Future[None] | None = None
        self._gap = False

    async def start(self) -> None:
        """Begin to send."""
        self._ended = asyncio.get_running_loop().create_future()
        await self._transport.start()

    async def stop(self) -> None:
        """Flush what is under way, then stop; may be called twice."""
        if self._renewing is not None:
            self._renewing.cancel()
        await self._transport.stop()
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    async def wait(self) -> None:
        """Return when stopped; raise when a new transport could not be had: nothing is sent any more then."""
        assert self._ended is not None, "start() first"
        await asyncio.shield(self._ended)

    @property
    def renewing(self) -> bool:
        """Whether a delivery has failed and everything is about to be sent again."""
        return self._renewing is not None

    def register(self, holder: OutboxHolder) -> None:
        """An owner serves: send what is left of its outbox."""
        self._holders[holder] = None
        self.send(holder, holder.unacknowledged())

    def unregister(self, holder: OutboxHolder) -> None:
        """The owner has let go of its partition."""
        self._holders.pop(holder, None)

    def send(self, holder: OutboxHolder, entries: list[tuple[bytes, OutboxEntry]]) -> None:
        """Send entries in order; the holder learns of each arrival."""
        if self._renewing is not None:
            return
        for key, entry in entries:
            try:
                sent = self._transport.send(entry)
            except TransportError as error:
                self._renew(error)
                return
            sent.add_done_callback(partial(self._arrived, self._transport, holder, key))

    def _arrived(self, transport: Transport, holder: OutboxHolder, key: bytes, done: asyncio.Future[Any]) -> None:
        error = None if done.cancelled() else done.exception()
        if transport is not self._transport:
            return
        if error is not None:
            self._gap = True
            self._renew(error)
        elif not self._gap and holder in self._holders:
            holder.acknowledge(key)  # behind a gap it would be wrong: the receiver has dropped what came through

    def _renew(self, error: BaseException) -> None:
        if self._renewing is None:
            self._resent(str(error))
            self._renewing = asyncio.create_task(self._send_again(), name="relay-renew")
            self._renewing.add_done_callback(self._renewed)

    def _renewed(self, done: asyncio.Task[None]) -> None:
        """A renewal that failed leaves no transport: whoever runs this relay has to know."""
        error = None if done.cancelled() else done.exception()
        if error is not None and self._ended is not None and not self._ended.done():
            self._ended.set_exception(error)
            self._ended.exception()  # whoever does not wait for it is not told twice

    async def _send_again(self) -> None:
        await self._transport.stop()
        await asyncio.sleep(RESEND_SECONDS)
        self._transport = self._make_transport()
        self._gap = False
        await self._transport.start()
        self._renewing = None
        for holder in list(self._holders):
            self.send(holder, holder.unacknowledged())

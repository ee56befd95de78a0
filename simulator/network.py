"""What is on its way to the broker, in order per producer and destination: it may be held up, lost, or fail."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from jobledger.simulator.broker import MemoryBroker

#: Hears that a record has arrived (None) or that its delivery has failed.
Settled = Callable[[BaseException | None], None]


class DeliveryFailedError(RuntimeError):
    """The client gave up on a record."""


@dataclass(frozen=True, slots=True)
class Flying:
    """A record that a producer has sent and the broker has not got yet."""

    destination: str
    value: bytes
    settled: Settled


class Network:
    """Keeps the order per producer and destination, as an idempotent producer does; across producers there is none."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self._channels: dict[tuple[str, str], deque[Flying]] = {}
        #: Producers whose records stay in flight until they are delivered one by one.
        self.held: dict[str, None] = {}

    def send(
        self,
        producer: str,
        destination: str,
        value: bytes,
        settled: Settled = lambda error: None,
        *,
        hold: bool = False,
    ) -> None:
        """Send a record; `hold` keeps it, and what comes behind it, in flight until `deliver`."""
        channel = self._channels.get((producer, destination))
        if hold or channel or producer in self.held:
            self._channels.setdefault((producer, destination), deque()).append(Flying(destination, value, settled))
        else:
            self._arrive(Flying(destination, value, settled))

    def _arrive(self, one: Flying) -> None:
        self._broker.append(one.destination, one.value)
        one.settled(None)

    def _take(self, choice: int, names: list[tuple[str, str]]) -> Flying | None:
        if not names:
            return None
        name = names[choice % len(names)]
        one = self._channels[name].popleft()
        if not self._channels[name]:
            del self._channels[name]
        return one

    def deliver(self, choice: int = 0) -> None:
        """The first record of one of the channels arrives."""
        one = self._take(choice, list(self._channels))
        if one is not None:
            self._arrive(one)

    def deliver_all(self) -> None:
        """Everything arrives, and nothing is held any more."""
        self.held.clear()
        while self._channels:
            self.deliver()

    def fail(self, producer: str, choice: int = 0) -> bool:
        """The delivery of the first record in one of a producer's channels fails; those behind it may still arrive."""
        one = self._take(choice, [name for name in self._channels if name[0] == producer])
        if one is not None:
            one.settled(DeliveryFailedError(f"A record for {one.destination} was given up."))
        return one is not None

    def lose(self, producer: str, choice: int = 0) -> None:
        """A producer is killed: of each of its channels some records have left it, the rest never does."""
        self.held.pop(producer, None)
        for name in [name for name in self._channels if name[0] == producer]:
            channel = self._channels[name]
            for _ in range(len(channel) - choice % (len(channel) + 1)):
                channel.pop()
            if not channel:
                del self._channels[name]

    def flying(self, producer: str) -> int:
        """How many records of a producer are on their way."""
        return sum(len(channel) for name, channel in self._channels.items() if name[0] == producer)

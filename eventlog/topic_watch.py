"""Whether the topics of a cell are still those that they were: the identity of each, and that none ends too early."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from jobledger.eventlog.clients import ClientConfig
from jobledger.eventlog.topics import TopicError
from jobledger.schemas.topics import Topic, changed_sentence, topic_name
from jobledger.telemetry.service import TaskService

#: Topics whose records are the truth, or work on its way. Liveness and quarantine may be made anew at any time.
WATCHED = (Topic.COMMANDS, Topic.EVENTS, Topic.STATE, Topic.OUTCOMES, Topic.TASKS)
LOOK_SECONDS = 1.5
ASK_SECONDS = 2.0
#: A new leader may not know for a moment what the old one knew, so one look alone proves nothing.
LOOKS_TO_BELIEVE = 2

TopicIds = Mapping[str, str]
"""The broker's id of each topic that exists, by the topic's role, such as `commands`."""


class TopicsUnseenError(RuntimeError):
    """The brokers have not been asked with success yet."""


class TopicWatch(TaskService):
    """Looks at the topics every second and a half; `wait()` raises TopicError when one is not what it was.

    A topic that was deleted and made anew looks like the old one to clients, once its new records have passed the old
    offsets: its id alone is another. `ends` gives the offset by partition of `commands` that must not lie behind
    the end of the log. `remembered` tells the ids of an earlier time, none while that can't be told: it is asked until
    it tells some.
    """

    name = "topics"

    def __init__(
        self,
        config: ClientConfig,
        cell: str,
        ends: Callable[[], Mapping[int, int]] | None = None,
        remembered: Callable[[], Awaitable[TopicIds]] | None = None,
    ) -> None:
        self._config: ClientConfig = {**config, "log_level": 0}
        self._admin: AdminClient | None = None
        self._cell = cell
        self._ends = ends
        self._remembered = remembered
        self._known: dict[str, str] = {}
        self._suspicion = 0

    @property
    def ids(self) -> TopicIds:
        """The topics as they were at the first look; those that did not exist then are missing.

        Raises TopicsUnseenError before it: nobody may take a topic for the right one unseen.
        """
        if not self._known:
            raise TopicsUnseenError("The brokers have not told the ids of the topics yet.")
        return self._known

    async def start(self) -> None:
        """Look for the first time; when the brokers do not answer, the first look is a later one."""
        self._admin = AdminClient(self._config)
        with contextlib.suppress(KafkaException, TimeoutError):
            self._known = await asyncio.to_thread(self._look)
        self._begin(self._run(), "topic-watch")

    async def stop(self) -> None:
        """Look no more; may be called twice."""
        await super().stop()
        self._admin = None

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                fault = await self._fault()
            except (KafkaException, TimeoutError):
                continue  # the brokers are away: others tell of that
            self._suspicion = self._suspicion + 1 if fault else 0
            if fault and self._suspicion >= LOOKS_TO_BELIEVE:
                raise TopicError(fault)

    async def _fault(self) -> str | None:
        expected = dict(self._ends()) if self._ends is not None else {}
        found = await asyncio.to_thread(self._look)
        for role, known in self._known.items():
            if found.get(role) != known:
                return changed_sentence(topic_name(self._cell, Topic(role)), known, found.get(role))
        self._known.update({role: found[role] for role in found.keys() - self._known.keys()})
        if self._remembered is not None and (remembered := await self._remembered()):
            self._known.update(remembered)  # compared from the next look on
            self._remembered = None
        if not expected:
            return None
        ends = await asyncio.to_thread(self._commands_ends, list(expected))
        for partition, end in sorted(ends.items()):
            if end < expected[partition]:
                name = topic_name(self._cell, Topic.COMMANDS)
                return (
                    f"Topic '{name}' [{partition}] ends at offset {end}, but its commands up to {expected[partition]} "
                    f"are decided: records were lost. Run `jobledger replay verify`, then restore the topic."
                )
        return None

    def _look(self) -> dict[str, str]:
        assert self._admin is not None, "start() first"
        return read_topic_ids(self._admin, self._cell)

    def _commands_ends(self, partitions: list[int]) -> dict[int, int]:
        assert self._admin is not None, "start() first"
        name = topic_name(self._cell, Topic.COMMANDS)
        wanted = {TopicPartition(name, p): OffsetSpec.latest() for p in partitions}  # type: ignore[no-untyped-call]
        answers = self._admin.list_offsets(wanted, request_timeout=ASK_SECONDS)
        return {at.partition: future.result(ASK_SECONDS).offset for at, future in answers.items()}


def read_topic_ids(admin: AdminClient, cell: str) -> dict[str, str]:
    """The ids of the topics that exist; raises KafkaException when the brokers do not answer."""
    names = {topic_name(cell, topic): topic for topic in WATCHED}
    answers = admin.describe_topics(TopicCollection(list(names)), request_timeout=ASK_SECONDS)
    found: dict[str, str] = {}
    for name, future in answers.items():
        try:
            found[names[name].value] = str(future.result(ASK_SECONDS).topic_id)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise
    return found


def topic_ids(config: ClientConfig, cell: str) -> dict[str, str]:
    """`read_topic_ids` through a client of its own."""
    return read_topic_ids(AdminClient({**config, "log_level": 0}), cell)

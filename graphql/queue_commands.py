"""`createQueue` and `updateQueue`."""

from __future__ import annotations

import msgspec

from jobledger.domain.identity import derived_id, queue_stream
from jobledger.domain.queue.commands import CreateQueue, UpdateQueue
from jobledger.domain.queue.settings import DEFAULT_QUEUE, DEFAULT_SETTINGS, QueueChanges, QueueSettings, changed
from jobledger.domain.values import carrier
from jobledger.graphql.caller import Caller
from jobledger.graphql.directory import QueueDirectory
from jobledger.graphql.outcome_answers import error_of, name_of, position_of
from jobledger.graphql.types.errors import NotFound, UserError
from jobledger.graphql.types.inputs import CreateQueueInput, UpdateQueueInput
from jobledger.graphql.types.results import Pending, QueueRef, QueueSuccess
from jobledger.graphql.user_commands import UserCommands, at_input
from jobledger.graphql.validation import (
    MAX_REASON_LENGTH,
    Refused,
    check_name,
    check_number,
    check_text,
    given,
    refuse,
)
from jobledger.schemas.commands import Command
from jobledger.schemas.outcomes import Outcome, OutcomeStatus

MAX_WAITING_BYTES = 1 << 50
_create = carrier(QueueSettings, CreateQueue)
_update = carrier(QueueChanges, UpdateQueue)


class QueueCommands:
    """Checks changes of queues, sends them and answers for their outcomes."""

    def __init__(self, commands: UserCommands, directory: QueueDirectory, cell: str) -> None:
        self._commands = commands
        self._directory = directory
        self._cell = cell

    async def create(self, caller: Caller, item: CreateQueueInput) -> QueueSuccess | Pending | UserError:
        """Create a queue."""
        try:
            command = self._to_queue(caller, item, _create(changed(DEFAULT_SETTINGS, _changes(item))))
        except Refused as refused:
            return at_input(refused)
        return await self._queue_answer(caller, command, item.name)

    async def update(self, caller: Caller, item: UpdateQueueInput) -> QueueSuccess | Pending | UserError:
        """Change a queue."""
        try:
            body = _update(_changes(item))
            if body == UpdateQueue():
                raise refuse("Nothing is to be changed", "give maxWaitingBytes or description", "name", item.name)
            command = self._to_queue(caller, item, body)
        except Refused as refused:
            return at_input(refused)
        answer = await self._queue_answer(caller, command, item.name)
        if item.name == DEFAULT_QUEUE and isinstance(answer, NotFound):
            return await self._queue_answer(caller, _first_settings(command, body), item.name)
        return answer

    def _to_queue(
        self, caller: Caller, item: CreateQueueInput | UpdateQueueInput, body: CreateQueue | UpdateQueue
    ) -> Command:
        name = check_name("Queue", "name", item.name)
        return self._commands.command(caller, queue_stream(caller.tenant, name), body, item.command_id)

    async def _queue_answer(self, caller: Caller, command: Command, name: str) -> QueueSuccess | Pending | UserError:
        outcome = await self._commands.decide(caller, command, None)
        if not isinstance(outcome, Outcome):
            return outcome
        if outcome.status is OutcomeStatus.REJECTED:
            return error_of(outcome, ["input", "name"], name)
        body = command.body
        if isinstance(body, CreateQueue | UpdateQueue) and body.max_waiting_bytes and not outcome.duplicate:
            self._directory.changed(caller.tenant, name, body.max_waiting_bytes)
        return QueueSuccess(
            queue=QueueRef(name=name_of(outcome)),
            command_id=command.id,  # type: ignore[arg-type]
            position=position_of(self._cell, outcome),
            duplicate=outcome.duplicate,
        )


def _first_settings(command: Command, body: UpdateQueue) -> Command:
    """The queue `default` exists without having been created: its first change creates it."""
    create = _create(changed(DEFAULT_SETTINGS, body))
    return msgspec.structs.replace(command, id=derived_id(command.id, "create"), body=create)


def _changes(item: CreateQueueInput | UpdateQueueInput) -> QueueChanges:
    """The settings that are given; raises Refused."""
    text = None
    if given(item.description):
        text = check_text("description", str(item.description), MAX_REASON_LENGTH)
    return QueueChanges(max_waiting_bytes=_bytes(item.max_waiting_bytes), description=text)


def _bytes(value: object) -> int | None:
    if not given(value):
        return None
    if not isinstance(value, int):
        raise refuse(f"maxWaitingBytes {value!r:.80} is no integer", "use a number of bytes", "maxWaitingBytes", value)
    return int(check_number("maxWaitingBytes", value, 1, MAX_WAITING_BYTES))

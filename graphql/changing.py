"""`cancelJob`, `redriveJob`, `discardJob`, `createQueue` and `updateQueue`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from jobledger.domain.commands import AnyCommand
from jobledger.domain.identity import derived_id, job_stream, queue_stream
from jobledger.domain.job.commands import CancelJob, DiscardJob, RedriveJob
from jobledger.domain.queue.commands import CreateQueue, UpdateQueue
from jobledger.domain.queue.settings import DEFAULT_QUEUE, DEFAULT_SETTINGS, QueueChanges, QueueSettings, changed
from jobledger.domain.values import Opaque, carrier
from jobledger.graphql.caller import Caller
from jobledger.graphql.decided import error_of, name_of, not_sent, position_of, status_of
from jobledger.graphql.directory import QueueDirectory
from jobledger.graphql.gateway import Gateway, NotSent
from jobledger.graphql.submitting import pending
from jobledger.graphql.types.errors import NotFound, UserError
from jobledger.graphql.types.inputs import (
    CancelJobInput,
    CreateQueueInput,
    DiscardJobInput,
    RedriveJobInput,
    UpdateQueueInput,
)
from jobledger.graphql.types.results import (
    CancelJobSuccess,
    DiscardJobSuccess,
    JobRef,
    Pending,
    QueueRef,
    QueueSuccess,
    RedriveJobSuccess,
)
from jobledger.graphql.validation import (
    MAX_REASON_LENGTH,
    Refused,
    check_name,
    check_number,
    check_text,
    check_uuid,
    given,
    refuse,
)
from jobledger.schemas.commands import Command
from jobledger.schemas.outcomes import Outcome, OutcomeStatus

MAX_WAITING_BYTES = 1 << 50
_create = carrier(QueueSettings, CreateQueue)
_update = carrier(QueueChanges, UpdateQueue)
JobSuccess = TypeVar("JobSuccess", CancelJobSuccess, RedriveJobSuccess, DiscardJobSuccess)


class Changing:
    """Checks commands to what exists, sends them and answers for their outcomes."""

    def __init__(self, gateway: Gateway, directory: QueueDirectory, cell: str, new_id: Callable[[], str]) -> None:
        self._directory = directory
        self._gateway = gateway
        self._cell = cell
        self._new_id = new_id

    async def cancel(self, caller: Caller, item: CancelJobInput) -> CancelJobSuccess | Pending | UserError:
        """Cancel a job."""
        return await self._change_job(caller, item, CancelJob, CancelJobSuccess)

    async def redrive(self, caller: Caller, item: RedriveJobInput) -> RedriveJobSuccess | Pending | UserError:
        """Run a dead-lettered job again."""
        return await self._change_job(caller, item, RedriveJob, RedriveJobSuccess)

    async def discard(self, caller: Caller, item: DiscardJobInput) -> DiscardJobSuccess | Pending | UserError:
        """Close a dead-lettered job."""
        return await self._change_job(caller, item, DiscardJob, DiscardJobSuccess)

    async def _change_job(
        self,
        caller: Caller,
        item: CancelJobInput | RedriveJobInput | DiscardJobInput,
        kind: type[CancelJob | RedriveJob | DiscardJob],
        success: Callable[..., JobSuccess],
    ) -> JobSuccess | Pending | UserError:
        try:
            job_id = check_uuid("id", item.id)
            reason = None
            if given(item.reason):
                text = check_text("reason", str(item.reason), MAX_REASON_LENGTH)
                reason = Opaque(msgspec.json.encode(text).decode())
            command = self._command(caller, job_stream(caller.tenant, job_id), kind(reason=reason), item.command_id)
        except Refused as refused:
            return _at_input(refused)
        outcome = await self._decide(caller, command, job_id)
        if not isinstance(outcome, Outcome):
            return outcome
        if outcome.status is OutcomeStatus.REJECTED:
            return error_of(outcome, ["input", "id"], job_id)
        return success(
            job=JobRef(id=name_of(outcome), status=status_of(outcome)),  # type: ignore[arg-type]
            command_id=command.id,
            position=position_of(self._cell, outcome),
        )

    async def create_queue(self, caller: Caller, item: CreateQueueInput) -> QueueSuccess | Pending | UserError:
        """Create a queue."""
        try:
            command = self._to_queue(caller, item, _create(changed(DEFAULT_SETTINGS, _changes(item))))
        except Refused as refused:
            return _at_input(refused)
        return await self._queue_answer(caller, command, item.name)

    async def update_queue(self, caller: Caller, item: UpdateQueueInput) -> QueueSuccess | Pending | UserError:
        """Change a queue."""
        try:
            body = _update(_changes(item))
            if body == UpdateQueue():
                raise refuse("Nothing is to be changed", "give maxWaitingBytes or description", "name", item.name)
            command = self._to_queue(caller, item, body)
        except Refused as refused:
            return _at_input(refused)
        answer = await self._queue_answer(caller, command, item.name)
        if item.name == DEFAULT_QUEUE and isinstance(answer, NotFound):
            return await self._queue_answer(caller, _first_settings(command, body), item.name)
        return answer

    def _to_queue(
        self, caller: Caller, item: CreateQueueInput | UpdateQueueInput, body: CreateQueue | UpdateQueue
    ) -> Command:
        name = check_name("Queue", "name", item.name)
        return self._command(caller, queue_stream(caller.tenant, name), body, item.command_id)

    def _command(self, caller: Caller, stream: str, body: AnyCommand, command_id: str | None) -> Command:
        return Command(
            id=check_uuid("commandId", command_id) if given(command_id) else self._new_id(),
            stream=stream,
            actor=caller.actor,
            body=body,
            reply=True,
            correlation_id=caller.correlation_id,
            traceparent=caller.traceparent or None,
        )

    async def _decide(self, caller: Caller, command: Command, job_id: str | None) -> Outcome | Pending | UserError:
        (decided,) = await self._gateway.decide([command])
        if isinstance(decided, NotSent):
            return not_sent()
        if decided is None:
            return pending(caller, command.id, job_id, self._gateway.timeout_seconds)
        return decided

    async def _queue_answer(self, caller: Caller, command: Command, name: str) -> QueueSuccess | Pending | UserError:
        outcome = await self._decide(caller, command, None)
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


def _at_input(refused: Refused) -> UserError:
    refused.error.path = ["input", *refused.error.path]
    return refused.error

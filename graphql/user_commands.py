"""What every change that a user asks for has in common: its command, and the wait for what becomes of it."""

from __future__ import annotations

from collections.abc import Callable

from jobledger.domain.commands import AnyCommand
from jobledger.graphql.caller import Caller
from jobledger.graphql.gateway import Gateway, NotSent
from jobledger.graphql.outcome_answers import not_sent
from jobledger.graphql.submissions import pending
from jobledger.graphql.types.errors import UserError
from jobledger.graphql.types.results import Pending
from jobledger.graphql.validation import Refused, check_uuid, given
from jobledger.schemas.commands import Command
from jobledger.schemas.outcomes import Outcome


class UserCommands:
    """Makes commands of users, sends them and waits for their outcomes."""

    def __init__(self, gateway: Gateway, new_id: Callable[[], str]) -> None:
        self._gateway = gateway
        self._new_id = new_id

    def command(self, caller: Caller, stream: str, body: AnyCommand, command_id: str | None) -> Command:
        """The command of a caller, under the id that was given or a new one. Raises Refused."""
        return Command(
            id=check_uuid("commandId", command_id) if given(command_id) else self._new_id(),
            stream=stream,
            actor=caller.actor,
            body=body,
            reply=True,
            correlation_id=caller.correlation_id,
            traceparent=caller.traceparent or None,
        )

    async def decide(self, caller: Caller, command: Command, job_id: str | None) -> Outcome | Pending | UserError:
        """What became of a command; `job_id` is told to who has to look for himself."""
        (decided,) = await self._gateway.decide([command])
        if isinstance(decided, NotSent):
            return not_sent()
        if decided is None:
            return pending(caller, command.id, job_id, self._gateway.timeout_seconds)
        return decided


def at_input(refused: Refused) -> UserError:
    """A refusal of what was given as `input`."""
    refused.error.path = ["input", *refused.error.path]
    return refused.error

"""`cancelJob`, `redriveJob` and `discardJob`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from jobledger.domain.identity import job_stream
from jobledger.domain.job.commands import CancelJob, DiscardJob, RedriveJob
from jobledger.domain.values import Opaque
from jobledger.graphql.caller import Caller
from jobledger.graphql.outcome_answers import error_of, name_of, position_of, status_of
from jobledger.graphql.types.errors import UserError
from jobledger.graphql.types.inputs import CancelJobInput, DiscardJobInput, RedriveJobInput
from jobledger.graphql.types.results import CancelJobSuccess, DiscardJobSuccess, JobRef, Pending, RedriveJobSuccess
from jobledger.graphql.user_commands import UserCommands, at_input
from jobledger.graphql.validation import MAX_REASON_LENGTH, Refused, check_text, check_uuid, given
from jobledger.schemas.outcomes import Outcome, OutcomeStatus

JobSuccess = TypeVar("JobSuccess", CancelJobSuccess, RedriveJobSuccess, DiscardJobSuccess)


class JobCommands:
    """Checks changes of jobs, sends them and answers for their outcomes."""

    def __init__(self, commands: UserCommands, cell: str) -> None:
        self._commands = commands
        self._cell = cell

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
            command = self._commands.command(
                caller, job_stream(caller.tenant, job_id), kind(reason=reason), item.command_id
            )
        except Refused as refused:
            return at_input(refused)
        outcome = await self._commands.decide(caller, command, job_id)
        if not isinstance(outcome, Outcome):
            return outcome
        if outcome.status is OutcomeStatus.REJECTED:
            return error_of(outcome, ["input", "id"], job_id)
        return success(
            job=JobRef(id=name_of(outcome), status=status_of(outcome)),  # type: ignore[arg-type]
            command_id=command.id,
            position=position_of(self._cell, outcome),
        )

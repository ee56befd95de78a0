"""What users were told, and whether it agrees with what was done."""

from __future__ import annotations

from jobledger.domain import job_commands as jc
from jobledger.schemas.commands import Command
from jobledger.schemas.outcomes import Outcome, OutcomeStatus
from jobledger.simulator.checks import History, insist


class Answers:
    """The outcomes of users' commands, each checked against the first one and against the history."""

    def __init__(self, history: History) -> None:
        self._history = history
        self.sent: dict[str, Command] = {}
        self.first: dict[str, Outcome] = {}
        self.repeats = 0

    def expect(self, command: Command) -> None:
        """A user sends a command, perhaps again."""
        self.sent[command.id] = command

    def take(self, outcome: Outcome) -> None:
        """An outcome was committed; raises ViolationError when it contradicts the first one or the log."""
        name = f"command {outcome.command_id}"
        insist(outcome.command_id in self.sent, f"{name} was answered but never sent")
        first = self.first.setdefault(outcome.command_id, outcome)
        effect = self._history.had_effect(outcome.command_id, outcome.seq)
        if first is outcome:
            self._check_first(name, outcome, effect)
            return
        self.repeats += 1
        if first.status is OutcomeStatus.ACCEPTED and (effect or first.duplicate):
            told = (outcome.status, outcome.stream, outcome.duplicate)
            insist(told == (first.status, first.stream, True), f"{name} was told {first!r}, and repeated {outcome!r}")

    def _check_first(self, name: str, outcome: Outcome, effect: bool) -> None:
        rejected = outcome.status is OutcomeStatus.REJECTED
        insist(not (rejected and effect), f"{name} was rejected but had effect: {outcome!r}")
        if isinstance(self.sent[outcome.command_id].body, jc.SubmitJob) and not rejected:
            exists = self._history.job(outcome.stream) is not None
            insist(exists, f"{name} was accepted, but there is no job {outcome.stream}")

    def check_all_answered(self) -> None:
        """Every command of a user has an outcome."""
        silent = [identity for identity in self.sent if identity not in self.first]
        insist(not silent, f"commands without an outcome: {silent[:5]}")

"""What users were told, and whether it agrees with what was done."""

from __future__ import annotations

import msgspec

from jobledger.domain.aggregates import AGGREGATES
from jobledger.domain.job import commands as jc
from jobledger.domain.values import Code
from jobledger.schemas.commands import Command
from jobledger.schemas.limits import MAX_ID_BYTES, MAX_STREAM_BYTES
from jobledger.schemas.outcomes import Outcome, OutcomeStatus
from jobledger.schemas.quarantine import Quarantined, decode_quarantine
from jobledger.simulator.checks import History, insist


def _is_sane(command: Command) -> bool:
    """Whether there is nothing wrong with a command as far as its form goes."""
    return command.stream.partition(":")[0] in AGGREGATES and command.stream.count(":") == 2


def check_set_aside(record: bytes) -> None:
    """Nothing that the product itself or a user has sent stands in quarantine; raises ViolationError."""
    wholes: dict[str, bytes] = {}
    reasons: dict[str, str] = {}
    for piece in decode_quarantine(record):
        if isinstance(piece, Quarantined):
            wholes[piece.id] = wholes.get(piece.id, b"") + piece.data
            reasons[piece.id] = piece.reason
    for identity, data in wholes.items():
        try:
            command = msgspec.json.decode(data, type=Command)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        foreign = command.id.startswith("foreign") or not _is_sane(command)
        insist(foreign, f"command {command.id} was set aside: {reasons[identity]}")


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
        name = f"command {outcome.command_id[:80]}"
        fits = len(outcome.command_id.encode()) <= MAX_ID_BYTES and len(outcome.stream.encode()) <= MAX_STREAM_BYTES
        insist(fits, f"{name} was answered although its id, or its stream's, is too long")
        if outcome.command_id.startswith("foreign"):
            return
        insist(outcome.command_id in self.sent, f"{name} was answered but never sent")
        undecidable = outcome.rejection is not None and outcome.rejection.code is Code.UNDECIDABLE
        insist(not undecidable or not _is_sane(self.sent[outcome.command_id]), f"{name} was set aside: {outcome!r}")
        first = self.first.setdefault(outcome.command_id, outcome)
        effect = self._history.had_effect(outcome.command_id, outcome.seq)
        if first is outcome:
            self._check_first(name, outcome, effect)
            return
        self.repeats += 1
        if self._is_forgotten(first, outcome.at_ms):
            return
        body = self.sent[outcome.command_id].body
        lasting = body.remembered or isinstance(body, jc.SubmitJob)
        if first.status is OutcomeStatus.ACCEPTED and lasting:
            told = (outcome.status, outcome.stream, outcome.duplicate)
            insist(told == (first.status, first.stream, True), f"{name} was told {first!r}, and repeated {outcome!r}")
            same_place = outcome.seq == first.seq or not isinstance(self.sent[outcome.command_id].body, jc.SubmitJob)
            insist(same_place, f"{name} was told position {first.seq}, and {outcome.seq} when it was repeated")

    def _check_first(self, name: str, outcome: Outcome, effect: bool) -> None:
        rejected = outcome.status is OutcomeStatus.REJECTED
        insist(not (rejected and effect), f"{name} was rejected but had effect: {outcome!r}")
        if isinstance(self.sent[outcome.command_id].body, jc.SubmitJob) and not rejected:
            exists = self._history.job(outcome.stream) is not None
            insist(exists, f"{name} was accepted, but there is no job {outcome.stream}")

    def _is_forgotten(self, first: Outcome, at_ms: int) -> bool:
        """Whether the window is over in which a repeat gets the first outcome."""
        window_ms = self._history.window_ms
        if window_ms == 0:
            return False
        return first.at_ms + window_ms <= at_ms or (
            first.stream in self._history.jobs and self._history.forgotten(first.stream, at_ms)
        )

    def check_all_answered(self) -> None:
        """Every command of a user has an outcome."""
        silent = [identity for identity in self.sent if identity not in self.first]
        insist(not silent, f"commands without an outcome: {silent[:5]}")

"""How a command ends that can't do what it was asked: one sentence on standard error and an exit status."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit statuses of the program; `MEANINGS` says what they mean."""

    OK = 0
    NO = 1
    UNUSABLE = 2
    REFUSED = 3
    UNREACHABLE = 4
    INTERRUPTED = 130


MEANINGS: dict[Exit, str] = {
    Exit.OK: "Done.",
    Exit.NO: "Done, and the answer is no: a job did not succeed, a check found a difference. Of a role: a part failed.",
    Exit.UNUSABLE: "The request, the settings or the start can't work; nothing was done.",
    Exit.REFUSED: "The api refused, with the reason; nothing was changed.",
    Exit.UNREACHABLE: "The api, Kafka or Postgres can't be reached, or the outcome is not known yet.",
    Exit.INTERRUPTED: "Ctrl-C.",
}


class CliError(Exception):
    """Ends the command. `sentence` says what is wrong and what to do."""

    def __init__(self, sentence: str, status: Exit = Exit.UNUSABLE) -> None:
        super().__init__(sentence)
        self.status = status

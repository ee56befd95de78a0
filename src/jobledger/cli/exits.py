"""How a command ends that can't do what it was asked: one sentence on standard error and an exit status."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit statuses of the program."""

    OK = 0
    NO = 1
    """The work was done and the answer is no, or a running part failed."""
    UNUSABLE = 2
    """The request, the settings or the start can't work."""
    REFUSED = 3
    """The api decided against it."""
    UNREACHABLE = 4
    """The api, Kafka or Postgres can't be reached, or nobody knows yet what became of the command."""
    INTERRUPTED = 130


class CliError(Exception):
    """Ends the command. `sentence` says what is wrong and what to do."""

    def __init__(self, sentence: str, status: Exit = Exit.UNUSABLE) -> None:
        super().__init__(sentence)
        self.status = status

"""Everything that a process has started, and what that has started, however it is related to it by now."""

from __future__ import annotations

import os
import time
import uuid

import psutil

VARIABLE = "JOBLEDGER_STARTED_BY"
_LOOK_SECONDS = 0.05
_SHOWN_CHARACTERS = 200


class Descendants:
    """Processes that carry a mark in their environment, which all that they start inherits.

    `environment` is to be given to what is started; `mark_this_process` does it for all that this process starts.
    `variable`: two that count apart have one each.
    """

    def __init__(self, variable: str = VARIABLE) -> None:
        self._variable = variable
        self._mark = uuid.uuid4().hex
        self.environment = {variable: self._mark}

    def mark_this_process(self) -> None:
        """Everything started from now on carries the mark; this process itself is not counted."""
        os.environ.update(self.environment)

    def living(self) -> list[psutil.Process]:
        """Those that live now."""
        found = []
        for process in psutil.process_iter():
            try:
                marked = process.pid != os.getpid() and process.environ().get(self._variable) == self._mark
                if marked and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:  # it has just ended, or is another user's, and so none of ours
                continue
        return found

    def left_after(self, seconds: float) -> list[str]:
        """Number and command of those that have not ended within the time; empty as soon as none lives."""
        deadline = time.monotonic() + seconds
        while (left := self.living()) and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
        return [_told(process) for process in left]

    def kill(self) -> None:
        """End those that live, at once."""
        for process in self.living():
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue


def _told(process: psutil.Process) -> str:
    try:
        return f"{process.pid}: {' '.join(process.cmdline())[:_SHOWN_CHARACTERS]}"
    except psutil.Error:
        return f"{process.pid}: (it ended just now)"

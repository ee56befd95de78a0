"""For our own roles: notice that the process that started us is gone."""

from __future__ import annotations

import os
import signal
import threading
import time

PARENT_FD_VARIABLE = "JOBLEDGER_PARENT_FD"
_LAST_GRACE_SECONDS = 5.0


def die_with_parent() -> None:
    """Ends this process when its supervisor ends, however that died; does nothing without a supervisor.

    The supervisor passes the read end of a pipe whose write end it alone holds. At its end of file this process
    gets SIGTERM, and 5 s later it ends at once.
    """
    descriptor = os.environ.pop(PARENT_FD_VARIABLE, "")
    if not descriptor:
        return
    pipe = int(descriptor)
    # Programs that this process starts must not take the pipe for theirs.
    os.set_inheritable(pipe, False)
    threading.Thread(target=_watch, args=(pipe,), name="parent-watch", daemon=True).start()


def _watch(pipe: int) -> None:
    while os.read(pipe, 64):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_LAST_GRACE_SECONDS)
    os._exit(1)

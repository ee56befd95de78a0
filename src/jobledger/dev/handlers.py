"""The handlers' modules, tried before anything is started for them."""

from __future__ import annotations

import os
import subprocess

from jobledger.dev.options import DevOptions, layout
from jobledger.dev.parent import PARENT_FD_VARIABLE
from jobledger.dev.roles import role_environment, sentence_in


class HandlersError(RuntimeError):
    """The workers' handlers can't be loaded; the text is the one sentence that a worker says about it."""


def check_handlers(options: DevOptions) -> None:
    """Imports the handlers in a process of its own, as a worker would, and lets it go. Raises HandlersError.

    Ctrl-C ends it, and it ends with this process.
    """
    places = layout(options)
    worker = next((instance for instance in places.instances if instance.role == "worker"), None)
    if worker is None:
        return
    read, write = os.pipe()
    env = {**role_environment(options, places, worker, "", os.environ), PARENT_FD_VARIABLE: str(read)}
    try:
        done = subprocess.run(
            [*options.role_command("worker"), "--check"],
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            pass_fds=(read,),
            timeout=options.ready_timeout_seconds,
        )
    except subprocess.TimeoutExpired as error:
        names = ", ".join(options.handlers) or "the handlers"
        raise HandlersError(
            f"The import of {names} has not ended after {options.ready_timeout_seconds:g} s: "
            f"a module with handlers should only define them."
        ) from error
    finally:
        os.close(read)
        os.close(write)
    if done.returncode != 0:
        raise HandlersError(sentence_in(done.stderr) or f"The check of the handlers ended with {done.returncode}.")

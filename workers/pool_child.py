"""A process of the handler pool: runs one plain handler at a time, and ends itself when nobody watches it any more.

Started by `ProcessPool` with two file descriptors as arguments: its socket and the lease. It dies, with all that
its handler has started, when the worker that started it is gone (the socket ends or is reset) and when the worker's
lease runs out during a call, even if the worker itself is stopped and can't kill it. Both are seen by threads, so a
handler that keeps the interpreter to itself inside one long call of C code is ended only when that call lets go.
"""

from __future__ import annotations

import os
import queue
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable

import msgspec

from jobledger.eventlog.boot_clock import boot_seconds
from jobledger.telemetry.logs import LOGGERS, configure_logging
from jobledger.telemetry.otel_context import running_in
from jobledger.workers.attempt import Attempt, call
from jobledger.workers.context import CancelFlag, Checkpoint
from jobledger.workers.errors import HandlerLoadError
from jobledger.workers.external_call import CallSpans
from jobledger.workers.handler_logs import log_what_is_printed
from jobledger.workers.lease import MAX_SLEEP_SECONDS, deadline_reader
from jobledger.workers.pool_protocol import (
    LENGTH,
    Cancel,
    Ended,
    LoadFailed,
    PoolMessage,
    Ready,
    Run,
    Saved,
    Setup,
    decode_for_child,
    frame,
)
from jobledger.workers.registry import Registry, load_handlers


class _Pipe:
    """The child's end of the socket; writes come from the handler's threads too."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._file = connection.makefile("rb")

    def send(self, message: PoolMessage) -> None:
        with self._lock:
            self._connection.sendall(frame(message))

    def receive(self) -> Setup | Run | Cancel | None:
        head = self._file.read(LENGTH.size)
        if len(head) < LENGTH.size:
            return None
        (length,) = LENGTH.unpack(head)
        body = self._file.read(length)
        return decode_for_child(body) if len(body) == length else None


def end_at_once() -> None:
    """End this process and everything in its group: it was started as the leader of its own session."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _to_the_end(work: Callable[[], None]) -> None:
    """Run a part of this process that it can't live without: with it ends the process, however that comes.

    A worker that is killed with something unread leaves a socket that is reset: reading it raises, it has no end.
    """
    try:
        work()
    except Exception as error:  # noqa: BLE001 - told here; whatever it is, the process goes with it
        if not isinstance(error, OSError):  # else: the connection is gone, and with it whoever would care
            traceback.print_exc()
    finally:
        end_at_once()


class _Child:
    def __init__(self, pipe: _Pipe, deadline: Callable[[], float]) -> None:
        self._pipe = pipe
        self._deadline = deadline
        self._calls: queue.SimpleQueue[Run] = queue.SimpleQueue()
        self._busy = threading.Event()
        self._flag = CancelFlag()
        self._pid = os.getpid()

    def serve(self, registry: Registry) -> None:
        for name, work in (("pipe", self._read), ("lease", self._watch_lease)):
            threading.Thread(target=_to_the_end, args=(work,), name=name, daemon=True).start()
        self._pipe.send(Ready())
        while True:
            self._handle(registry, self._calls.get())

    def _handle(self, registry: Registry, run: Run) -> None:
        handler = registry.get(run.info.handler)
        assert handler is not None, "the worker and its processes load the same modules"
        calls = CallSpans(recorded=run.recorded)
        attempt = Attempt(
            handler=handler,
            info=run.info,
            checkpoint=run.checkpoint,
            cancel=self._flag,
            save=self._save,
            calls=calls,
        )
        if run.log_levels != LOGGERS.changed:
            LOGGERS.change(run.log_levels)
        self._busy.set()
        if boot_seconds() >= self._deadline():
            end_at_once()
        with running_in(run.info.traceparent or ""):
            end = call(attempt)
        if calls.ended:
            end = msgspec.structs.replace(end, calls=tuple(calls.ended))
        if os.getpid() != self._pid:
            os._exit(0)  # a copy that the handler has forked and let return: the end is for the first one to tell
        self._busy.clear()
        self._pipe.send(Ended(end=end))

    def _save(self, checkpoint: Checkpoint) -> None:
        self._pipe.send(Saved(checkpoint=checkpoint.data, progress=checkpoint.progress))

    def _read(self) -> None:
        while True:
            message = self._pipe.receive()
            if message is None:
                return
            if isinstance(message, Cancel):
                self._flag.set(message.reason)
            if isinstance(message, Run):
                self._flag = CancelFlag()  # here, so that a cancel right behind it finds the flag of this call
                self._calls.put(message)

    def _watch_lease(self) -> None:
        while True:
            self._busy.wait()
            left = self._deadline() - boot_seconds()
            if left > 0:
                # A worker that lives moves the deadline away, or ends this process itself.
                time.sleep(min(left, MAX_SLEEP_SECONDS))
            elif self._busy.is_set():
                return


def main() -> None:
    """Load the handlers, then serve until the worker is gone."""
    _to_the_end(_main)


def _main() -> None:
    connection = socket.socket(fileno=int(sys.argv[1]))
    lease = int(sys.argv[2])
    connection.set_inheritable(False)
    os.set_inheritable(lease, False)
    # A signal to the whole group of the worker means that it drains: it ends its processes itself, when they are done.
    # Not SIG_IGN, which the programs that a handler starts would inherit.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)
    pipe = _Pipe(connection)
    setup = pipe.receive()
    if not isinstance(setup, Setup):
        return
    configure_logging("worker", setup.instance_id, setup.log_level)
    log_what_is_printed()
    try:
        registry = load_handlers(setup.modules)
    except HandlerLoadError as error:
        pipe.send(LoadFailed(message=str(error)))
        return
    _Child(pipe, deadline_reader(lease)).serve(registry)

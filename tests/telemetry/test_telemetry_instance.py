from __future__ import annotations

import socket
import subprocess
import sys

from jobledger.telemetry.instance import instance_name


def test_two_processes_without_a_configured_name_never_share_one() -> None:
    """Not even with the same process number and host name, as in containers: part of the name is random."""
    code = "from jobledger.telemetry.instance import instance_name; print(instance_name('scheduler'))"
    command = [sys.executable, "-P", "-c", f"import os; os.getpid = lambda: 1; {code}"]
    names = {subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() for _ in range(3)}
    assert len(names) == 3
    assert all(socket.gethostname().partition(".")[0][:40] in name for name in names)


def test_a_process_keeps_its_name_and_a_configured_one_is_taken() -> None:
    """Logs, metrics and clients of one process say the same name."""
    assert instance_name("scheduler") == instance_name("scheduler")
    assert instance_name("scheduler", "scheduler-1") == "scheduler-1"

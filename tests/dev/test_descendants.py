from __future__ import annotations

import os
import subprocess
import sys

from jobledger.dev.descendants import Descendants


def test_a_process_that_has_left_its_family_is_found() -> None:
    """A child of a child, in a session of its own, with no parent left, is told with its command and can be ended."""
    started = Descendants()
    leaves = "import subprocess; subprocess.Popen(['sleep', '600'], start_new_session=True)"
    subprocess.run([sys.executable, "-c", leaves], env={**os.environ, **started.environment}, check=True)
    [left] = started.left_after(0.2)
    assert left.endswith(": sleep 600")
    started.kill()
    assert started.left_after(5.0) == []


def test_what_others_have_started_is_not_counted() -> None:
    started = Descendants()
    with subprocess.Popen(["sleep", "600"]) as other:
        assert started.living() == []
        other.kill()

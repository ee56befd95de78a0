"""The command line program `jobledger`: the roles, the development stack, and everything a person asks by hand.

Exit status: 0 done; 1 done, and the answer is no (a job failed, a check found differences) or a part failed;
2 the request, the settings or the start can't work; 3 the api refused; 4 the api, Kafka or Postgres can't be
reached, or the outcome is not known; 130 Ctrl-C.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the program with the arguments of this process; ends the process with the exit status."""
    from jobledger.cli.program import run  # noqa: PLC0415 - `import jobledger.cli` stays cheap

    sys.exit(run(sys.argv[1:]))

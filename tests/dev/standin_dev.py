"""Runs the supervisor with stand-in roles; the arguments are `key=value` pairs of DevOptions."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from jobledger.dev.options import DevOptions
from jobledger.dev.supervisor import run_dev

ROLE = str(Path(__file__).with_name("standin_role.py"))


def main() -> int:
    given: dict[str, Any] = dict(argument.split("=", 1) for argument in sys.argv[1:])
    for name in ("data_dir", "ready_file"):
        if name in given:
            given[name] = Path(given[name])
    for name in ("port_base", "workers", "partitions"):
        if name in given:
            given[name] = int(given[name])
    for name in ("ephemeral", "restart"):
        if name in given:
            given[name] = given[name] == "yes"
    return run_dev(DevOptions(role_command=lambda role: [sys.executable, ROLE, role], **given))


if __name__ == "__main__":
    sys.exit(main())

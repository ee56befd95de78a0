"""`python -m jobledger`."""

from __future__ import annotations

from jobledger.cli import main

main()

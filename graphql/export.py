"""The schema as text: `python -m jobledger.graphql.export` prints it."""

from __future__ import annotations

import sys
from pathlib import Path

from strawberry.printer import print_schema

from jobledger.graphql.schema import build_schema

#: Beside the other exported schemas.
FILE_NAME = "schema.graphql"


def export_schema() -> str:
    """The SDL, sorted, with a newline at its end."""
    return print_schema(build_schema(sort=True)).strip() + "\n"


def default_path() -> Path:
    """Where the committed file stands in a checkout."""
    from jobledger import schemas  # noqa: PLC0415 - only the command line needs the place

    return Path(schemas.__file__).parent / FILE_NAME


if __name__ == "__main__":
    sys.stdout.write(export_schema())

"""The runbooks, taken apart: what a person would type, section by section."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "docs/how-to/runbooks"
PAGES = {page.stem: page for page in sorted(FOLDER.glob("*.md"))}
SECTIONS = ["Meaning", "Impact", "Look", "Do", "Verify", "Escalate"]
#: Blocks with this before them are typed in the live stack as they stand, in the order of the page.
RUN_MARK = "<!-- run: live -->"
_BLOCK = re.compile(rf"^(?P<run> *{RUN_MARK}\n)? *```(?P<kind>\w+)\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL)


def sections(name: str) -> dict[str, str]:
    """The text of each section of an alert's page, by its heading, in order."""
    parts = re.split(r"^## (.+)$", PAGES[name].read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def lines(name: str, kind: str, section: str | None = None, *, to_run: bool = False) -> list[str]:
    """The lines of the blocks of a kind (`bash`, `promql`), in the order of the page: a command or query each.

    `to_run`: those alone that are marked to be run.
    """
    text = "\n".join(body for title, body in sections(name).items() if section in (None, title))
    blocks = [block for block in _BLOCK.finditer(text) if block["kind"] == kind and (block["run"] or not to_run)]
    found = [textwrap.dedent(block["text"]) for block in blocks]
    return [line for block in found for line in block.splitlines() if line.strip()]

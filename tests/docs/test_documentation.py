"""The documentation is true: links resolve, examples run, commands, targets, settings and generated pages exist."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from jobledger.cli.program import build
from jobledger.cli.reference import pages
from jobledger.domain.aggregates import AGGREGATES
from jobledger.domain.identity import cell_stream, job_stream, queue_stream, tenant_stream
from jobledger.schemas.events import EVENT_CLASSES, type_name
from jobledger.settings import KafkaSettings, SecretStoreSettings, Settings
from jobledger.workers.runtime import DRAIN_SECONDS

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
_BLOCK = re.compile(r"^(?P<run><!-- run: \w+ -->\n)?```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    page: Path
    kind: str
    text: str
    runs: bool

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}: {self.text.strip().splitlines()[0]}"


def blocks(*kinds: str) -> list[Block]:
    found = []
    for page in PAGES:
        for match in _BLOCK.finditer(page.read_text(encoding="utf-8")):
            if match["kind"] in kinds:
                found.append(Block(page, match["kind"], match["text"], match["run"] is not None))
    return found


def anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page: Path) -> None:
    """Each link to a file or heading of the project leads somewhere."""
    text = page.read_text(encoding="utf-8")
    for target in _LINK.findall(_BLOCK.sub("", text)):
        if target.startswith(("https://", "http://")):
            continue
        name, _, heading = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        assert there.exists(), f"{page.name} links to {target}"
        assert there.is_relative_to(ROOT)
        if heading:
            headings = re.findall(r"^#+ (.*)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in map(anchor, headings), target


def test_every_page_is_linked_from_the_index() -> None:
    """Nothing is hidden: docs/README.md or a page next to it leads to each page."""
    linked = set()
    for page in PAGES:
        for target in _LINK.findall(page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                linked.add((page.parent / target.partition("#")[0]).resolve())
    hidden = [page for page in PAGES if page.resolve() not in linked and page.name != "README.md"]
    assert not hidden


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_examples_are_python_and_import_what_exists(block: Block) -> None:
    """Also those that need a server; `await` at top level stands for a coroutine around it."""
    tree = compile(block.text, str(block), "exec", flags=ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "jobledger":
            module = importlib.import_module(node.module or "")
            for name in node.names:
                assert hasattr(module, name.name), f"{node.module} has no {name.name}"


@pytest.mark.parametrize("block", [block for block in blocks("python") if block.runs], ids=str)
def test_python_examples_marked_to_run_do(block: Block, tmp_path: Path) -> None:
    """In a process and folder of their own."""
    file = tmp_path / "example.py"
    file.write_text(block.text)
    done = subprocess.run([sys.executable, file], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_the_readme_marks_its_handler_to_be_run() -> None:
    """Else the test above would test nothing."""
    assert any(block.page.name == "README.md" and block.runs for block in blocks("python"))


def shell_lines() -> Iterator[tuple[Path, str]]:
    for block in blocks("sh", "bash"):
        for line in block.text.replace("\\\n", " ").splitlines():
            if line.strip() and not line.lstrip().startswith("#"):
                yield block.page, line.partition(" # ")[0].strip().removeprefix("$ ")
    for page in PAGES:
        prose = _BLOCK.sub("", page.read_text(encoding="utf-8"))
        for quoted in re.findall(r"`((?:[A-Z_]+=\S+ )?jobledger [^`]+)`", prose):
            yield page, quoted


def program(line: str) -> list[str]:
    words = shlex.split(line)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    return words


COMMAND_LINES = sorted({line for _, line in shell_lines() if program(line)[:1] == ["jobledger"]})


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_commands_in_the_documentation_exist_with_their_options(line: str) -> None:
    """`jobledger` lines of examples and in the text name commands and options that the program has."""
    words = program(line)[1:]
    if not words or words[0].startswith(("…", "api|")):
        return
    command: Any = build()
    while words and not words[0].startswith("--") and getattr(command, "commands", None):
        name = words.pop(0)
        assert name in command.commands, f"{line!r}: there is no {name!r}"
        command = command.commands[name]
    known = {name for p in command.params for name in (*p.opts, *p.secondary_opts)} | {"--help"}
    for word in words:
        if word.startswith("--"):
            assert word.partition("=")[0] in known, f"{line!r}: there is no {word}"


def test_make_targets_in_the_documentation_exist() -> None:
    """`make demo`, `make test` and whatever else is named."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        "".join(target)
        for page in PAGES
        for target in re.findall(r"`make ([a-z-]+)|^make ([a-z-]+) +#", page.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert {"demo", "test"} <= named
    assert named <= targets, named - targets


def test_settings_in_the_documentation_exist() -> None:
    """Every JOBLEDGER_ variable that a page names is read by somebody."""
    known = {f"JOBLEDGER_{name.upper()}" for name in Settings.model_fields if name != "kafka"}
    known |= {f"JOBLEDGER_KAFKA_{name.upper()}" for name in KafkaSettings.model_fields}
    known |= {f"JOBLEDGER_SECRET_STORE_{name.upper()}" for name in SecretStoreSettings.model_fields}
    code = "".join(path.read_text() for path in (ROOT / "src" / "jobledger" / "dev").glob("*.py"))
    for page in PAGES:
        for name in re.findall(r"\bJOBLEDGER_[A-Z_]*[A-Z]\b", page.read_text(encoding="utf-8")):
            assert name in known or name in code or name == "JOBLEDGER_KAFKA", f"{page.name}: {name}"


def test_generated_pages_are_those_of_the_code() -> None:
    """`scripts/reference-pages` renews them."""
    for name, text in pages().items():
        assert (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8") == text, name


def test_every_event_is_explained_to_consumers() -> None:
    """By the name without prefix and version."""
    text = (ROOT / "docs" / "how-to" / "consume-events.md").read_text(encoding="utf-8")
    for cls in EVENT_CLASSES:
        assert f"`{type_name(cls).removeprefix('io.jobledger.').rpartition('.v')[0]}`" in text


def test_files_named_in_the_documentation_exist() -> None:
    """Paths in backquotes that begin with a folder of the project."""
    folders = "domain|schemas|eventlog|processors|projections|graphql|replay|workers|telemetry|scripts|examples|docs"
    for page in PAGES:
        for name in re.findall(rf"`((?:{folders})/[\w./-]*\w)`", page.read_text(encoding="utf-8")):
            assert (ROOT / name).exists(), f"{page.name}: {name}"


def test_the_names_of_streams_are_those_of_the_code() -> None:
    """All kinds, with the parts that they are made of."""
    text = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    for stream in (job_stream("<tenant>", "<uuid>"), queue_stream("<tenant>", "<name>"), tenant_stream("<tenant>")):
        assert f"`{stream}`" in text
    assert cell_stream(0, 1) == "cell:system:0" and "`cell:system:<number>`" in text
    assert len(AGGREGATES) == 4


def test_the_time_that_roles_need_to_stop_is_what_the_compose_file_gives() -> None:
    """In seconds, for a worker and for the others."""
    text = " ".join((ROOT / "docs" / "how-to" / "deploy.md").read_text(encoding="utf-8").split())
    compose = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    others, worker = re.findall(r"stop_grace_period: (\d+)s$", compose.replace("60s", ""), re.MULTILINE)
    assert f"Give a worker {worker} s before you kill it, the other roles {others} s" in text
    assert f"lets handlers end for {DRAIN_SECONDS:.0f} s" in text

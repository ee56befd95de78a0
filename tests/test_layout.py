"""The folders at the root are the packages below src/jobledger, by links that every checkout must keep."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobledger.domain.aggregates import AGGREGATES

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "jobledger"
LINKED = (
    "client",
    "dashboard",
    "deploy",
    "domain",
    "eventlog",
    "graphql",
    "processors",
    "projections",
    "replay",
    "schemas",
    "simulator",
    "telemetry",
    "workers",
)


@pytest.mark.parametrize("name", LINKED)
def test_each_top_level_folder_is_linked_into_the_package(name: str) -> None:
    link = PACKAGE / name
    assert (ROOT / name).is_dir()
    assert link.is_symlink(), f"{link} is no link: on Windows set core.symlinks=true and check out again"
    assert link.readlink() == Path("../..") / name
    assert link.resolve() == (ROOT / name).resolve()


def test_no_link_in_the_package_is_unknown_or_broken() -> None:
    assert {path.name for path in PACKAGE.iterdir() if path.is_symlink()} == set(LINKED)


def test_the_graphql_folder_is_no_package_of_its_own() -> None:
    """With an __init__.py it would hide graphql-core from every program started at the root."""
    assert not (ROOT / "graphql" / "__init__.py").exists()


def test_graphql_core_is_found_from_the_root() -> None:
    program = "import graphql; graphql.specified_rules; print(graphql.__file__)"
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "site-packages" in result.stdout


def test_every_linked_folder_goes_into_the_source_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included = project["tool"]["hatch"]["build"]["targets"]["sdist"]["force-include"]
    assert included == {name: f"src/jobledger/{name}" for name in LINKED}


@pytest.mark.parametrize("name", ["benchmarks", "docs", "examples", "tests", "scripts", "requirements"])
def test_the_other_top_level_folders_exist(name: str) -> None:
    assert (ROOT / name).is_dir()


def test_test_files_have_names_of_their_own() -> None:
    """There are no packages below tests, so two files of one name would be one module."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names))
    assert not list((ROOT / "tests").rglob("__init__.py"))


def _modules(folder: Path, name: str) -> dict[str, Path]:
    """The modules below a package by name, through the links."""
    found: dict[str, Path] = {}
    for path in folder.iterdir():
        if path.is_dir() and path.name != "__pycache__":
            found |= _modules(path, f"{name}.{path.name}")
        elif path.suffix == ".py":
            found[name if path.stem == "__init__" else f"{name}.{path.stem}"] = path
    return found


def _imports(path: Path) -> Iterator[str]:
    """Everything that a file imports by its full name, also for type checkers alone and inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
            yield node.module


def test_no_file_imports_itself_through_others() -> None:
    """No circles: neither when the program runs nor for type checkers."""
    modules = _modules(PACKAGE, "jobledger")
    graph: dict[str, set[str]] = {}
    for name, path in modules.items():
        wanted = list(_imports(path))
        # `from package import module` means the module, not what stands in the package itself.
        parents = {one.rpartition(".")[0] for one in wanted if one in modules}
        graph[name] = {one for one in wanted if one in modules and one not in parents} - {name}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_the_core_and_replay_know_no_kind_of_stream_by_name() -> None:
    """They go through the register of aggregates; a new kind changes nothing there."""
    kinds = tuple(f"jobledger.domain.{name}" for name in AGGREGATES)
    core = {*(PACKAGE / "processors/core").rglob("*.py"), *(PACKAGE / "replay").rglob("*.py")}
    assert len(core) > 20
    naming = {path.name: one for path in core for one in _imports(path) if one.startswith(kinds)}
    assert naming == {}

"""Each alert has its runbook; what a runbook tells to type is what the programs take, what it asks can be answered."""

from __future__ import annotations

import re
import shlex
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from promql_names import declared, names_in
from runbook_pages import PAGES, SECTIONS, lines, sections

from jobledger.cli.program import build
from jobledger.telemetry.catalogue import LOG_EVENTS
from jobledger.telemetry.log_query import read_query

#: Other programs that a page may name: of Kafka, Postgres, Alertmanager, containers, and the system.
PROGRAMS = {"amtool", "chronyc", "curl", "docker", "kubectl", "psql"}
KAFKA_TOOLS = {"kafka-consumer-groups.sh", "kafka-metadata-quorum.sh", "kafka-topics.sh"}
EVERY_PAGE = pytest.mark.parametrize("name", PAGES)


def test_each_alert_has_its_page_and_each_page_its_alert(alerts: list[dict[str, Any]]) -> None:
    assert set(PAGES) == {rule["alert"] for rule in alerts}


@EVERY_PAGE
def test_a_page_has_its_sections_and_something_to_type_in_those_to_act_by(name: str) -> None:
    found = sections(name)
    assert list(found) == SECTIONS
    assert all(text.strip() for text in found.values())
    assert PAGES[name].read_text(encoding="utf-8").startswith(f"# {name}\n")
    for section in ("Look", "Verify"):
        assert lines(name, "promql", section), section
    assert lines(name, "bash", "Escalate") == [
        f'amtool silence add alertname={name} --duration=2h --author="$USER" --comment="looking"'
    ]


program = cache(build)


def parse(words: list[str]) -> None:
    """Let the program read a command line as it would, without doing what it says; raises its error of usage."""
    command: Any = program()
    context = None
    while True:
        context = command.make_context(command.name, list(words), parent=context)
        if not getattr(command, "commands", None):
            return
        _, command, words = command.resolve_command(context, [*context._protected_args, *context.args])


COMMANDS = sorted({line for name in PAGES for line in lines(name, "bash")})


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_line_is_one_that_its_program_takes(line: str) -> None:
    words = shlex.split(line.replace('"$JOB"', "0190a1b2-0000-7000-8000-000000000000"))
    while re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words.pop(0)
    if words[0] == "jobledger":
        parse(words[1:])
    else:
        assert words[0] in PROGRAMS | KAFKA_TOOLS


@pytest.mark.parametrize(
    "line", ["jobs explode", "jobs list --colour", "quarantine show", "queues show mail pail", "jobs list --limit many"]
)
def test_a_wrong_command_line_would_be_seen(line: str) -> None:
    """Else the test above would see nothing."""
    with pytest.raises(Exception, match=r"(?i)no such|missing|unexpected|valid integer"):
        parse(line.split())


def test_the_queries_parse(tools: dict[str, str], tmp_path: Path) -> None:
    """All of them as rules of one file."""
    queries = sorted({query for name in PAGES for query in lines(name, "promql")})
    assert len(queries) > 60
    rules = [{"record": f"page:query:{number}", "expr": query} for number, query in enumerate(queries)]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "pages", "rules": rules}]}))
    done = subprocess.run([tools["promtool"], "check", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@EVERY_PAGE
def test_the_queries_name_metrics_that_there_are(name: str, rules: list[dict[str, Any]]) -> None:
    known = declared() | {rule["record"] for rule in rules if "record" in rule}
    for query in lines(name, "promql"):
        assert names_in(query) <= known, query


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("jobledger logs ")])
def test_a_question_to_the_logs_is_understood_and_asks_for_what_is_logged(line: str) -> None:
    query = shlex.split(line)[2]
    read_query(query, now=0.0)
    assert set(re.findall(r"event:(\w+)", query)) <= set(LOG_EVENTS)


@EVERY_PAGE
def test_what_a_page_names_in_the_log_is_logged(name: str) -> None:
    """Words of that shape in backquotes are log events, metrics, or settings of Postgres."""
    text = re.sub(r"^ *```.*?^ *```$", "", PAGES[name].read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", text))
    assert named <= set(LOG_EVENTS) | declared() | {"max_connections"}

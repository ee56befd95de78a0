"""The files in examples/ work: the index of the demo without any server, the reader of events against a broker."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka import Producer

from jobledger.domain.job.events import JobSucceeded
from jobledger.domain.values import SYSTEM
from jobledger.schemas.events import EventMapper, EventRecord, cloudevents_headers
from jobledger.testing import inline

ROOT = Path(__file__).parents[2]


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    import stdlib_index

    return stdlib_index


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    import demo

    return demo


def test_the_index_counts_what_is_in_a_module(index: object, tmp_path: Path) -> None:
    """Files that are no Python are counted by their lines only."""
    (tmp_path / "a.py").write_text(
        "def f():\n    pass\n\n\nclass C:\n    async def g(self):\n        1\n        2\n        3\n"
    )
    (tmp_path / "b.py").write_text("print 'old'\n")
    with inline() as client:
        handler = index.index_module  # type: ignore[attr-defined]
        job = client.submit(handler, {"name": "m", "root": str(tmp_path), "files": ["a.py", "b.py"]})
        assert job.result().model_dump() == {
            "name": "m",
            "files": 2,
            "lines": 10,
            "functions": 2,
            "classes": 1,
            "longest_function": "g",
            "longest_lines": 4,
            "unparsable": 1,
        }


def test_the_report_has_a_row_for_each_module_and_totals(index: object) -> None:
    """The longest function of all is named with its module."""
    counts = index.Counts  # type: ignore[attr-defined]
    rows = [
        counts(name="a", files=1, lines=10, functions=2, longest_function="f", longest_lines=4),
        counts(name="b", files=2, lines=5, classes=3, unparsable=1),
    ]
    text = index._table(rows)  # type: ignore[attr-defined]
    assert "| a | 1 | 10 | 2 | 0 | `f` | 4 |" in text
    assert "| b | 2 | 5 | 0 | 3 |  | 0 |" in text
    assert "| **Total** | 3 | 15 | 2 | 3 | `a.f` | 4 |" in text


def test_the_demo_finds_each_file_of_a_library_once(demo: object, tmp_path: Path) -> None:
    """Packages and modules at the top; `test` by its own; nothing that was installed beside it."""
    for name in ("os.py", "json/__init__.py", "json/x.py", "test/test_a.py", "test/sub/b.py", "site-packages/c.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert demo.library_modules(tmp_path) == {  # type: ignore[attr-defined]
        "json": ["json/__init__.py", "json/x.py"],
        "os": ["os.py"],
        "test.sub": ["test/sub/b.py"],
        "test.test_a": ["test/test_a.py"],
    }


def test_the_demo_tells_a_second_end_of_a_job(demo: object) -> None:
    """What the subscription brings twice is seen."""
    tally = demo.Tally(2)  # type: ignore[attr-defined]
    for status, kind in (("QUEUED", "task.ready"), ("SUCCEEDED", "job.succeeded"), ("SUCCEEDED", "job.succeeded")):
        tally.add({"jobId": "1", "status": status, "type": f"io.jobledger.{kind}.v1", "data": {}})
    assert (tally.ended, tally.ends["1"]) == (1, 2)


@pytest.mark.kafka
def test_the_plain_reader_prints_every_event_once(bootstrap_servers: str, cell: str, tmp_path: Path) -> None:
    """As a program of its own, with nothing of ours."""
    topic = f"{cell}.events"
    producer = Producer({"bootstrap.servers": bootstrap_servers})
    make_topic(bootstrap_servers, topic)
    for seq in (1, 2, 2, 3):  # the second one twice, as after a producer's fault
        record = EventRecord(
            id=f"0-{seq}",
            originator_id=f"job:default:{seq}",
            originator_version=1,
            seq=seq,
            tenant="default",
            at_ms=0,
            command_id="c",
            actor=SYSTEM,
            data=JobSucceeded(ended_at_ms=0),
        )
        stored = EventMapper().to_stored_event(record)
        producer.produce(topic, stored.state, b"k", 0, headers=cloudevents_headers(record, b"/cells/x"))
    assert producer.flush(10) == 0
    text = (ROOT / "examples" / "consume_events.py").read_text().replace('"jobledger.events"', repr(topic))
    program = tmp_path / "consume.py"
    program.write_text(text.replace("my-consumer", f"{cell}-consumer"))
    done = subprocess.run(
        [sys.executable, program, bootstrap_servers, "--once"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [line.split()[:3] for line in done.stdout.splitlines()] == [
        [str(seq), "io.jobledger.job.succeeded.v1", f"job:default:{seq}"] for seq in (1, 2, 3)
    ]


def make_topic(servers: str, topic: str) -> None:
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": servers})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(15)

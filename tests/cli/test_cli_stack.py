"""The command line against the whole system, as `jobledger dev` starts it."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import emissions
import httpx
import pytest
from confluent_kafka import Producer
from port_bases import free_port_base
from uuid_utils.compat import uuid7

import jobledger.telemetry.logs  # noqa: F401 - takes standard output as it is when it is first imported
from jobledger.cli.program import run
from jobledger.domain.identity import job_stream, partition_of
from jobledger.domain.job.commands import SubmitJob
from jobledger.domain.levels import LEVELS, NEWEST
from jobledger.domain.values import SYSTEM, Opaque
from jobledger.schemas.commands import Command, encode_command, join_record
from jobledger.telemetry.catalogue import LOG_EVENTS

pytestmark = [pytest.mark.kafka, pytest.mark.postgres, pytest.mark.timeout(300)]


class Said(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


class Stack:
    """A running `jobledger dev` and the program beside it."""

    def __init__(self, ready: dict[str, Any], logs: Path) -> None:
        self.ready = ready
        self.logs = logs
        clean = {name: value for name, value in os.environ.items() if not name.startswith("JOBLEDGER_")}
        self.env = {
            **clean,
            "JOBLEDGER_API_URL": ready["api_url"],
            "JOBLEDGER_DEV": "1",
            "JOBLEDGER_PARTITIONS": "4",
            "JOBLEDGER_KAFKA_BOOTSTRAP_SERVERS": ready["kafka_bootstrap_servers"],
            "JOBLEDGER_POSTGRES_DSN": ready["postgres_dsn"],
        }

    def run(self, *arguments: str) -> Said:
        """In this process: what it saves is the start of a Python for each command."""
        out, err = io.StringIO(), io.TextIOWrapper(io.BytesIO(), write_through=True)
        with patch.dict(os.environ, self.env, clear=True), redirect_stdout(out), redirect_stderr(err):
            status = run(arguments)
        return Said(int(status), out.getvalue(), err.buffer.getvalue().decode())

    def run_alone(self, *arguments: str, given: str = "") -> Said:
        """In a process of its own, for commands that set up the logs of the whole process or read its input."""
        done = subprocess.run(
            [sys.executable, "-m", "jobledger.cli", *arguments],
            env=self.env,
            input=given,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    def json(self, *arguments: str, status: int = 0, alone: bool = False) -> Any:
        done = (self.run_alone if alone else self.run)(*arguments, "--output", "json")
        assert done.returncode == status, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    tools = Path(__file__).parents[2] / "scripts/prometheus-tools"
    subprocess.run([tools], check=True, capture_output=True)
    folder = tmp_path_factory.mktemp("dev")
    ready = folder / "ready.json"
    command = [
        "dev",
        "--ephemeral",
        "--port-base",
        str(free_port_base()),
        "--ready-file",
        str(ready),
        "--logs",
        "logs",
        "--observe",
    ]
    with (folder / "dev.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "jobledger.cli", *command], cwd=folder, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            deadline = time.monotonic() + 150
            while not ready.exists():
                assert process.poll() is None and time.monotonic() < deadline, (folder / "dev.log").read_text()
                time.sleep(0.1)
            yield Stack(json.loads(ready.read_text()), folder / "logs")
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
    assert not ready.exists()
    assert sorted(path.name for path in Path(folder).iterdir()) == ["dev.log", "logs"]


def test_prometheus_and_alertmanager_watch_the_roles_with_the_rules_of_this_release(stack: Stack) -> None:
    watchers = stack.ready["watchers"]
    deadline = time.monotonic() + 30
    query = f"{watchers['prometheus']['url']}/api/v1"
    while len(httpx.get(f"{query}/query", params={"query": "up == 1"}).json()["data"]["result"]) < 4:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    groups = httpx.get(f"{query}/rules").json()["data"]["groups"]
    assert {"SchedulerDown", "WorkerPoolLow"} <= {rule["name"] for group in groups for rule in group["rules"]}
    receivers = httpx.get(f"{watchers['alertmanager']['url']}/api/v2/receivers").json()
    assert {"slack-critical", "page-manager", "incident"} <= {one["name"] for one in receivers}


def test_a_job_is_submitted_waited_for_and_shown(stack: Stack) -> None:
    """The same job in `submit --wait`, `show`, `list`, `history` and `watch`."""
    ended = stack.json("submit", "echo", "--payload", '{"a": [1, "ü"]}', "--tag", "team=x", "--wait")
    assert (ended["status"], ended["result"], ended["duplicate"]) == ("SUCCEEDED", {"a": [1, "ü"]}, False)
    job = ended["jobId"]
    shown = stack.json("jobs", "show", job)
    assert (shown["status"], shown["handler"], shown["tags"]) == ("SUCCEEDED", "echo", [{"name": "team", "value": "x"}])
    assert [attempt["status"] for attempt in shown["attempts"]] == ["SUCCEEDED"]
    listed = stack.json("jobs", "list", "--tag", "team=x", "--status", "succeeded", "--handler", "echo")
    assert [one["id"] for one in listed["jobs"]] == [job]
    history = stack.json("jobs", "history", job)
    assert [event["version"] for event in history] == [1, 2, 3, 4, 5]
    watched = stack.run("jobs", "watch", job, "--output", "json")
    assert watched.returncode == 0
    assert [json.loads(line)["type"] for line in watched.stdout.splitlines()] == [event["type"] for event in history]
    table = stack.run("jobs", "show", job)
    assert 'result     {"a": [1, "ü"]}' in table.stdout


def test_a_job_that_fails_is_exit_status_1_with_its_error(stack: Stack) -> None:
    """After as many attempts as were asked for."""
    ended = stack.json("submit", "fail", "--max-attempts", "1", "--wait", status=1)
    assert (ended["status"], ended["errorType"], ended["error"]) == (
        "DEAD_LETTERED",
        "RuntimeError",
        "attempt 1 failed, as asked",
    )
    assert stack.run("jobs", "watch", ended["jobId"]).returncode == 1


def test_the_page_on_a_failed_job_leads_from_it_to_the_line_the_trace_and_the_budget(stack: Stack) -> None:
    """Each command of the page, in its order, about a job that has just failed."""
    job = stack.json("submit", "fail", "--max-attempts", "1", "--wait", status=1)["jobId"]
    page = (Path(__file__).parents[2] / "docs/how-to/observe.md").read_text()
    lines = "".join(re.findall(r"^<!-- run: observe -->\n```bash\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    said: dict[str, str] = {}
    for line in lines.splitlines():
        words = [os.path.expandvars(word) for word in shlex.split(line.replace("$JOB", job))][1:]
        more = ["--dir", str(stack.logs)] if words[0] == "logs" else []
        # Rows take a moment; so do spans, which come from each role by itself.
        whole = "task_execution" if words[0] == "trace" else ""
        deadline = time.monotonic() + 20
        while whole not in (done := stack.run(*words, *more)).stdout or not done.stdout.strip() or done.returncode:
            assert time.monotonic() < deadline, (line, done)
            time.sleep(0.3)
        said[" ".join(words[:2])] = done.stdout
    shown = list(said.values())
    assert len(shown) == 6
    assert job in said["jobs list"] and "as asked" in said["jobs show"]
    assert "task_failed" in shown[2] and "error=RuntimeError" in shown[2]
    assert "task_execution" in shown[3]
    assert "error-rate" in shown[4]


def test_a_job_that_nobody_serves_says_why_it_waits_and_can_be_cancelled(stack: Stack) -> None:
    """The acknowledged cancel comes by `watch`, with the reason."""
    job = stack.json("submit", "nobody.serves")["jobId"]
    assert "no worker serves handler 'nobody.serves'" in stack.json("jobs", "show", job)["why"]
    assert stack.json("jobs", "cancel", job, "--reason", "not needed")["status"] in ("CANCELLING", "CANCELLED")
    watched = stack.run("jobs", "watch", job)
    assert watched.returncode == 1
    assert "reason=not needed" in watched.stdout
    again = stack.run("jobs", "cancel", job)
    assert again.returncode == 3
    assert f"Expected to cancel job '{job}', but it is CANCELLED" in again.stderr


def test_the_trace_of_a_job_is_shown_as_a_waterfall(stack: Stack) -> None:
    """By the job's id all of its traces, a second attempt being one with a link; by its own id one of them."""
    job = stack.json("submit", "fail", "--max-attempts", "2", "--wait", status=1)["jobId"]
    deadline = time.monotonic() + 30
    while len(traces := stack.json("trace", job)) < 2 or min(len(one["spans"]) for one in traces) < 4:
        assert time.monotonic() < deadline, traces
    first, second = traces
    names = ["api_request", "schedule_job", "queue_enqueue", "task_execution", "projection_apply"]
    assert sorted(span["name"] for span in first["spans"]) == sorted(names)
    assert {link for span in second["spans"] for link in span["links"]} == {first["id"]}
    shown = stack.run("trace", first["id"]).stdout.splitlines()
    assert shown[0].startswith(f"trace {first['id']}") and shown[0].endswith("kept as error")
    assert [(len(line) - len(line.lstrip())) // 2 for line in shown[1:]] == [0, 1, 2, 3, 4]
    assert [line.split()[0] for line in shown[1:]] == names and "RuntimeError" in shown[4]
    unknown = stack.run("trace", "ab" * 16)
    assert unknown.returncode == 3 and "No trace" in unknown.stderr
    assert stack.run("trace", "0198c0de-0000-7000-8000-000000000000").returncode == 3


def test_a_dead_letter_is_run_again_and_closed(stack: Stack) -> None:
    """Each once; a job that is no dead letter is refused with what it is."""
    job = stack.json("submit", "fail", "--max-attempts", "1", "--wait", status=1)["jobId"]
    assert stack.json("jobs", "redrive", job, "--reason", "mended")["status"] == "QUEUED"
    deadline = time.monotonic() + 60
    while [(shown := stack.json("jobs", "show", job))["status"], len(shown["attempts"])] != ["DEAD_LETTERED", 2]:
        assert time.monotonic() < deadline  # the first look may still see the first dead letter
    assert stack.json("jobs", "discard", job)["status"] == "DISCARDED"
    shown = stack.json("jobs", "show", job)
    assert (shown["status"], [one["assignment"] for one in shown["attempts"]]) == ("DISCARDED", [1, 2])
    assert "reason=mended" in stack.run("jobs", "history", job).stdout
    refused = stack.run("jobs", "redrive", job)
    assert (refused.returncode, "it is DISCARDED" in refused.stderr) == (3, True)


def test_a_job_in_the_future_waits_and_a_key_makes_it_one(stack: Stack) -> None:
    """`--in` is in `dueAt`; the same key is the same job, with another payload it is refused."""
    first = stack.json("submit", "echo", "--in", "1h", "--idempotency-key", "k")
    again = stack.json("submit", "echo", "--in", "1h", "--idempotency-key", "k")
    assert (again["jobId"], again["duplicate"]) == (first["jobId"], True)
    refused = stack.run("submit", "echo", "--idempotency-key", "k", "--payload", "1")
    assert refused.returncode == 3
    assert "--idempotency-key" in refused.stderr
    assert stack.json("jobs", "show", first["jobId"])["status"] == "SCHEDULED"
    assert stack.json("jobs", "cancel", first["jobId"])["status"] == "CANCELLED"
    late = stack.run("submit", "nobody", "--wait", "--wait-timeout", "1s", "--output", "json")
    assert (late.returncode, late.stdout) == (4, "")
    assert "has not ended after 1 s and is QUEUED; `jobledger jobs show " in late.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ("submit", "echo", "--queue", "nowhere"),
            "There is no queue 'nowhere'; create it with `jobledger queues",
        ),
        (("submit", "echo", "--priority", "9"), "--priority is 9, but must be a whole number, 1 (first) to 5 (last)."),
        (("submit", "echo", "--at", "2099-01-01T00:00:00Z"), "over ten years ahead"),
        (("submit", "not a name"), "handler is 'not a name', but must be a name: 1 to 100"),
        (("submit", "echo", "--max-attempts", "0"), "--max-attempts is 0, but must be 1 to 1,000."),
        (("jobs", "show", "00000000-0000-7000-8000-000000000000"), "`jobledger jobs list` shows"),
        (("jobs", "cancel", "00000000-0000-7000-8000-000000000000"), "No live job"),
        (("jobs", "list", "--after", "zzz"), "'zzz' is not a cursor"),
        (("queues", "show", "nowhere"), "`jobledger queues create nowhere` makes it"),
        (("queues", "update", "nowhere", "--description", "x"), "No queue 'nowhere'"),
    ],
)
def test_what_the_api_refuses_is_one_sentence_and_exit_status_3(
    stack: Stack, arguments: tuple[str, ...], expected: str
) -> None:
    """In the words of the program."""
    done = stack.run(*arguments)
    assert done.returncode == 3
    assert expected in done.stderr
    assert (done.stdout, len(done.stderr.splitlines())) == ("", 1)


def test_a_name_that_no_worker_serves_is_said_when_it_is_submitted(stack: Stack) -> None:
    """On standard error, with the names that there are; the job is submitted all the same."""
    said = stack.run("submit", "eco", "--output", "id")
    assert said.returncode == 0
    assert stack.json("jobs", "show", said.stdout.strip())["handler"] == "eco"
    assert said.stderr == (
        "No worker serves handler 'eco' on queue 'default' now, so the job waits until one does "
        "(served there: echo, fail, sleep).\n"
    )
    assert stack.run("submit", "echo", "--output", "id").stderr == ""


def test_lists_follow_pages_by_themselves_in_every_form(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page is 3 here; what is over the limit is told on standard error."""
    monkeypatch.setattr("jobledger.cli.jobs.PAGE", 3)
    wanted = ("--tag", "listed=yes")
    jobs = [stack.run("submit", "echo", *wanted, "--output", "id").stdout.strip() for _ in range(8)]
    settled(lambda: len(stack.json("jobs", "list", *wanted, "--oldest")["jobs"]) == 8)
    by_id = stack.run("jobs", "list", *wanted, "--oldest", "--output", "id")
    assert (by_id.stdout.split(), by_id.stderr) == (jobs, "")
    by_line = stack.run("jobs", "list", *wanted, "--oldest", "--limit", "7", "--output", "jsonl")
    assert [json.loads(line)["id"] for line in by_line.stdout.splitlines()] == jobs[:7]
    assert by_line.stderr.startswith("There are more: --limit 14, or --after ")
    cursor = by_line.stderr.split()[-1]
    rest = stack.json("jobs", "list", *wanted, "--oldest", "--after", cursor)
    assert [job["id"] for job in rest["jobs"]] == jobs[7:]
    table = stack.run("jobs", "list", *wanted, "--oldest", "--limit", "4")
    assert [line.split()[0] for line in table.stdout.splitlines()] == ["ID", *jobs[:4]]


def test_the_traceback_of_a_failed_attempt_is_shown(stack: Stack) -> None:
    """With the line of the handler that raised."""
    ended = stack.run("submit", "fail", "--max-attempts", "1", "--wait", "--output", "id")
    assert ended.returncode == 1
    shown = stack.run("jobs", "show", ended.stdout.strip())
    assert "Traceback of attempt 1:" in shown.stdout
    assert "raise RuntimeError(" in shown.stdout
    assert shown.stdout.rstrip().endswith("RuntimeError: attempt 1 failed, as asked")
    assert shown.stderr == ""


@pytest.mark.parametrize("server", ["kafka", "postgres"])
def test_another_servers_port_is_no_api(stack: Stack, server: str) -> None:
    """It is said at once, and as what it is."""
    port = {"kafka": stack.ready["kafka_bootstrap_servers"].split(":")[1], "postgres": port_of(stack.ready)}[server]
    for arguments in (("jobs", "list"), ("submit", "echo"), ("queues", "list")):
        said = stack.run(*arguments, "--api-url", f"http://127.0.0.1:{port}")
        assert (said.returncode, said.stdout) == (4, "")
        assert said.stderr.startswith(
            f"What listens at http://127.0.0.1:{port} does not speak HTTP, so it is not the api"
        )
        assert len(said.stderr.splitlines()) == 1


def test_a_port_of_metrics_is_no_api(stack: Stack) -> None:
    """It speaks HTTP, and has no GraphQL."""
    url = stack.ready["roles"][0]["metrics_url"].removesuffix("/metrics")
    said = stack.run("jobs", "list", "--api-url", url)
    assert (said.returncode, said.stdout) == (4, "")
    assert "JOBLEDGER_API_URL" in said.stderr
    assert len(said.stderr.splitlines()) == 1


def port_of(ready: dict[str, Any]) -> int:
    return int(str(ready["postgres_dsn"]).rpartition(":")[2].partition("/")[0])


def settled(holds: Any) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_payload_over_the_limit_is_refused_by_its_size(stack: Stack) -> None:
    """Read from standard input."""
    done = stack.run_alone("submit", "echo", "--payload", "-", given=json.dumps("x" * 300_000))
    assert done.returncode == 3
    assert "--payload has 300,002 bytes" in done.stderr


def test_queues_and_workers_are_made_changed_and_listed(stack: Stack) -> None:
    """A queue nobody serves says how to serve it."""
    assert stack.json("queues", "create", "emails", "--max-waiting-bytes", "1MiB")["queue"] == "emails"
    assert stack.run("queues", "create", "emails").returncode == 3
    stack.json("queues", "update", "emails", "--description", "Mails")
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        queues = {queue["name"]: queue for queue in stack.json("queues", "list")}
        if queues.get("emails", {}).get("description") == "Mails":
            break
    assert (queues["emails"]["maxWaitingBytes"], queues["emails"]["description"]) == (1024**2, "Mails")
    assert (
        "`jobledger worker --queue emails --handlers MODULE` starts one."
        in stack.run("queues", "show", "emails").stderr
    )
    (worker,) = stack.json("workers", "list")
    assert (worker["id"], worker["handlers"]) == ("worker-1", ["echo", "fail", "sleep"])
    pending = stack.json("command", "show", "00000000-0000-7000-8000-000000000000", status=4)
    assert pending["status"] == "PENDING"


def test_an_operator_finds_everything_as_the_log_says(stack: Stack) -> None:
    """Topics, migrations, verification, and a rebuild that changes nothing."""
    assert stack.json("topics", "check")["ok"]
    assert stack.json("db", "migrate", alone=True)["migration"] >= 1
    with patch.dict(stack.env, JOBLEDGER_PARTITIONS="8"):
        wrong = stack.run_alone("replay", "verify")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "set JOBLEDGER_PARTITIONS=4." in wrong.stderr
    verified = stack.json("replay", "verify", alone=True)
    assert verified["ok"], verified["differences"]
    assert verified["events"] > 0
    rebuilt = stack.json("projection", "rebuild", alone=True)
    assert (rebuilt["switched"], rebuilt["differences"]) == (True, [])
    assert stack.json("replay", "verify", alone=True)["ok"]


def set_aside(stack: Stack, *values: bytes) -> list[dict[str, Any]]:
    """What is in quarantine once these records have been written to `commands`, the oldest first."""
    before = len(stack.json("quarantine", "list", "--all", "--limit", "100"))
    servers = stack.ready["kafka_bootstrap_servers"]
    producer = Producer({"bootstrap.servers": servers, "message.max.bytes": 2 * 1024 * 1024})
    for value in values:
        producer.produce("jobledger.commands", value, partition=1)
    assert producer.flush(10) == 0
    wanted = before + len(values)
    settled(lambda: len(stack.json("quarantine", "list", "--all", "--limit", "100")) == wanted)
    found: list[dict[str, Any]] = stack.json("quarantine", "list", "--limit", "100")
    return found[: len(values)][::-1]


def test_the_budgets_of_the_service_levels_are_told(stack: Stack) -> None:
    """A job that is expected to take its time is left out of one of them."""

    def completion() -> dict[str, Any]:
        found: dict[str, Any] = {one["name"]: one for one in stack.json("slo", "--days", "1")}["completion"]
        return found

    before = completion()
    stack.json("submit", "echo", "--expected-duration", "10m", "--wait")
    deadline = time.monotonic() + 20
    while (after := completion())["excluded"] == before["excluded"]:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert after["total"] >= before["total"] and after["windowDays"] == 1
    table = stack.run("slo")
    assert "BUDGET LEFT" in table.stdout and "\nscheduling-accuracy: " in table.stdout
    assert stack.run("slo", "--days", "31").returncode == 2


def test_the_formats_of_a_new_cell_are_the_newest(stack: Stack) -> None:
    """To enable them is written into the log of every partition, once; what nobody knows is refused."""
    newest = LEVELS[NEWEST]
    levels = stack.json("cluster", "status", alone=True)
    assert levels["reads"] == list(LEVELS.values())
    assert {(one["level"], one["reads"]) for one in levels["partitions"]} <= {(newest, newest), (None, None)}
    with patch.dict(stack.env, JOBLEDGER_PARTITIONS="3"):
        other = stack.run_alone("cluster", "status")
    assert other.returncode == 2 and "has 4 partitions, but JOBLEDGER_PARTITIONS is 3" in other.stderr
    enabled = stack.json("cluster", "enable", newest, alone=True)
    assert [one["level"] for one in enabled["partitions"]] == [newest] * 4
    assert stack.run_alone("cluster", "enable", newest).returncode == 0
    back = stack.run_alone("cluster", "enable", "0.1")
    assert (back.returncode, back.stderr.count("\n")) == (3, 1)
    assert "no way back" in back.stderr
    assert stack.run_alone("cluster", "enable", "9.9").stderr.startswith("'9.9' is no release with formats of its own")
    assert stack.run_alone("replay", "verify").returncode == 0


def test_schedulers_are_listed_with_what_they_serve(stack: Stack) -> None:
    """A partition that nobody serves is named, and is the exit status."""
    listed = stack.json("schedulers", "list")
    (one,) = listed["schedulers"]
    assert one == {"scheduler": "scheduler-1", "serves": [0, 1, 2, 3], "holds": [0, 1, 2, 3]}
    assert listed["unserved"] == []
    with patch.dict(stack.env, JOBLEDGER_CELL="nobody"):
        nobody = stack.run("schedulers", "list")
    assert nobody.returncode == 2 and nobody.stderr.count("\n") == 1


@pytest.mark.scenario("a record is broken", emits=("quarantine_resolved",))
def test_what_cannot_be_read_is_listed_shown_retried_and_discarded(stack: Stack) -> None:
    """Every byte of it is kept; a retry that fails again is set aside anew; what is resolved stays so."""
    noise = b"\x00\xff" + b"x" * 1_500_000
    broken, large = set_aside(stack, b'{"commands":[1]}', noise)
    assert (broken["status"], broken["topic"], broken["partition"], broken["index"]) == ("OPEN", "commands", 1, 0)
    # It goes in pieces, and is listed with the first of them.
    settled(lambda: stack.json("quarantine", "show", large["id"])["data"] is not None)
    shown = stack.json("quarantine", "show", large["id"])
    assert shown["size"] == len(noise) and shown["offset"] == broken["offset"] + 1
    assert base64.b64decode(shown["data"]) == noise and "cannot be read" in shown["reason"]
    assert stack.run_alone("quarantine", "show", broken["id"], "--raw").stdout == "1"
    assert stack.json("quarantine", "discard", large["id"], "--note", "noise")["status"] == "DISCARDED"
    assert stack.json("quarantine", "retry", broken["id"])["status"] == "RETRIED"
    settled(lambda: [one["offset"] for one in stack.json("quarantine", "list")] == [large["offset"] + 1])
    settled(lambda: len(_found(stack, "event:quarantine_resolved")) >= 2)
    (again,) = stack.json("quarantine", "list")
    assert again["id"] != broken["id"] and again["reason"] == broken["reason"]
    twice = stack.run("quarantine", "retry", broken["id"])
    assert (twice.returncode, twice.stderr.count("\n")) == (3, 1)
    assert "is RETRIED already" in twice.stderr
    assert stack.run("quarantine", "show", "9-9-9").returncode == 3
    assert stack.run("quarantine", "discard", "9-9-9").stderr.startswith("Nothing with id '9-9-9' is in quarantine")


def test_a_command_that_came_to_the_wrong_partition_is_retried_where_its_stream_lives(stack: Stack) -> None:
    """It is decided there as if it had come there at first."""
    job = str(uuid7())
    while partition_of(job_stream("default", job), 4) == 1:
        job = str(uuid7())
    command = Command(
        id=job,
        stream=job_stream("default", job),
        actor=SYSTEM,
        body=SubmitJob(handler="echo", queue="default", payload=Opaque('"retried"'), priority=3),
    )
    (item,) = set_aside(stack, join_record([encode_command(command)]))
    assert (item["commandId"], item["stream"]) == (job, command.stream)
    stack.json("quarantine", "retry", item["id"])
    settled(lambda: stack.run("jobs", "show", job).returncode == 0)
    ended = stack.run("jobs", "watch", job)
    assert ended.returncode == 0
    assert stack.json("jobs", "show", job)["result"] == "retried"


# -- logs -------------------------------------------------------------------------------------------------------------

PLANTED = "hunter2-planted"


@pytest.fixture(scope="module")
def logged(stack: Stack) -> dict[str, str]:
    """Ids of an execution that failed and of one that ran into its limit, both logged at DEBUG by every role."""
    for role in stack.ready["roles"]:
        changed = stack.json("log-level", role["health_url"], "root", "DEBUG", "--for", "5m")
        assert (changed["level"], changed["was"]) == ("DEBUG", "INFO")
    secret = ["--payload", json.dumps({"card": PLANTED}), "--idempotency-key", f"{PLANTED}-key", "--wait"]
    failed = stack.json("submit", "fail", "--max-attempts", "1", *secret, status=1)
    stack.json("submit", "echo", *secret[:2], "--wait")
    _ask_wrongly(stack)
    late = ["--timeout", "1s", "--max-attempts", "1", "--wait"]
    slow = stack.json("submit", "sleep", "--payload", '{"seconds": 30}', *late, status=1)
    assert slow["status"] == "DEAD_LETTERED"
    for role in stack.ready["roles"]:
        assert stack.json("log-level", role["health_url"], "root")["level"] == "INFO"
    (line,) = _found(stack, f'event:task_failed AND job_id:"{failed["jobId"]}"')
    return {"execution": line["context"]["execution_id"], "trace": line["trace_id"], "slow_job": slow["jobId"]}


def _ask_wrongly(stack: Stack) -> None:
    """Requests that hold a secret in a header, a variable, a literal, and in what is no JSON."""
    headers = {"authorization": f"Bearer {PLANTED}", "x-api-key": PLANTED, "content-type": "application/json"}
    asked = {"query": "query($id: ID!, $n: Int) { job(id: $id) { id } jobs(first: $n) { totalCount } }"}
    for body in (
        json.dumps({**asked, "variables": {"id": PLANTED, "n": PLANTED}}),
        json.dumps({"query": f'{{ jobs(first: "{PLANTED}") {{ totalCount }} }}'}),
        f'{{"query": {PLANTED}',
    ):
        request = urllib.request.Request(stack.ready["graphql_url"], body.encode(), headers)
        with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(request, timeout=10) as answer:
            answer.read()


def _found(stack: Stack, query: str, *more: str) -> list[dict[str, Any]]:
    done = stack.run("logs", query, "--dir", str(stack.logs), "--output", "json", *more)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    for line in lines:
        emissions.note(line["event"])
    return lines


def _examples() -> list[tuple[str, str]]:
    """The questions of the page, each as the query of `jobledger logs` and the line of jq."""
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "query-logs.md").read_text()
    return re.findall(r"^jobledger logs '(.*)'\n(cat .*)$", page, re.MULTILINE)


@pytest.mark.parametrize("number", range(5))
def test_the_five_questions_are_answered_by_the_program_and_by_jq(
    number: int, stack: Stack, logged: dict[str, str]
) -> None:
    """As the documentation has them, over the lines of a live cell; the numbers of a quick machine are lower."""
    query, jq = _examples()[number]
    for said, meant in {
        "exec-67890": logged["execution"],
        "abc123def456": logged["trace"],
        "tenant-abc": "default",
        ":>100": ":>1",
        "_ms > 100": "_ms > 1",
        ".jobledger/logs": str(stack.logs),
    }.items():
        query, jq = query.replace(said, meant), jq.replace(said, meant)
    ours = _found(stack, query)
    done = subprocess.run(["bash", "-c", jq], capture_output=True, text=True, check=True, timeout=60)
    theirs = [json.loads(line) for line in done.stdout.splitlines()]
    key = json.dumps
    assert sorted(map(key, ours)) == sorted(map(key, theirs))
    assert [line["timestamp"] for line in ours] == sorted(line["timestamp"] for line in ours)
    expected = [
        {"job_dispatched", "task_received", "task_started", "task_failed"},
        {"task_failed"},
        {"job_dispatched"},
        {"task_timeout"},
        {"job_dispatched", "task_received", "task_started", "task_failed", "job_dead_lettered", "state_transition"},
    ][number]
    assert expected <= {line["event"] for line in ours}


def test_lines_of_the_whole_system_have_their_form_and_hold_nothing_of_users(
    stack: Stack, logged: dict[str, str]
) -> None:
    """Payloads, idempotency keys, headers, and what requests held that could not be read, at DEBUG."""
    fields = ["timestamp", "level", "service", "instance_id", "trace_id", "span_id", "event", "message", "context"]
    text = b"".join(path.read_bytes() for path in stack.logs.iterdir())
    assert PLANTED.encode() not in text
    lines = [json.loads(line) for line in text.splitlines() if line.startswith(b"{")]
    assert {line["service"] for line in lines} == {"api", "scheduler", "projector", "worker"}
    assert {line["level"] for line in lines} >= {"DEBUG", "INFO", "WARN", "ERROR"}
    for line in lines:
        assert list(line) == fields
        declared = LOG_EVENTS[line["event"]]
        assert set(declared.fields) <= set(line["context"]), line
        assert line["service"] in map(str, declared.owners), line
        assert line["level"] == declared.level or line["event"] in {"library_log", "handler_log"}
    assert logged["slow_job"].encode() in text
    changes = [line for line in lines if line["event"] == "log_level_changed"]
    assert len(changes) == len(stack.ready["roles"])
    assert all("@" in line["context"]["changed_by"] for line in changes)


def test_logs_are_narrowed_ordered_followed_and_shown_to_people(stack: Stack, logged: dict[str, str]) -> None:
    """The newest lines, the newest first, and as text; a line that comes later is followed."""
    assert len(_found(stack, "level:INFO", "--limit", "3")) == 3
    newest = [line["timestamp"] for line in _found(stack, "level:INFO | sort -@timestamp", "--limit", "3")]
    assert newest == sorted(newest, reverse=True)
    assert newest[0] == max(line["timestamp"] for line in _found(stack, "level:INFO"))
    assert _found(stack, "event:process_started", "--since", "1ms") == []
    shown = stack.run("logs", f'execution_id:"{logged["execution"]}" AND event:task_failed', "--dir", str(stack.logs))
    assert f"ERROR worker-1 task_failed: Task failed execution_id={logged['execution']}" in shown.stdout
    stack.json("submit", "echo", "--wait")
    follow = [sys.executable, "-m", "jobledger.cli", "logs", "event:task_completed", "--follow", "--since", "1h"]
    command = [*follow, "-o", "json", "--dir", str(stack.logs)]
    # A test run in the background of a shell has been told to ignore ^C, and so would be what it starts.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    with process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["event"] == "task_completed", "it has begun to read"
        job = stack.json("submit", "echo", "--wait")["jobId"]
        assert any(json.loads(line)["context"]["job_id"] == job for line in process.stdout)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130

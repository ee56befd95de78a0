"""`make demo`: the whole system at real work, with a worker killed in the middle; ends with a report and a verdict."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import sysconfig
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uuid_utils
from demo_progress import Tally, View, tell

from jobledger.client import AsyncClient, JobledgerError, JobSpec
from jobledger.client.errors import Unavailable
from jobledger.dev.child import ChildFailedError
from jobledger.dev.datadir import data_dir
from jobledger.dev.descendants import Descendants
from jobledger.dev.extra import ExtraMissingError
from jobledger.dev.handlers import HandlersError, check_handlers
from jobledger.dev.jars import DownloadFailedError, default_cache_dir
from jobledger.dev.kafka import prepare_kafka
from jobledger.dev.options import DevOptions, layout
from jobledger.dev.ports import is_free
from jobledger.dev.ready import RunningStack
from jobledger.dev.stopping import StopRequest, stop_requests
from jobledger.dev.supervisor import PortTakenError, RoleFailedError, RoleRefusedError, Supervisor, ended_with
from jobledger.replay.report import VerifyError
from jobledger.replay.verify import verify
from jobledger.settings import KafkaSettings, Settings

REPORT = "demo-report.md"
#: Of this program and of the handlers.
FOLDER = Path(__file__).resolve().parent
HANDLERS = "stdlib_index"
PARTITIONS = 4
#: Short, so that the tasks of the killed worker come back soon.
LEASE_SECONDS = 4
KILL_AT = 0.35
READY_SECONDS = 120.0
RUN_SECONDS = 240.0
#: For a process of the stack to be gone after the stack has stopped.
LEFT_SECONDS = 10.0
_EVENTS = """
subscription($filter: JobEventFilter!, $after: Position) { jobEvents(filter: $filter, after: $after) { __typename
  ... on JobEvent { type jobId status data position } ... on Resync { position } } }"""
_HISTORY = """
query($filter: JobFilter, $after: Cursor) { jobs(filter: $filter, first: 50, after: $after) {
  edges { node { id handler status result attempts { status } events(first: 100) { edges { node { type version } } } } }
  pageInfo { hasNextPage endCursor } } }"""


class DemoError(RuntimeError):
    """The demo can't go on; the text says why."""


@dataclass(slots=True)
class Outcome:
    """What the demo found. `faults` empty: all was right."""

    jobs: int = 0
    rows: int = 0
    events: int = 0
    lost: int = 0
    killed: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    verified: str = ""
    left: list[str] = field(default_factory=list)
    """Processes that outlived their role or the stack."""
    faults: list[str] = field(default_factory=list)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Notes how long the block took."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[step] = time.monotonic() - started


def library_modules(root: Path) -> dict[str, list[str]]:
    """The packages and modules of the standard library in `root`, each with its files.

    `test`, which is as large as the rest together, counts as one module for each of its own packages and modules.
    """
    found: dict[str, list[str]] = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if {"site-packages", "dist-packages", "__pycache__"} & set(parts):
            continue
        name = ".".join(parts[:2]) if parts[0] == "test" else parts[0]
        found.setdefault(name, []).append(str(path.relative_to(root)))
    return found


class Demo:
    """The work, in a thread of its own beside the supervisor."""

    def __init__(self, stack: Callable[[], RunningStack], report: Path) -> None:
        self._stack = stack
        self._report = report
        self._run = str(uuid_utils.uuid7())
        self.outcome = Outcome()

    async def run(self) -> None:
        """All of it; raises DemoError and JobledgerError."""
        outcome = self.outcome
        root = Path(sysconfig.get_paths()["stdlib"])
        modules = library_modules(root)
        async with AsyncClient(str(self._stack().as_json()["api_url"])) as client:
            with outcome.timed("index"):
                tally = await self._index(client, root, modules)
            with outcome.timed("report"):
                await self._write_report(client, len(modules))
            with outcome.timed("check"):
                await self._check(client, tally)
        with outcome.timed("verify"):
            await self._verify()

    async def _index(self, client: AsyncClient, root: Path, modules: dict[str, list[str]]) -> Tally:
        """Submit a job for each module and follow the events of all until the last has ended."""
        tally = Tally(len(modules))
        specs = [
            JobSpec(
                handler="index_module",
                payload={"name": name, "root": str(root), "files": files},
                tags={"run": self._run},
                idempotency_key=f"{self._run}/{name}",
            )
            for name, files in modules.items()
        ]
        files = sum(map(len, modules.values()))
        tell(f"Indexing {files} files of {len(specs)} modules in {root}: one job each.")
        position = (await client.jobs(first=1)).position
        jobs = await client.submit_many(specs)
        self.outcome.jobs = len(jobs)
        with View(tally, "Indexing") as view:
            async with asyncio.timeout(RUN_SECONDS), aclosing(self._follow(client, position)) as events:
                async for event in events:
                    tally.add(event)
                    if not self.outcome.killed and tally.ended >= KILL_AT * tally.total:
                        self._kill_a_worker(tally, view)
                    view.update()
                    if tally.ended >= tally.total:
                        break
        self.outcome.lost, self.outcome.events = tally.lost, tally.events
        return tally

    async def _follow(self, client: AsyncClient, after: str) -> AsyncGenerator[dict[str, Any], None]:
        """Every event of the run behind a position, once, whatever happens to the connection."""
        wanted = {"tags": [{"name": "run", "value": self._run}]}
        while True:
            try:
                variables = {"filter": wanted, "after": after}
                async with aclosing(client.transport.subscribe(_EVENTS, variables)) as items:
                    async for item in items:
                        event = item["jobEvents"]
                        after = event["position"]
                        if event["__typename"] == "Resync":
                            break
                        yield event
            except Unavailable:
                await asyncio.sleep(0.5)

    def _kill_a_worker(self, tally: Tally, view: View) -> None:
        """SIGKILL for the worker that started a task last: no goodbye, its tasks hang in the air."""
        workers = {role.instance.id: role.pid for role in self._stack().roles if role.instance.role == "worker"}
        name = next((worker for worker in reversed(tally.worker.values()) if worker in workers), min(workers))
        if workers[name]:
            os.kill(workers[name], signal.SIGKILL)
            self.outcome.killed = name
            view.say(f"{name} (process {workers[name]}) was killed with -9 at {tally.ended} of {tally.total}.")

    async def _write_report(self, client: AsyncClient, modules: int) -> None:
        """The last job collects the results through the api, inside a handler."""
        self._report.unlink(missing_ok=True)
        payload = {"run": self._run, "modules": modules, "path": str(self._report)}
        job = await client.submit("write_report", payload, tags={"report-of": self._run})
        result = await job.result(timeout=90)
        rows = sum(line.startswith("| ") for line in self._report.read_text().splitlines()) - 2  # head and total
        self.outcome.rows = rows
        if rows != modules or result["rows"] != modules:
            self.outcome.faults.append(f"{self._report.name} has {rows} rows for {modules} modules.")

    async def _check(self, client: AsyncClient, tally: Tally) -> None:
        """Each job succeeded exactly once: by the read model, by its history, and by what the subscription brought."""
        faults = self.outcome.faults
        seen = 0
        after: str | None = None
        while True:
            wanted = {"tags": [{"name": "run", "value": self._run}]}
            page = (await client.execute(_HISTORY, {"filter": wanted, "after": after}))["jobs"]
            for edge in page["edges"]:
                seen += 1
                faults += _faults_of(edge["node"])
            if not page["pageInfo"]["hasNextPage"]:
                break
            after = page["pageInfo"]["endCursor"]
        if seen != tally.total:
            faults.append(f"There are {seen} jobs for {tally.total} submissions.")
        faults += [f"The end of job {job} came {count} times." for job, count in tally.ends.items() if count != 1]
        if not self.outcome.killed:
            faults.append("No worker was killed.")

    async def _verify(self) -> None:
        """Fold the whole log and compare it with state and read models."""
        stack = self._stack()
        settings = Settings(
            dev=True,
            partitions=PARTITIONS,
            postgres_dsn=stack.postgres_dsn,
            kafka=KafkaSettings(bootstrap_servers=stack.kafka_bootstrap_servers),
        )
        report = await verify(settings)
        self.outcome.verified = "\n".join(report.lines())
        if not report.ok:
            self.outcome.faults.append(f"replay verify found {report.difference_count} difference(s).")


def _faults_of(job: dict[str, Any]) -> Iterator[str]:
    types = [edge["node"]["type"] for edge in job["events"]["edges"]]
    versions = [edge["node"]["version"] for edge in job["events"]["edges"]]
    successes = sum(".task.succeeded." in kind for kind in types), sum(".job.succeeded." in kind for kind in types)
    attempts = [attempt["status"] for attempt in job["attempts"]]
    if job["status"] != "SUCCEEDED" or successes != (1, 1) or attempts.count("SUCCEEDED") != 1:
        yield f"Job {job['id']} is {job['status']} with attempts {', '.join(attempts)}; expected one success."
    if versions != list(range(1, len(versions) + 1)):
        yield f"The history of job {job['id']} has versions {versions}."


def demo_options() -> DevOptions:
    """The stack of the demo, on ports that are free now."""
    environment = {
        "PYTHONPATH": os.pathsep.join([str(FOLDER), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "JOBLEDGER_LEASE_SECONDS": str(LEASE_SECONDS),
        "JOBLEDGER_HEARTBEAT_INTERVAL_SECONDS": "0.5",
        "JOBLEDGER_WORKER_SLOTS": "2",
    }
    for _ in range(200):
        base = random.randrange(20_000, 32_000, 100)  # below the ports that systems give out by themselves
        options = DevOptions(
            ephemeral=True,
            port_base=base,
            workers=2,
            partitions=PARTITIONS,
            handlers=(HANDLERS,),
            environment=environment,
        )
        if all(map(is_free, layout(options).named_ports())):
            return options
    raise DemoError("No free ports were found between 20000 and 32000; stop what listens there.")


class _StoppedError(Exception):
    """Somebody asked the demo to stop."""


class _Work(threading.Thread):
    """Runs the demo's coroutine; `error` is what ended it early."""

    def __init__(self, demo: Demo) -> None:
        super().__init__(name="demo", daemon=True)
        self._demo = demo
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            asyncio.run(self._demo.run())
        except BaseException as error:  # noqa: BLE001 - the main thread tells it
            self.error = error


def _bring_up(supervisor: Supervisor, request: StopRequest) -> None:
    supervisor.start()
    deadline = time.monotonic() + READY_SECONDS
    while not supervisor.ready:
        if request.wait(0.1):
            raise _StoppedError
        supervisor.tick()
        if time.monotonic() > deadline:
            raise RoleFailedError(supervisor.not_ready())


def _run_beside(supervisor: Supervisor, demo: Demo, request: StopRequest) -> None:
    work = _Work(demo)
    work.start()
    while work.is_alive():
        if request.wait(0.1):
            raise _StoppedError
        supervisor.tick()
    if work.error is not None:
        raise work.error


def _tell_outcome(outcome: Outcome, report: Path, seconds: float) -> None:
    steps = ", ".join(f"{step} {taken:.1f} s" for step, taken in outcome.seconds.items())
    again = f"{outcome.lost} attempts were lost with it and handed out again"
    tell("")
    tell(f"Jobs      {outcome.jobs}, in {outcome.events} events; {outcome.rows} rows in {report}")
    tell(f"Killed    {outcome.killed or 'nobody'}; {again}")
    tell(f"Verified  {outcome.verified or 'not reached'}")
    tell(f"Ended     {'not every process that was started' if outcome.left else 'every process that was started'}")
    tell(f"Time      {seconds:.1f} s: {steps}")
    for fault in outcome.faults[:20]:
        tell(f"FAULT     {fault}")
    tell("All was right: every job succeeded exactly once." if not outcome.faults else "Something was wrong.")


def main() -> int:
    """Run the demo; the exit status: 0 all was right, 1 it was not, 2 it can't run here, 130 Ctrl-C."""
    started = time.monotonic()
    report = Path.cwd() / REPORT
    descendants = Descendants()
    descendants.mark_this_process()
    try:
        options = demo_options()
        check_handlers(options)
        prepare_kafka(default_cache_dir())  # before signals are caught: Ctrl-C ends a download at once
        with data_dir(options.data_dir, ephemeral=True) as directory:
            supervisor = Supervisor(options, directory, lambda line: tell(f"  {line}"))
            demo = Demo(supervisor.describe, report)
            with stop_requests() as request, ended_with(supervisor, request, tell):
                tell("Starting Kafka, Postgres, api, scheduler, projector and two workers ...")
                with demo.outcome.timed("start"):
                    _bring_up(supervisor, request)
                _run_beside(supervisor, demo, request)
    except (KeyboardInterrupt, _StoppedError):
        tell("Stopped.")
        return 130
    except (DemoError, DownloadFailedError, ChildFailedError, PortTakenError, RoleFailedError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except (ExtraMissingError, HandlersError, RoleRefusedError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except (JobledgerError, VerifyError, TimeoutError) as error:
        sys.stderr.write(f"The demo did not end well: {type(error).__name__}: {error}\n")
        return 1
    demo.outcome.left = [*supervisor.left_behind, *descendants.left_after(LEFT_SECONDS)]
    demo.outcome.faults += [f"Process {one} was left." for one in demo.outcome.left]
    _tell_outcome(demo.outcome, report, time.monotonic() - started)
    return 1 if demo.outcome.faults else 0


if __name__ == "__main__":
    sys.exit(main())

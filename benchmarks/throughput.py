"""Sustained jobs per second, end to end: submitted by `submitJobs`, done in Postgres."""

from __future__ import annotations

import time
from dataclasses import dataclass

from stack import BenchStack

SUBMIT_JOBS = """mutation($input: [SubmitJobInput!]!) { submitJobs(input: $input) { __typename
  ... on SubmitJobsSuccess { accepted } ... on UserError { code message } } }"""
BULK = 1000
DONE = "SELECT count(*) FROM jobledger.jobs WHERE status = 'SUCCEEDED'"
LIMIT_SECONDS = 600.0


@dataclass(frozen=True)
class Run:
    """What a run of `jobs` came to."""

    jobs: int
    seconds: float
    cpu_seconds: dict[str, float]
    commands: float

    @property
    def jobs_per_second(self) -> float:
        """From the first submission to the last job done in Postgres."""
        return self.jobs / self.seconds


def submit(stack: BenchStack, jobs: int) -> None:
    """Submit no-op jobs, a thousand to a request."""
    job = {"handler": "noop", "payloadText": '{"a": 1}'}
    for _ in range(jobs // BULK):
        answer = stack.graphql(SUBMIT_JOBS, {"input": [job] * BULK})["submitJobs"]
        if answer.get("accepted") != BULK:
            raise RuntimeError(f"Not all accepted: {answer}")


def run(stack: BenchStack, jobs: int) -> Run:
    """Submit `jobs` and wait until Postgres shows them all done."""
    before, done_before = stack.cpu_seconds(), stack.sql(DONE)
    commands = stack.metric("scheduler-1", "jobledger_commands_decided_total")
    started = time.perf_counter()
    submit(stack, jobs)
    while stack.sql(DONE) - done_before < jobs:
        if time.perf_counter() - started > LIMIT_SECONDS:
            raise RuntimeError(f"{stack.sql(DONE) - done_before} of {jobs} jobs done after {LIMIT_SECONDS:.0f} s.")
        time.sleep(0.1)
    seconds = time.perf_counter() - started
    after = stack.cpu_seconds()
    return Run(
        jobs,
        seconds,
        {name: round(after[name] - before.get(name, 0.0), 2) for name in after},
        stack.metric("scheduler-1", "jobledger_commands_decided_total") - commands,
    )

"""A job under any order of commands: it always goes on by itself, its attempts are bounded, what has ended stays so.

The worker here is as bad as one can be: handlers hang, take it down before or after its start report, and
nobody may come back to tell.
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from jobledger.domain.aggregates import mutate
from jobledger.domain.job import commands as c
from jobledger.domain.job import events as e
from jobledger.domain.job.decide import decide, react
from jobledger.domain.job.retry import TIMEOUT_GRACE_SECONDS
from jobledger.domain.job.state import FINAL, OUT, Job, JobStatus, next_timer_ms
from jobledger.domain.queue import commands as q
from jobledger.domain.values import SYSTEM, Opaque, Rejection, RetryPolicy
from jobledger.schemas.events import EventRecord

STREAM = "job:default:1"
LIMIT_SECONDS = 60.0


class JobMachine(RuleBasedStateMachine):
    """One job, its only worker, and what the worker was told."""

    job: Job
    handed: q.EnqueueTask | None = None
    now = 1_000_000
    #: Runs of the handler since the last redrive.
    runs = 0
    running = False

    @initialize(attempts=st.integers(1, 3), delay=st.sampled_from([None, 5_000]))
    def submit(self, attempts: int, delay: int | None) -> None:
        retry = RetryPolicy(max_attempts=attempts, initial_seconds=1.0, jitter_ratio=0.0)
        due = None if delay is None else self.now + delay
        body = c.SubmitJob(
            handler="h", queue="q", payload=Opaque("{}"), retry=retry, due_at_ms=due, timeout_seconds=LIMIT_SECONDS
        )
        self._apply(None, decide(STREAM, None, body, self.now))

    def _apply(self, job: Job | None, decision: Any) -> bool:
        if isinstance(decision, Rejection):
            return False
        for event in decision:
            version = 1 if job is None else job.version + 1
            envelope: dict[str, Any] = {"id": "0", "seq": version, "tenant": "default", "command_id": "c"}
            record = EventRecord(
                **envelope,
                originator_id=STREAM,
                originator_version=version,
                at_ms=self.now,
                actor=SYSTEM,
                data=event,
            )
            before = job
            assert before is None or before.status not in FINAL, f"{event} after the end"
            job = mutate(job, record)
            assert isinstance(job, Job)
            self.job = job
            if isinstance(event, e.JobRedriven):
                self.runs = 0
            for effect in react(job, event):
                body = getattr(effect, "body", None)
                if isinstance(body, q.EnqueueTask):
                    assert self.handed is None or body.assignment == self.handed.assignment + 1
                    self.handed, self.running = body, False
        return True

    def _send(self, command: c.JobCommand) -> bool:
        return self._apply(self.job, decide(STREAM, self.job, command, self.now))

    def _who(self) -> dict[str, Any]:
        assert self.handed is not None
        return {"task": "main", "assignment": self.handed.assignment, "worker": "w", "incarnation": "i"}

    def _times(self) -> dict[str, int]:
        return {"assigned_at_ms": self.now, "started_at_ms": self.now}

    # -- the worker --------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.handed is not None and not self.running)
    @rule(tells=st.booleans())
    def run(self, tells: bool) -> None:
        """The handler runs, once for each hand-out; its start is told before, if it has to be or if it comes so far."""
        assert self.handed is not None
        told = tells or self.handed.start_first
        if told and not self._send(c.ReportStarted(**self._who(), **self._times())):
            self.handed = None
            return
        self.running, self.runs = True, self.runs + 1

    @precondition(lambda self: self.handed is not None and self.running)
    @rule(how=st.sampled_from([*["vanish"] * 6, *["fail", "after", "crash"] * 2, "succeed", "cancelled"]))
    def end(self, how: str) -> None:
        """What comes after the handler ran: a report, the words of a later incarnation, or the lease's end."""
        who, times = self._who(), self._times()
        failure: dict[str, Any] = {"kind": c.FailureKind.FAILED, "error_type": "E", "error": Opaque("{}")}
        commands: dict[str, c.JobCommand] = {
            "succeed": c.ReportSucceeded(**who, **times, ended_at_ms=self.now),
            "fail": c.ReportFailed(**who, **times, ended_at_ms=self.now, **failure),
            "after": c.ReportFailed(**who, **times, ended_at_ms=self.now, **failure, retry_after_seconds=7.0),
            "crash": c.ReportCrashed(**who, **times),
            "vanish": c.AttemptLost(**who),
            "cancelled": c.ReportCancelled(**who, ended_at_ms=self.now),
        }
        assignment = who["assignment"]
        if self._send(commands[how]) and self.job.main.assignment == assignment:
            self.running = False
            self.handed = None if self.handed and self.handed.assignment == assignment else self.handed

    # -- time and people ---------------------------------------------------------------------------------------------

    @rule()
    def wait(self) -> None:
        """Nobody does anything until the job's own timer."""
        due = next_timer_ms(self.job)
        if due is not None:
            self.now = max(self.now, due)
            assert self._send(c.MarkDue(task="main", due_at_ms=due)), "a timer without effect would be asked for ever"

    @rule(command=st.sampled_from([*[None] * 9, c.CancelJob()]))
    def cancel(self, command: c.JobCommand | None) -> None:
        """Seldom: little happens after it."""
        if command is not None:
            self._send(command)

    @precondition(lambda self: self.job.status is JobStatus.DEAD_LETTERED)
    @rule(command=st.sampled_from([c.RedriveJob(), c.RedriveJob(), c.DiscardJob()]))
    def look_at_the_dead_letter(self, command: c.JobCommand) -> None:
        assert self._send(command)

    # -- what always holds -------------------------------------------------------------------------------------------

    @invariant()
    def it_goes_on_by_itself(self) -> None:
        """Whatever is not in a queue and not at its end has a timer, and a started attempt has its limit."""
        if not hasattr(self, "job"):
            return
        status, due = self.job.status, next_timer_ms(self.job)
        if status not in FINAL and status not in (JobStatus.QUEUED, JobStatus.DEAD_LETTERED):
            assert due is not None
        if self.job.main.started and status in OUT:
            assert due is not None
            assert due <= self.now + round((LIMIT_SECONDS + TIMEOUT_GRACE_SECONDS) * 1000)

    @invariant()
    def the_handler_runs_no_more_often_than_it_may(self) -> None:
        """Once over the attempts at most, and never where the policy allows one."""
        if hasattr(self, "job"):
            most = self.job.retry.max_attempts
            assert self.job.main.attempt <= most
            assert self.runs <= most + (1 if most > 1 else 0)


JobMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestJobMachine = JobMachine.TestCase

"""What goes wrong in the live cell, one thing upon the other, and how it is mended, by runbooks where it can be."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import runbook_pages
from live_stack import MAIL, LiveStack, shown, stalled, wait_for
from shortened import query

from jobledger.domain.identity import partition_of, queue_stream

FIRST = (
    "HighJobDispatchLatency",
    "JobExecutionFailureRate",
    "QueueBacklogGrowing",
    "WorkerPoolLow",
    "DatabaseConnectionExhausted",
)
#: Of jobs that come due while one of two schedulers is dead: over a hundred of them are its own.
LATE_JOBS = 280
WAITING_JOBS = 150


class Incidents:
    """Makes them happen, once.

    `said`: what the commands of the pages printed, by line; `inhibited`: alerts that were kept back for want of any
    leader.
    """

    def __init__(self, stack: LiveStack) -> None:
        self.stack = stack
        self.said: dict[str, str] = {}
        self.inhibited: set[str] = set()

    def happen(self) -> None:
        """All of them, until the last alert is over. PartitionNotServed is silenced when Slack is told of it."""
        stack = self.stack
        stack.quiet.add("PartitionNotServed")
        stack["worker-2"].kill()
        stack.submit([{"handler": "echo", "queue": "orders"} for _ in range(WAITING_JOBS)])
        with stack.many_connections():
            self._fail_and_dispatch_slowly()
        self._work_the_backlog_off()
        self._lose_one_scheduler()
        self._lose_the_other()
        for alert in (*FIRST, "SchedulerDown", "SchedulerLeaderUnavailable", "MissedScheduledJobs"):
            self._is_over(alert)

    def _note(self, text: str) -> None:
        print(f"{time.time() - self.stack.begun:6.1f} s: {text}")

    def _is_over(self, alert: str) -> None:
        wait_for(f"{alert} is over: {shown(self.stack)}", lambda: self.stack.webhooks.last(alert, "resolved"), 40)
        self._note(f"{alert} is over")

    def _fires(self, alert: str) -> None:
        """Wait until somebody is told."""
        wait_for(f"{alert}: {shown(self.stack)}", lambda: self.stack.webhooks.last(alert, "firing"), 40)
        self._note(f"{alert} was told")

    def _fail_and_dispatch_slowly(self) -> None:
        """Most jobs fail, and the scheduler of their queue stands still for two seconds, again and again."""
        stack = self.stack
        place = partition_of(queue_stream("default", "default"), 2)
        role = next(role for role in (stack["scheduler-1"], stack["scheduler-2"]) if place in role.served())

        def told_of(*alerts: str) -> bool:
            stack.submit(flow())
            if not stack.webhooks.first("HighJobDispatchLatency", "slack-warning"):
                with stalled(role, 2.0):
                    pass
            time.sleep(0.7)
            return all(stack.webhooks.told_of(alert) for alert in alerts)

        wait_for(f"{FIRST}", lambda: told_of(*FIRST), 60)
        wait_for("every step", lambda: stack.webhooks.first("JobExecutionFailureRate", "page-manager"))
        self._note("the first alerts were told")

    def _work_the_backlog_off(self) -> None:
        """By the runbook."""
        mail = {**MAIL, "QUEUE": "orders", "HANDLERS": "live_handlers"}
        self._follow("QueueBacklogGrowing", "Look", "worker-2", **mail)
        self._follow("QueueBacklogGrowing", "Do", "worker-2", **mail)
        self._queries_are_answered("QueueBacklogGrowing")
        self._follow("QueueBacklogGrowing", "Verify", "worker-2", **mail)

    def _lose_one_scheduler(self) -> None:
        """Its partitions are its own for a while, and what comes due there is late."""
        self.stack.submit([{"handler": "saves", "delaySeconds": 3} for _ in range(LATE_JOBS)])
        self.stack["scheduler-1"].kill()
        for alert in ("SchedulerDown", "PartitionNotServed", "MissedScheduledJobs"):
            self._fires(alert)

    def _lose_the_other(self) -> None:
        """And take one for the other by the runbook; the second comes back by its supervisor."""
        stack = self.stack
        stack["scheduler-2"].kill()
        self._fires("SchedulerLeaderUnavailable")
        self.inhibited = wait_for("one alert keeps the others back", stack.inhibited)
        name = "SchedulerLeaderUnavailable"
        self._follow(name, "Look", "scheduler-1")
        stack["scheduler-2"].start()
        self._follow(name, "Do", "scheduler-1")
        self._queries_are_answered(name)
        self._follow(name, "Verify", "scheduler-1")

    def _queries_are_answered(self, page: str) -> None:
        """Those by which a person verifies that it is over: each gives something."""
        for asked in runbook_pages.lines(page, "promql", "Verify"):
            wait_for(asked, partial(self.stack.now, query(asked)))

    def _follow(self, page: str, section: str, role: str, **variables: str) -> None:
        """Type what is marked to be run; a line that starts a role starts it in the place of `role`."""
        for line in runbook_pages.lines(page, "bash", section, to_run=True):
            if line.endswith(" scheduler") or line.startswith("jobledger worker "):
                self.stack.leave_running(line, role, **variables)
            else:
                self.said[f"{section}: {line}"] = self.stack.type(line, may_warn=section == "Look", **variables)
        self._note(f"{page}: {section}")


def flow() -> list[dict[str, Any]]:
    """Jobs of three seconds, two of three fail."""
    return [{"handler": "saves" if n % 3 == 0 else "fails", "delaySeconds": n / 15} for n in range(45)]

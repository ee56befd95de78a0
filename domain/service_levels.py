"""The service level objectives, and the one rule by which events count for them.

The metrics of the partition owners and the read model both go by these functions, so that they cannot disagree:

    TaskAssigned                            assigned(event)
    TaskCancelled                           withdrawn(event, job's due_at_ms)
    JobSucceeded, JobCancelled,             ended_as(event)
    JobDeadLettered                         completion(event, the job)

None: the event does not count. Pauses and limits of a tenant will exclude what they hold up as soon as there are any.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from jobledger.domain.job.events import DeadLetterCause, JobCancelled, JobDeadLettered, JobSucceeded, TaskCancelled
from jobledger.domain.job.state import RUN
from jobledger.domain.queue.events import TaskAssigned

#: A job is handed out on time up to so long after it was due, and has ended within its objective up to so long.
ON_TIME_SECONDS = 60
COMPLETION_SECONDS = 300
#: The objectives hold over the last so many days.
WINDOW_DAYS = 30

JobEnd = JobSucceeded | JobCancelled | JobDeadLettered


class DueJob(Protocol):
    """What of a job counts, as it is when its event comes."""

    @property
    def due_at_ms(self) -> int: ...  # noqa: D102
    @property
    def run(self) -> int: ...  # noqa: D102
    @property
    def expected_duration_seconds(self) -> float | None: ...  # noqa: D102


class Due(StrEnum):
    """What became of a job that came due."""

    ON_TIME = "on_time"
    LATE = "late"
    EXCLUDED = "excluded"


class Completion(StrEnum):
    """When an execution ended, counted from when its job was due."""

    WITHIN = "within"
    OVER = "over"
    EXCLUDED = "excluded"


class EndedAs(StrEnum):
    """How an execution ended: a run of a job, with all its attempts."""

    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    TIMEOUT = "TIMEOUT"
    CANCELLED = "CANCELLED"
    LOST = "LOST"


#: Ends that count as errors; of CANCELLED the error rate knows nothing at all.
ERRORS = frozenset({EndedAs.FAILED, EndedAs.TIMEOUT, EndedAs.LOST})

_ENDED_AS = {
    DeadLetterCause.FAILED: EndedAs.FAILED,
    DeadLetterCause.TIMEOUT: EndedAs.TIMEOUT,
    DeadLetterCause.LOST: EndedAs.LOST,
    DeadLetterCause.DISPATCH_FAILED: EndedAs.LOST,
    DeadLetterCause.POISON: EndedAs.LOST,
}


# -- what counts ------------------------------------------------------------------------------------------------------


def assigned(event: TaskAssigned) -> Due | None:
    """A job counts once, when it is first handed out: repeats, retries and further runs do not."""
    if event.assignment != 1:
        return None
    return Due.LATE if _over(event.due_at_ms, event.assigned_at_ms, ON_TIME_SECONDS) else Due.ON_TIME


def withdrawn(event: TaskCancelled, due_at_ms: int) -> Due | None:
    """A job that was cancelled before any worker had it is late if its time was over, else it is left out."""
    if event.assignment != 1 or event.worker:
        return None
    return Due.LATE if _over(due_at_ms, event.ended_at_ms, ON_TIME_SECONDS) else Due.EXCLUDED


def ended_as(event: JobEnd) -> EndedAs:
    """How the last attempt of an execution ended it."""
    if isinstance(event, JobDeadLettered):
        return _ENDED_AS[event.cause]
    return EndedAs.SUCCESS if isinstance(event, JobSucceeded) else EndedAs.CANCELLED


def completion(event: JobEnd, job: DueJob) -> Completion:
    """Left out: what was cancelled, what was expected to take longer, and further runs of a dead letter, which begin
    when somebody wants them to."""
    expected = job.expected_duration_seconds
    if isinstance(event, JobCancelled) or job.run > RUN or (expected is not None and expected > COMPLETION_SECONDS):
        return Completion.EXCLUDED
    return Completion.OVER if _over(job.due_at_ms, event.ended_at_ms, COMPLETION_SECONDS) else Completion.WITHIN


def _over(due_at_ms: int, at_ms: int, seconds: int) -> bool:
    return at_ms - due_at_ms > seconds * 1000


# -- objectives -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Objective:
    """`target` is the share of good ones, 0 to 1, of all that count in WINDOW_DAYS; the rest is the error budget."""

    name: str
    target: float
    meaning: str

    @property
    def budget(self) -> float:
        """The share that may be bad."""
        return 1.0 - self.target

    def actual(self, total: int, bad: int) -> float | None:
        """The share that was good; None: nothing counts, so nothing is known."""
        return None if total == 0 else (total - bad) / total

    def burn_rate(self, total: int, bad: int) -> float | None:
        """How fast the budget goes: at 1 it lasts the window exactly. None: nothing counts."""
        return None if total == 0 else bad / total / self.budget

    def budget_remaining(self, total: int, bad: int) -> float | None:
        """The share of the budget that is left after what has gone; negative: more is spent than there is."""
        spent = self.burn_rate(total, bad)
        return None if spent is None else 1.0 - spent


AVAILABILITY = Objective("availability", 0.9999, "Requests to the api that were not answered with a 5xx status.")
SCHEDULING_ACCURACY = Objective(
    "scheduling-accuracy", 0.99999, f"Jobs first handed out within {ON_TIME_SECONDS} s of when they were due."
)
COMPLETION = Objective(
    "completion", 0.99, f"Executions that ended within {COMPLETION_SECONDS // 60} minutes of when their job was due."
)
ERROR_RATE = Objective("error-rate", 0.999, "Executions that did not end FAILED, TIMEOUT or LOST.")
OBJECTIVES = (AVAILABILITY, SCHEDULING_ACCURACY, COMPLETION, ERROR_RATE)

"""`submitJob` and `submitJobs`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jobledger.domain.identity import job_stream, key_stream, murmur2
from jobledger.domain.job.commands import SubmitJob
from jobledger.eventlog.positions import Vector, encode_position
from jobledger.graphql.caller import Caller
from jobledger.graphql.directory import KnownQueue, QueueDirectory, QueueUnknownError
from jobledger.graphql.gateway import Decided, Gateway, NotSent
from jobledger.graphql.outcome_answers import error_of, name_of, not_sent, position_of, status_of
from jobledger.graphql.scalars import Position
from jobledger.graphql.served_handlers import ServedHandlers
from jobledger.graphql.types.errors import ErrorCode, UserError, user_error
from jobledger.graphql.types.inputs import SubmitJobInput
from jobledger.graphql.types.results import JobRef, Pending, SubmitJobsProblem, SubmitJobsSuccess, SubmitJobSuccess
from jobledger.graphql.validation import Refused, check_new_job_id, check_uuid, given, refuse, submit_body
from jobledger.schemas import limits
from jobledger.schemas.commands import Command
from jobledger.schemas.outcomes import Outcome, OutcomeStatus
from jobledger.telemetry.logs import get_logger

log = get_logger()
SubmitAnswer = SubmitJobSuccess | Pending | UserError


@dataclass(frozen=True, slots=True)
class Ready:
    """A checked submission. `job_id` None: with a key, only the outcome tells the job."""

    command: Command
    job_id: str | None
    size: int


class Submissions:
    """Checks submissions, sends them and answers for their outcomes."""

    def __init__(
        self,
        gateway: Gateway,
        directory: QueueDirectory,
        cell: str,
        partitions: int,
        clock_ms: Callable[[], int],
        new_id: Callable[[], str],
    ) -> None:
        self._gateway = gateway
        self._directory = directory
        self._cell = cell
        self._partitions = partitions
        self._served = ServedHandlers(gateway.ask, new_id)
        self._clock_ms = clock_ms
        self._new_id = new_id

    async def submit(self, caller: Caller, item: SubmitJobInput) -> SubmitAnswer:
        """One job."""
        (ready,) = await self._prepare(caller, [item], ["input"])
        if isinstance(ready, UserError):
            return ready
        body = ready.command.body
        assert isinstance(body, SubmitJob)
        self._served.look(caller.tenant, body.queue, body.handler)
        (decided,) = await self._gateway.decide([ready.command])
        answer = self._answer(caller, ready, decided, ["input"])
        if isinstance(answer, SubmitJobSuccess):
            answer.warning = await self._served.warning(caller.tenant, body.queue, body.handler)
        return answer

    async def submit_many(self, caller: Caller, items: Sequence[SubmitJobInput]) -> SubmitJobsSuccess | UserError:
        """A bulk; the answer to each item is made when it is asked for."""
        count = len(items)
        if not 1 <= count <= limits.MAX_JOBS_PER_SUBMIT:
            problem = "The bulk is empty" if count == 0 else f"The bulk has {count:,} jobs"
            remedy = f"send 1 to {limits.MAX_JOBS_PER_SUBMIT:,} jobs at once"
            return user_error(ErrorCode.INVALID, problem, remedy, ["input"], count)
        prepared = await self._prepare(caller, items, ["input"], bulk=True)
        size = sum(ready.size for ready in prepared if isinstance(ready, Ready))
        if size > limits.MAX_SUBMIT_BYTES:
            return user_error(
                ErrorCode.PAYLOAD_TOO_LARGE,
                f"The payloads of the bulk have {size:,} bytes together",
                f"send at most {limits.MAX_SUBMIT_BYTES:,} bytes (8 MiB) at once",
                ["input"],
                f"{size} bytes",
            )
        places = [index for index, ready in enumerate(prepared) if isinstance(ready, Ready)]
        decided = await self._gateway.decide([prepared[index].command for index in places])  # type: ignore[union-attr]
        outcomes: list[Decided] = [None] * count
        for index, outcome in zip(places, decided, strict=True):
            outcomes[index] = outcome
        return _Bulk(self, caller, prepared, outcomes).success(self._cell)

    async def _prepare(
        self, caller: Caller, items: Sequence[SubmitJobInput], path: list[str], *, bulk: bool = False
    ) -> list[Ready | UserError]:
        now = self._clock_ms()
        queues: dict[str, KnownQueue | UserError] = {}
        prepared: list[Ready | UserError] = []
        for index, item in enumerate(items):
            where = [*path, str(index)] if bulk else path
            try:
                body = submit_body(item, now)
                queue = queues.get(body.queue)
                if queue is None:
                    queue = queues[body.queue] = await self._queue(caller, body.queue)
                _admit(queue, body)
                prepared.append(self._command(caller, item, body))
            except Refused as refused:
                error = refused.error
                error.path = [*where, *error.path]
                prepared.append(error)
        return prepared

    async def _queue(self, caller: Caller, name: str) -> KnownQueue | UserError:
        try:
            known = await self._directory.find(caller.tenant, name)
        except QueueUnknownError:
            return user_error(
                ErrorCode.UNAVAILABLE,
                f"Whether queue '{name}' exists can't be told, its owner does not answer; nothing was sent",
                "try again later, or use the queue 'default'",
                ["queue"],
                name,
            )
        if known is None:
            return user_error(
                ErrorCode.UNKNOWN_QUEUE,
                f"There is no queue '{name}'",
                "create it with createQueue, or use 'default'",
                ["queue"],
                name,
            )
        return known

    def _command(self, caller: Caller, item: SubmitJobInput, body: SubmitJob) -> Ready:
        """Without a key, command and job have one id: the same command id is the same job."""
        command_id = self._new_id()
        if given(item.command_id) and body.key_digest is None:
            command_id = check_new_job_id("commandId", item.command_id, self._clock_ms())
        elif given(item.command_id):
            command_id = check_uuid("commandId", item.command_id)
        job_id = command_id if body.key_digest is None else self._mint(caller.tenant, body.key_digest)
        command = Command(
            id=command_id,
            stream=job_stream(caller.tenant, job_id),
            actor=caller.actor,
            body=body,
            reply=True,
            correlation_id=caller.correlation_id,
            traceparent=caller.traceparent or None,
        )
        return Ready(command, job_id if body.key_digest is None else None, len(body.payload.data))

    def _mint(self, tenant: str, key_digest: str) -> str:
        """An id whose stream lives where the key lives, so that the key's owner sees every job with it."""
        wanted = self._partition(key_stream(tenant, key_digest))
        while True:
            job_id = self._new_id()
            if self._partition(job_stream(tenant, job_id)) == wanted:
                return job_id

    def _partition(self, name: str) -> int:
        """`partition_of` without its memory, which names that are thrown away would only fill."""
        return (murmur2(name.encode()) & 0x7FFFFFFF) % self._partitions

    def _answer(self, caller: Caller, ready: Ready | UserError, decided: Decided, path: list[str]) -> SubmitAnswer:
        if isinstance(ready, UserError):
            return ready
        if isinstance(decided, NotSent):
            return not_sent()
        if decided is None:
            return pending(caller, ready.command.id, ready.job_id, self._gateway.timeout_seconds)
        if decided.status is OutcomeStatus.REJECTED:
            return error_of(decided, [*path, *_field(decided)], None)
        return SubmitJobSuccess(
            job=JobRef(id=name_of(decided), status=status_of(decided)),  # type: ignore[arg-type]
            command_id=ready.command.id,  # type: ignore[arg-type]
            position=position_of(self._cell, decided),
            duplicate=decided.duplicate,
        )


def _field(outcome: Outcome) -> list[str]:
    rejection = outcome.rejection
    if rejection is None or not rejection.field:
        return []
    return ["idempotencyKey"] if "key" in rejection.field else [rejection.field]


def _admit(queue: KnownQueue | UserError, body: SubmitJob) -> None:
    """Raise Refused when the queue does not exist or is full; count what goes in."""
    if isinstance(queue, UserError):
        copy = type(queue)(**{name: getattr(queue, name) for name in ("code", "message", "path", "value", "remedy")})
        raise Refused(copy)
    size = len(body.payload.data)
    if queue.waiting_bytes + size > queue.max_waiting_bytes:
        raise refuse(
            f"Queue '{body.queue}' is full: {queue.waiting_bytes:,} of {queue.max_waiting_bytes:,} bytes wait in it",
            "try again later, or raise its maxWaitingBytes",
            "queue",
            body.queue,
            ErrorCode.QUEUE_FULL,
        )
    if body.due_at_ms is None:
        queue.let_in(size)


def pending(caller: Caller, command_id: str, job_id: str | None, seconds: float) -> Pending:
    """The answer for a command whose outcome is unknown."""
    log.warning("mutation_pending", command_id=command_id, tenant_id=caller.tenant)
    return Pending(
        command_id=command_id,  # type: ignore[arg-type]
        job_id=job_id,  # type: ignore[arg-type]
        message=f"No outcome within {seconds:g} s: it is unknown; ask command(id), or send the same commandId again.",
    )


class _Bulk:
    """The answer to a bulk: counters at once, results of single items when they are asked for."""

    def __init__(
        self,
        submitting: Submissions,
        caller: Caller,
        prepared: list[Ready | UserError],
        outcomes: list[Decided],
    ) -> None:
        self._submitting = submitting
        self._caller = caller
        self._prepared = prepared
        self._outcomes = outcomes

    def success(self, cell: str) -> SubmitJobsSuccess:
        """The counters, and the position that covers all that were accepted."""
        vector: Vector = {}
        job_ids: list[Any] = [None] * len(self._outcomes)
        duplicates: list[int] = []
        rejected = unknown = 0
        for index, outcome in enumerate(self._outcomes):
            if isinstance(outcome, Outcome) and outcome.status is OutcomeStatus.ACCEPTED:
                vector[outcome.partition] = max(vector.get(outcome.partition, 0), outcome.seq)
                job_ids[index] = outcome.stream.rpartition(":")[2]
                if outcome.duplicate:
                    duplicates.append(index)
            elif outcome is None and isinstance(self._prepared[index], Ready):
                unknown += 1
            else:
                rejected += 1
        return SubmitJobsSuccess(
            accepted=len(job_ids) - rejected - unknown,
            duplicates=len(duplicates),
            rejected=rejected,
            pending=unknown,
            position=Position(encode_position(cell, vector)),
            job_ids=job_ids,
            duplicate_indexes=duplicates,
            answers=self,
        )

    def results(self) -> list[SubmitAnswer]:
        """Every item's own answer."""
        return [self._one(index) for index in range(len(self._outcomes))]

    def problems(self) -> list[SubmitJobsProblem]:
        """The answers that are no successes, with their places."""
        found = []
        for index, outcome in enumerate(self._outcomes):
            if isinstance(outcome, Outcome) and outcome.status is OutcomeStatus.ACCEPTED:
                continue
            answer = self._one(index)
            if isinstance(answer, Pending):
                found.append(SubmitJobsProblem(index=index, command_id=answer.command_id, error=None))
            elif isinstance(answer, UserError):
                found.append(SubmitJobsProblem(index=index, command_id=None, error=answer))
        return found

    def _one(self, index: int) -> SubmitAnswer:
        path = ["input", str(index)]
        return self._submitting._answer(self._caller, self._prepared[index], self._outcomes[index], path)

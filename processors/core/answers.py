"""What is told of each command: a line for logs and metrics, and an outcome for whoever asked for one."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from jobledger.domain.aggregates import State, head, kind_of
from jobledger.domain.values import Answer, Code, Rejection
from jobledger.processors.core.memory import Memory
from jobledger.processors.core.plan import Decided, Plan
from jobledger.processors.core.state_records import Stub, decode_state, stub_key
from jobledger.schemas.commands import Command, fits
from jobledger.schemas.decoding import decoder
from jobledger.schemas.limits import MAX_ID_BYTES
from jobledger.schemas.outcomes import Outcome, OutcomeStatus

#: Characters of an answer to a query, and of a rejection's sentence: an outcome has to fit into a record.
MAX_ANSWER_LENGTH = 512 * 1024
MAX_MESSAGE_LENGTH = 2_000


class Envelope(msgspec.Struct):
    """What can be told of a broken command."""

    id: str = ""
    stream: str = ""
    reply: bool = False


_decode_envelope = decoder(Envelope)


def read_envelope(raw: bytes) -> Envelope:
    """As much of a broken command as can be read."""
    try:
        return _decode_envelope(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Envelope()


def _short(rejection: Rejection) -> Rejection:
    """A rejection that fits into a record, whatever it was made from."""
    if len(rejection.message) <= MAX_MESSAGE_LENGTH and len(rejection.value) <= MAX_MESSAGE_LENGTH:
        return rejection
    return Rejection(
        code=rejection.code,
        message=rejection.message[:MAX_MESSAGE_LENGTH],
        field=rejection.field[:MAX_ID_BYTES],
        value=rejection.value[:MAX_ID_BYTES],
    )


class Answers:
    """What one batch tells; see `Batch`."""

    def __init__(self, memory: Memory, plan: Plan, now: int, touched: Mapping[str, State]) -> None:
        """`touched` has the streams that the batch has changed. (Not the batch itself: two that know each other, and
        all that they hold, would stay until the garbage collector comes.)"""
        self._memory = memory
        self._plan = plan
        self._now = now
        self._touched = touched
        #: Where the command that is being decided stands on the log; None for one that follows from another.
        self.offset: int | None = None

    def tell(self, command: Command, result: str, what: Outcome | Rejection | Answer | None) -> None:
        """What became of a command, for logs and for whoever waits for it."""
        self._plan.decided.append(Decided(command, result, None if isinstance(what, Outcome) else what))
        if not command.reply:
            return
        if isinstance(what, Answer) and len(what.data.data) > MAX_ANSWER_LENGTH:
            what = Rejection(
                code=Code.UNDECIDABLE,
                message=f"Expected an answer of at most {MAX_ANSWER_LENGTH} characters, but it has "
                f"{len(what.data.data)}; ask for less.",
            )
        if isinstance(what, Outcome):
            outcome = what
        elif isinstance(what, Rejection):
            outcome = self.outcome(command, OutcomeStatus.REJECTED, rejection=_short(what))
        else:
            outcome = self.outcome(command, OutcomeStatus.ACCEPTED, answer=what)
        self._plan.outcomes.append(outcome)

    def outcome(
        self,
        command: Command,
        status: OutcomeStatus,
        *,
        seq: int | None = None,
        stream: str | None = None,
        duplicate: bool = False,
        rejection: Rejection | None = None,
        answer: Answer | None = None,
    ) -> Outcome:
        """An outcome by what the batch sees of the stream; by its stub when it has ended."""
        state = self.peek(stream or command.stream)
        stub = self.stub(stream or command.stream) if state is None else None
        version = head(state).version if state is not None else stub.version if stub else 0
        if state is not None:
            status_after = kind_of(stream or command.stream).status(state)
        else:
            status_after = stub.status if stub else None
        return Outcome(
            command_id=command.id,
            stream=stream or command.stream,
            status=status,
            partition=self._memory.partition,
            seq=self._memory.checkpoint.seq if seq is None else seq,
            at_ms=self._now,
            version=version,
            duplicate=duplicate,
            status_after=status_after,
            rejection=rejection,
            answer=answer.data if answer else None,
            offset=self.offset,
        )

    def unread(self, known: Command | Envelope, code: Code, why: str, offset: int | None) -> None:
        """The outcome of a command that was set aside, when somebody can wait for it; `offset` is its record's."""
        rejection = Rejection(code=code, message=f"The command could not {why}")
        command = known if isinstance(known, Command) else None
        self._plan.decided.append(Decided(command, "QUARANTINED", rejection, offset))
        if known.reply and known.id and fits(known.id, known.stream):
            self._plan.outcomes.append(
                Outcome(
                    command_id=known.id,
                    stream=known.stream,
                    status=OutcomeStatus.REJECTED,
                    partition=self._memory.partition,
                    seq=self._memory.checkpoint.seq,
                    at_ms=self._now,
                    rejection=rejection,
                    offset=offset,
                )
            )

    def peek(self, stream: str) -> State | None:
        """The state of a stream as the batch sees it."""
        state = self._touched.get(stream)
        return self._memory.load(stream) if state is None else state

    def stub(self, stream: str) -> Stub | None:
        """What is left of an ended stream."""
        data = self._memory.retained.get(stub_key(stream))
        if data is None:
            return None
        stub: Stub = decode_state(data)
        return stub

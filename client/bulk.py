"""How a bulk goes to the API in parts, and what comes of each item."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from jobledger.client.errors import InvalidInput, JobledgerError, OutcomeUnknown, PayloadTooLarge, Unavailable
from jobledger.client.operations import inputs
from jobledger.client.spec import JobSpec, wrong

MAX_JOBS_PER_BULK = 1_000
MAX_BULK_BYTES = 6 * 1024 * 1024


class Part:
    """Up to 1,000 inputs and 6 MiB of payload, with their places in the whole."""

    def __init__(self) -> None:
        self.places: list[int] = []
        self.specs: list[JobSpec] = []
        self.inputs: list[inputs.SubmitJobInput] = []
        self.size = 0

    def takes(self, size: int) -> bool:
        """Whether so many bytes still fit."""
        return len(self.inputs) < MAX_JOBS_PER_BULK and self.size + size <= MAX_BULK_BYTES


class Bulk:
    """Handles and errors of a bulk, by place. What is wrong with one item stops no other."""

    def __init__(self, specs: Iterable[JobSpec]) -> None:
        self._specs = specs
        self.jobs: list[Any] = []
        self.errors: dict[int, JobledgerError] = {}

    def parts(self) -> Iterator[Part]:
        """The parts, one after the other: the next one is made when it is asked for."""
        part = Part()
        for place, spec in enumerate(self._specs):
            self.jobs.append(None)
            if not isinstance(spec, JobSpec):
                self.errors[place] = wrong(f"number {place} of the bulk", spec, "a JobSpec")
                continue
            try:
                one = spec.as_input()
            except (InvalidInput, PayloadTooLarge) as error:
                self.errors[place] = error
                continue
            size = len(str(one["payloadText"]).encode())
            if not part.takes(size):
                yield part
                part = Part()
            part.places.append(place)
            part.specs.append(spec)
            part.inputs.append(one)
            part.size += size
        if part.inputs:
            yield part

    def not_sent(self, part: Part, because: JobledgerError) -> None:
        """No item of a part was sent, since an earlier part found nobody."""
        for place in part.places:
            self.errors[place] = Unavailable(f"Not sent, after another part failed: {because}", "UNAVAILABLE")

    def failed(self, part: Part, left: Iterable[int], error: JobledgerError, *, sent: bool) -> None:
        """The items at `left` of a part have no answer: unknown if they may have been sent, else as the error says."""
        for index in left:
            unknown = sent and isinstance(error, Unavailable)
            self.errors[part.places[index]] = OutcomeUnknown(str(part.inputs[index]["commandId"])) if unknown else error

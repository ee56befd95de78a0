"""A quantile learned from a stream, in bounded memory.

A histogram with buckets of one relative width, as in DDSketch (Masson, Rim and Lee, VLDB 2019, "DDSketch: A Fast and
Fully-Mergeable Quantile Sketch with Relative-Error Guarantees"): what it answers is off by at most the width of a
bucket, whatever the distribution. The counts are halved now and then, so that it follows a stream that changes.
"""

from __future__ import annotations

import math

#: A bucket reaches from a value to this many times the value.
GROWTH = 1.04
#: Values outside of these seconds stand in the first and last bucket: 1 ms is what the clocks of a job resolve.
LEAST, MOST = 0.001, 7 * 86_400.0
#: Observations after which all counts are halved.
HALVE_AFTER = 2_000
#: Observations after which the answer is made anew.
RENEW_AFTER = 20

_LOG_GROWTH = math.log(GROWTH)
_BUCKETS = math.ceil(math.log(MOST / LEAST) / _LOG_GROWTH) + 1


class StreamingQuantile:
    """The `quantile` (0-1) of the seconds observed; at most 516 counts."""

    __slots__ = ("_bucket", "_counts", "_quantile", "_since_renewed", "_total", "seen")

    def __init__(self, quantile: float) -> None:
        self._quantile = quantile
        self._counts: dict[int, int] = {}
        self._total = 0
        self._since_renewed = 0
        self._bucket = _BUCKETS
        self.seen = 0
        """How many values were observed."""

    @property
    def value(self) -> float:
        """The upper end of the bucket that the quantile stands in, in seconds; infinite before anything was seen."""
        return LEAST * GROWTH**self._bucket if self.seen else math.inf

    def exceeds(self, seconds: float) -> bool:
        """Whether a value stands in a bucket above that of the quantile; never, before anything was seen."""
        return _bucket_of(seconds) > self._bucket

    def observe(self, seconds: float) -> None:
        """Take in one value."""
        bucket = _bucket_of(seconds)
        self._counts[bucket] = self._counts.get(bucket, 0) + 1
        self._total += 1
        self.seen += 1
        self._since_renewed += 1
        if self._since_renewed >= RENEW_AFTER or self.seen == 1:
            self._renew()

    def _renew(self) -> None:
        self._since_renewed = 0
        if self._total >= HALVE_AFTER:
            self._counts = {bucket: count // 2 for bucket, count in self._counts.items() if count > 1}
            self._total = sum(self._counts.values())
        below = 0
        for bucket in sorted(self._counts):
            below += self._counts[bucket]
            if below >= self._quantile * self._total:
                self._bucket = bucket
                return


def _bucket_of(seconds: float) -> int:
    if seconds <= LEAST:
        return 0
    return min(_BUCKETS, math.ceil(math.log(seconds / LEAST) / _LOG_GROWTH))

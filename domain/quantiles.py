"""Quantiles of values that were counted in buckets."""

from __future__ import annotations

from collections.abc import Sequence


def quantile(share: float, bounds: Sequence[float], counts: Sequence[int]) -> float | None:
    """The value that `share` of the counted ones do not exceed, as Prometheus's histogram_quantile has it.

    `counts` are those of each bucket alone, one more than `bounds`: the last has no upper bound, and what falls into
    it is told as the highest bound. Within a bucket the values are taken as spread evenly. None: nothing was counted.
    """
    rank = share * sum(counts)
    if rank == 0:
        return None
    below = 0
    for place, bound in enumerate(bounds):
        if counts[place] and below + counts[place] >= rank:
            start = bounds[place - 1] if place else 0.0
            return start + (bound - start) * (rank - below) / counts[place]
        below += counts[place]
    return bounds[-1]

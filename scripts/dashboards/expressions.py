"""Forms of PromQL that several pages ask for."""

from __future__ import annotations

ENDED_BADLY = 'status=~"FAILED|TIMEOUT|LOST"'
COUNTED_ENDS = 'status!="CANCELLED"'


def per_second(counter: str, by: str = "", labels: str = "", window: str = "$__rate_interval") -> str:
    """Events of a counter per second, summed over all instances (by the labels of `by`)."""
    grouped = f"sum by ({by})" if by else "sum"
    return f"{grouped} (rate({counter}{{{labels}}}[{window}]))" if labels else f"{grouped} (rate({counter}[{window}]))"


def quantile(share: float, histogram: str, by: str = "", window: str = "$__rate_interval") -> str:
    """The quantile of a histogram in seconds, over all instances (by the labels of `by`)."""
    grouped = f"sum by (le, {by})" if by else "sum by (le)"
    return f"histogram_quantile({share:g}, {grouped} (rate({histogram}_bucket[{window}])))"


def quantiles(histogram: str) -> dict[str, str]:
    """P50, P95 and P99 by their legends."""
    return {f"P{share * 100:g}": quantile(share, histogram) for share in (0.5, 0.95, 0.99)}


def ratio(part: str, whole: str) -> str:
    """A share between 0 and 1; no value where the whole is 0 (0 / 0 is not a share)."""
    return f"{part} / ({whole} > 0)"


def change(expression: str, against: str = "1h") -> str:
    """What an expression with fixed windows has changed by since the same moment a while before."""
    return f"({expression}) - ({_earlier(expression, against)})"


def _earlier(expression: str, against: str) -> str:
    """The expression with each of its range selectors moved back."""
    return expression.replace("])", f"] offset {against})")

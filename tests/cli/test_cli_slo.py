"""How `jobledger slo` tells of budgets."""

from __future__ import annotations

from typing import Any

import pytest

from jobledger.cli.slo import in_words, share


def level(total: int, bad: int, burn: float | None = None, target: float = 0.999) -> dict[str, Any]:
    budget = total * (1 - target)
    left = None if total == 0 else 1 - bad / budget
    return {
        "windowDays": 30,
        "total": total,
        "bad": bad,
        "errorBudget": budget,
        "errorBudgetRemaining": left,
        "burnRate": burn,
    }


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (level(0, 0), "nothing has counted in the last 30 days, so nothing is known."),
        (level(10_000, 0), "0 of 10,000 were bad, 10.0 may be; 100 % of the error budget is left."),
        (level(10_000, 7, 0.0), "7 of 10,000 were bad, 10.0 may be; 30 % of the error budget is left."),
        (
            level(10_000, 5, 5.0),
            "5 of 10,000 were bad, 10.0 may be; 50 % of the error budget is left, for 3.0 days at the rate of the last "
            "hour.",
        ),
        (level(10_000, 25, 2.0), "25 of 10,000 were bad, 10.0 may be; the error budget is overspent by 150 %."),
    ],
)
def test_a_budget_in_words(given: dict[str, Any], expected: str) -> None:
    assert in_words(given) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, None), (1.0, "100 %"), (0.99999, "99.999 %"), (0.999999999, "99.9999 %"), (-1.5, "-150 %"), (0.3, "30 %")],
)
def test_a_share_with_a_bad_one_is_not_100_percent(value: float | None, expected: str | None) -> None:
    assert share(value) == expected

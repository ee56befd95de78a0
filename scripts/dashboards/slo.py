"""The four objectives over 30 days: what was reached, what is left of the budget, how fast it burns."""

from __future__ import annotations

from panels import Page, Panel, Shape

_OBJECTIVES = {
    "availability": ("Availability", 0.9999, "Requests to the API that did not fail for a reason of ours."),
    "scheduling-accuracy": ("Scheduling accuracy", 0.99999, "Jobs dispatched within 60 s of their time."),
    "completion": ("Completion within 5 min", 0.99, "Jobs that ended within five minutes of their time."),
    "error-rate": ("Success of executions", 0.999, "Executions that did not end FAILED, TIMEOUT or LOST."),
}


def _labels(name: str) -> str:
    return f'sloth_service="jobledger", sloth_slo="{name}"'


def _row(name: str, objective: float, meaning: str) -> tuple[Panel, ...]:
    return (
        Panel(
            f"Reached (objective {objective * 100:g} %)",
            "percentunit",
            {"30 days": f"1 - (max (slo:sli_error:ratio_rate30d{{{_labels(name)}}}))"},
            meaning,
            Shape.NUMBERS,
            width=6,
            height=5,
            bad_over=objective,
            good_is_high=True,
            decimals=4,
        ),
        Panel(
            "Budget left",
            "percentunit",
            {"30 days": f"max (slo:period_error_budget_remaining:ratio{{{_labels(name)}}})"},
            "Of the errors that the objective allows in 30 days; below 0 it is broken.",
            Shape.NUMBERS,
            width=6,
            height=5,
            warn_over=0,
            bad_over=0.25,
            good_is_high=True,
        ),
        Panel(
            "Burn rate",
            "short",
            {"now": f"max (slo:current_burn_rate:ratio{{{_labels(name)}}})"},
            "1 uses up the budget in exactly 30 days; 14.4 uses 2 % of it in an hour, which pages.",
            width=12,
            height=5,
            warn_over=1,
            bad_over=14.4,
        ),
    )


PAGE = Page(
    "jobledger-slo",
    "Jobledger / Objectives",
    "Service level objectives and error budgets.",
    {title: _row(name, objective, meaning) for name, (title, objective, meaning) in _OBJECTIVES.items()},
    span="now-7d",
)

"""`jobledger slo`: the service level objectives, and what is left of their error budgets."""

from __future__ import annotations

from math import floor
from typing import Annotated, Any

import typer

from jobledger.cli import documents
from jobledger.cli.calls import ApiUrl, ask, call
from jobledger.cli.exits import Exit
from jobledger.cli.output import ReportFormat, ReportOutput, print_json, print_line, print_rows
from jobledger.domain.service_levels import WINDOW_DAYS


def slo(
    days: Annotated[int, typer.Option(min=1, max=WINDOW_DAYS, help="Over how many days up to now.")] = WINDOW_DAYS,
    output: ReportOutput = ReportFormat.TABLE,
    api_url: ApiUrl = None,
) -> int:
    """Show how the service level objectives were kept, and what is left of their error budgets."""
    levels = call(api_url, lambda client: ask(client, documents.SLO, {"days": days}))["slo"]
    if output is ReportFormat.JSON:
        print_json(levels)
    else:
        _print_table(levels)
    return Exit.OK


def _print_table(levels: list[dict[str, Any]]) -> None:
    print_rows(
        ("OBJECTIVE", "TARGET", "ACTUAL", "TOTAL", "BAD", "EXCLUDED", "BUDGET LEFT", "BURN RATE 1H"),
        [
            (
                one["name"],
                share(one["target"]),
                share(one["actual"]),
                one["total"],
                one["bad"],
                one["excluded"],
                share(one["errorBudgetRemaining"]),
                None if one["burnRate"] is None else f"{one['burnRate']:.2f}",
            )
            for one in levels
        ],
        "The api has no objectives.",
    )
    for one in levels:
        print_line(f"{one['name']}: {in_words(one)}")


def in_words(level: dict[str, Any]) -> str:
    """What has become of an error budget."""
    left, burnt, days = level["errorBudgetRemaining"], level["burnRate"], level["windowDays"]
    if left is None:
        return f"nothing has counted in the last {days} days, so nothing is known."
    spent = f"{level['bad']:,} of {level['total']:,} were bad, {level['errorBudget']:,.1f} may be"
    if left < 0:
        return f"{spent}; the error budget is overspent by {share(-left)}."
    text = f"{spent}; {share(left)} of the error budget is left"
    if not burnt or left == 0:
        return f"{text}."
    return f"{text}, for {left * days / burnt:,.1f} days at the rate of the last hour."


def share(value: float | None) -> str | None:
    """A share in percent, with as many digits as tell objectives apart; rounded down: one that was bad shows."""
    if value is None:
        return None
    return f"{floor(round(value * 1_000_000, 6)) / 10_000:.4f}".rstrip("0").rstrip(".") + " %"


def register(program: typer.Typer) -> None:
    """Add `slo` to the program."""
    program.command("slo", rich_help_panel="Operations")(slo)

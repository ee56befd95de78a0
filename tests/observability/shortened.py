"""The product's rules and escalation with minutes become seconds; nothing else of them is changed.

Rules: `for:` and the windows of range selectors are divided by RULE_SCALE, down to a floor that still holds enough of
the samples that come each second; what is compared with an earlier time is compared with OFFSET_SECONDS ago. Two alerts
compare with something that a test cannot wait for or pay for: SHORTER says what each is compared with here.
Escalation: every wait is divided by WAIT_SCALE, which makes 0 / 5 / 15 / 30 minutes 0 / 1 / 3 / 6 seconds; each
receiver is a webhook of its own name. Routes, matchers, groups and inhibitions stay.
"""

from __future__ import annotations

import copy
import re
from typing import Any

RULE_SCALE = 60
WAIT_SCALE = 300
WINDOW_FLOOR_SECONDS = 5
FOR_FLOOR_SECONDS = 1
OFFSET_SECONDS = 10
#: By alert, what in its expression is replaced: 30 s without a heartbeat, and 10,000 tasks that wait.
SHORTER = {"SchedulerDown": ("> 30\n", "> 6\n"), "QueueBacklogGrowing": ("> 10000", "> 100")}

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_WINDOW = re.compile(r"\[(\d+[smhd])\]")
_OFFSET = re.compile(r"\boffset (\d+[smhd])\b")


def seconds(duration: str) -> int:
    """Of a duration with one unit, as `5m`."""
    return int(duration[:-1]) * _UNITS[duration[-1]]


def _shorter(duration: str, floor_seconds: int) -> str:
    return f"{max(floor_seconds, seconds(duration) // RULE_SCALE)}s"


def query(expression: str) -> str:
    """An expression with shorter windows and offsets."""
    text = _WINDOW.sub(lambda found: f"[{_shorter(found[1], WINDOW_FLOOR_SECONDS)}]", expression)
    return _OFFSET.sub(f"offset {OFFSET_SECONDS}s", text)


def rules(document: dict[str, Any]) -> dict[str, Any]:
    """A file of rules, parsed, with each rule shortened."""
    shortened = copy.deepcopy(document)
    for group in shortened["groups"]:
        for rule in group["rules"]:
            if rule.get("alert") in SHORTER:
                rule["expr"] = rule["expr"].replace(*SHORTER[rule["alert"]])
            rule["expr"] = query(rule["expr"])
            if "for" in rule:
                rule["for"] = _shorter(rule["for"], FOR_FLOOR_SECONDS)
    return shortened


def escalation(document: dict[str, Any], webhook_url: str) -> dict[str, Any]:
    """Alertmanager's configuration, parsed, with shorter waits and `webhook_url`/<receiver> for each receiver."""
    shortened = copy.deepcopy(document)
    del shortened["global"]  # the secret of Slack, and nothing else
    for route in [shortened["route"], *shortened["route"]["routes"]]:
        for wait in ("group_wait", "group_interval", "repeat_interval"):
            if wait in route:
                route[wait] = f"{seconds(route[wait]) // WAIT_SCALE}s"
    for receiver in shortened["receivers"]:
        name = receiver["name"]
        receiver.clear()
        receiver |= {
            "name": name,
            "webhook_configs": [{"url": f"{webhook_url}/{name}", "send_resolved": True}],
        }
    return shortened

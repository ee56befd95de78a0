"""What a panel says (title, unit, queries), and Grafana's model of it, made with the foundation SDK.

A query uses `$__rate_interval` for windows that follow the zoom, and a fixed window where the number's meaning has one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import count

from grafana_foundation_sdk.builders.common import ReduceDataOptions, VizLegendOptions, VizTooltipOptions
from grafana_foundation_sdk.builders.dashboard import (
    Dashboard,
    DashboardLink,
    DatasourceVariable,
    Row,
    ThresholdsConfig,
)
from grafana_foundation_sdk.builders.gauge import Panel as GaugePanel
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.stat import Panel as StatPanel
from grafana_foundation_sdk.builders.timeseries import Panel as LinesPanel
from grafana_foundation_sdk.cog import variants
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    BigValueTextMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    TooltipDisplayMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

PROMETHEUS = DataSourceRef(type_val="prometheus", uid="${datasource}")
TAG = "jobledger"
AnyPanel = LinesPanel | StatPanel | GaugePanel


class Shape(StrEnum):
    """How a panel draws its queries."""

    LINES = "lines"
    NUMBERS = "numbers"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: `queries` maps a legend (with `{{label}}`) to PromQL; `unit` is Grafana's name of a unit.

    `warn_over` and `bad_over` colour the value, in the unit of the query; with `good_is_high` it is bad below them.
    """

    title: str
    unit: str
    queries: Mapping[str, str]
    meaning: str
    shape: Shape = Shape.LINES
    width: int = 8
    height: int = 7
    warn_over: float | None = None
    bad_over: float | None = None
    good_is_high: bool = False
    maximum: float | None = None
    decimals: int | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """One dashboard: rows of panels, by the row's title."""

    uid: str
    title: str
    description: str
    rows: Mapping[str, Sequence[Panel]]
    span: str = "now-1h"


def _thresholds(panel: Panel) -> ThresholdsConfig:
    first, second = ("red", "green") if panel.good_is_high else ("green", "red")
    steps = [Threshold(value=None, color=first)]
    if panel.warn_over is not None:
        steps.append(Threshold(value=panel.warn_over, color="orange"))
    if panel.bad_over is not None:
        steps.append(Threshold(value=panel.bad_over, color=second))
    return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def _targets(panel: Panel) -> list[Builder[variants.Dataquery]]:
    targets: list[Builder[variants.Dataquery]] = []
    for place, (legend, expression) in enumerate(panel.queries.items()):
        query = Dataquery().expr(expression).legend_format(legend).ref_id(chr(ord("A") + place))
        query = query.datasource(PROMETHEUS).format(PromQueryFormat.TIME_SERIES)
        targets.append(query.range() if panel.shape is Shape.LINES else query.instant())
    return targets


def _shaped(panel: Panel) -> AnyPanel:
    newest = ReduceDataOptions().calcs(["lastNotNull"])
    match panel.shape:
        case Shape.LINES:
            legend = VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
            tooltip = VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING)
            return LinesPanel().legend(legend.show_legend(True)).tooltip(tooltip).fill_opacity(8)
        case Shape.NUMBERS:
            named = BigValueTextMode.VALUE_AND_NAME if len(panel.queries) > 1 else BigValueTextMode.VALUE
            numbers = StatPanel().text_mode(named).reduce_options(newest).orientation(VizOrientation.AUTO)
            return numbers.graph_mode(BigValueGraphMode.NONE).color_mode(BigValueColorMode.VALUE)
        case Shape.GAUGE:
            return GaugePanel().reduce_options(newest).min(0)


def _builder(panel: Panel, panel_id: int) -> AnyPanel:
    made = _shaped(panel).id(panel_id).title(panel.title).description(panel.meaning).unit(panel.unit)
    made = made.datasource(PROMETHEUS).targets(_targets(panel))
    made = made.thresholds(_thresholds(panel)).span(panel.width).height(panel.height)
    if panel.maximum is not None:
        made = made.max(panel.maximum)
    return made if panel.decimals is None else made.decimals(panel.decimals)


def dashboard(page: Page) -> Dashboard:
    """Grafana's model of a page: read-only, on one data source that the reader picks."""
    made = (
        Dashboard(page.title)
        .uid(page.uid)
        .description(page.description)
        .tags([TAG])
        .readonly()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .refresh("30s")
        .time(page.span, "now")
        .timezone("utc")
        .with_variable(DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .link(DashboardLink("Jobledger").type(DashboardLinkType.DASHBOARDS).tags([TAG]).as_dropdown(True))
    )
    ids = count(1)
    for title, panels in page.rows.items():
        made = made.with_row(Row(title).id(next(ids)))
        for panel in panels:
            made = made.with_panel(_builder(panel, next(ids)))
    return made

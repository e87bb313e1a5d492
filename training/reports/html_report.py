"""Report of a training as one self-contained HTML page."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from math import floor, log10
from pathlib import Path
from typing import TYPE_CHECKING

from candlecast.bundle.forecast import INTERVAL_LEVEL
from candlecast.bundle.manifest import Span
from candlecast.market import Market
from candlecast.statistics import Figure
from training.evaluation import Evaluation
from training.export import PARITY_TOLERANCE
from training.gate import MARGIN, GateResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MplFigure

_TEMPLATE = Path(__file__).with_name("report.html.j2")


@dataclass(frozen=True, slots=True)
class Plot:
    """Plot with its file name and caption."""

    name: str
    figure: MplFigure
    caption: str


@dataclass(frozen=True, slots=True)
class Page:
    """Content of the report.

    Attributes:
        spans: Target times of each slice, in order.
        parameters: Settings of the training, with the digest of its candles.
        ohlcv_only: Figures of the report slice with the order flow hidden.
        gate_result: Result of the gate against the baselines, without the champion.
    """

    market: Market
    run_id: str
    created_at: datetime
    family: str
    spans: Mapping[str, Span]
    parameters: Mapping[str, object]
    libraries: Mapping[str, str]
    evaluation: Evaluation
    ohlcv_only: Evaluation
    gate_result: GateResult
    plots: list[Plot]


@dataclass(frozen=True, slots=True)
class Tile:
    """Headline figure; `verdict` is good, bad or level."""

    label: str
    value: str
    interval: str
    against: str
    verdict: str


@dataclass(frozen=True, slots=True)
class Row:
    """Figure of the report beside its baseline's; missing values are empty texts."""

    label: str
    value: str
    interval: str
    baseline: str
    last: str
    ohlcv_only: str


@dataclass(frozen=True, slots=True)
class Section:
    """Figures of one target or of the direction; only `main` sections are shown at first."""

    title: str
    baseline: str
    main: bool
    rows: list[Row]


def render_report(page: Page) -> str:
    """Render the page as HTML with inline plots and styles; parameters are escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATE.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    total = sum(span.rows for span in page.spans.values())
    return environment.get_template(_TEMPLATE.name).render(
        page=page,
        tiles=_tiles(page.evaluation),
        sections=_sections(page.evaluation, page.ohlcv_only),
        shares={name: 100 * span.rows / total for name, span in page.spans.items()},
        plots=[(plot, _inlined(plot.figure)) for plot in page.plots],
        margin=f"{100 * MARGIN:g} %",
        level=f"{100 * INTERVAL_LEVEL:.0f} %",
        parity=f"{PARITY_TOLERANCE[page.family]:f}".rstrip("0"),
    )


def _inlined(figure: MplFigure) -> str:
    """Return a plot as a data URL for `<img>`, which keeps its ids apart from those of other plots."""
    svg = io.BytesIO()
    figure.savefig(svg, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(svg.getvalue()).decode()


def _tiles(evaluation: Evaluation) -> list[Tile]:
    figures, base_rate = evaluation.figures, evaluation.metrics["direction_accuracy_baseline"]
    covered = figures["close_coverage"]
    as_stated = covered.lower <= INTERVAL_LEVEL <= covered.upper
    return [
        _tile("Close, skill", figures["close_skill"], 0.0, "persistence", _signed_percent),
        _tile("Amplitude, skill", figures["amplitude_skill"], 0.0, "EWMA", _signed_percent),
        _tile(
            "Direction, accuracy",
            figures["direction_accuracy"],
            base_rate,
            f"the base rate, {_percent(base_rate)}",
            _percent,
        ),
        Tile(
            f"Close, {100 * INTERVAL_LEVEL:.0f} % intervals, coverage",
            _percent(covered.value),
            _ends(covered, _percent),
            "as stated" if as_stated else "not as stated",
            "good" if as_stated else "bad",
        ),
    ]


def _tile(label: str, figure: Figure, reference: float, rival: str, text: Callable[[float], str]) -> Tile:
    """Make a tile; its verdict is level while the interval contains the reference."""
    verdict, words = "level", "no significant difference from"
    if figure.lower > reference:
        verdict, words = "good", "better than"
    if figure.upper < reference:
        verdict, words = "bad", "worse than"
    return Tile(label, text(figure.value), _ends(figure, text), f"{words} {rival}", verdict)


def _ends(figure: Figure, text: Callable[[float], str]) -> str:
    """Format an interval with its unit once."""
    return f"{text(figure.lower).partition(' ')[0]} to {text(figure.upper)}"


def _sections(evaluation: Evaluation, ohlcv_only: Evaluation) -> list[Section]:
    """Group all figures by target; skills first, then the order of measuring."""
    rows: dict[str, list[Row]] = {title: [] for title in _SECTIONS}
    for name, value in evaluation.metrics.items():
        group = next((one for one in sorted(_SECTIONS, key=len, reverse=True) if name.startswith(f"{one}_")), None)
        figure = name.removeprefix(f"{group}_")
        if group is None or figure.endswith("_baseline") or (figure.endswith("_last") and figure != "skill_last"):
            continue
        text = _text_of(figure)
        bounds = evaluation.figures.get(name)
        baseline, last = evaluation.metrics.get(f"{name}_baseline"), evaluation.metrics.get(f"{name}_last")
        row = Row(
            label=_LABELS.get(figure, figure.replace("_", " ")),
            value=text(value),
            interval="" if bounds is None else _ends(bounds, text),
            baseline="" if baseline is None else text(baseline),
            last="" if last is None or figure == "skill" else text(last),
            ohlcv_only=text(ohlcv_only.metrics[name]),
        )
        rows[group].append(row)
    for section in rows.values():
        section.sort(key=lambda row: not row.label.startswith("Skill"))
    return [Section(*_SECTIONS[name], rows[name]) for name in _SECTIONS]


_SECTIONS = {
    "close": ("Close", "last close", True),
    "amplitude": ("Amplitude", "EWMA", True),
    "direction": ("Direction", "base rate", True),
    "high_low": ("High and low jointly", "last close", False),
    "high": ("High", "last close", False),
    "low": ("Low", "last close", False),
    "open": ("Open", "last close", False),
}
"""Title, baseline and whether it is shown at first, by the prefix of its figures' names."""

_LABELS = {
    "mae": "Mean absolute error",
    "rmse": "Root mean squared error",
    "mape": "MAPE",
    "smape": "sMAPE",
    "bias": "Bias: mean of forecast − actual",
    "skill": "Skill: 1 − MAE / baseline's",
    "skill_last": "Skill over the last amplitude",
    "coverage": f"Coverage of the {100 * INTERVAL_LEVEL:.0f} % interval",
    "width": "Mean width of the interval",
    "rows": "Candles whose close moved",
    "accuracy": "Accuracy",
    "accuracy_top_fifth": "Accuracy, most confident fifth",
    "weighted_accuracy": "Accuracy weighted by |return|",
    "weighted_error": "Error weighted by |return|",
    "mean_return_hit": "Mean |return| on hits",
    "mean_return_miss": "Mean |return| on misses",
    "brier": "Brier score",
    "brier_excess": "Brier score − base rate's",
    "log_loss": "Log loss",
    "ece": "Expected calibration error",
}


def _text_of(figure: str) -> Callable[[float], str]:
    """Return the format of a figure; without another rule it is in quote currency."""
    kinds: list[tuple[str, Callable[[float], str]]] = [
        ("skill", _signed_percent),
        ("accuracy|weighted_error|coverage", _percent),
        ("mape|smape", lambda value: f"{_digits(value)} %"),
        ("brier_excess", lambda value: f"{value:+.5f}".replace("-", "−")),
        ("brier|log_loss|ece", lambda value: f"{value:.5f}"),
        ("mean_return", lambda value: f"{1e4 * value:.2f} bp"),
        ("rows", lambda value: f"{value:,.0f}"),
    ]
    return next((text for words, text in kinds if re.search(rf"(^|_)({words})(_|$)", figure)), _digits)


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _signed_percent(value: float) -> str:
    return f"{100 * value:+.2f} %".replace("-", "−")


def _digits(value: float) -> str:
    """Format with four significant digits and without an exponent."""
    after = 3 - floor(log10(abs(value))) if value else 0
    return f"{value:,.{min(max(after, 0), 12)}f}".replace("-", "−")

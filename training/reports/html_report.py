"""The report of a training as one HTML page that needs nothing but itself."""

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
    from matplotlib.figure import Figure as Picture

_TEMPLATE = Path(__file__).with_name("report.html.j2")


@dataclass(frozen=True, slots=True)
class Plot:
    """A picture and how to read it; `name` is its file's."""

    name: str
    picture: Picture
    caption: str


@dataclass(frozen=True, slots=True)
class Page:
    """What the report tells.

    Attributes:
        spans: Target times of each slice, in order.
        parameters: Every setting of the training, and what identifies its candles.
        libraries: Version of each library.
        evaluation: Of the report slice.
        ohlcv_only: The same with the order flow hidden.
        gate_result: The gate's, against the baselines alone.
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
    """One headline figure; `verdict` is good, bad or level."""

    label: str
    value: str
    interval: str
    against: str
    verdict: str


@dataclass(frozen=True, slots=True)
class Row:
    """A figure of the report beside its baseline's; an empty text where there is none."""

    label: str
    value: str
    interval: str
    baseline: str
    last: str
    ohlcv_only: str


@dataclass(frozen=True, slots=True)
class Section:
    """The figures of one target, or of the direction; `main` ones are shown at once, the rest on demand."""

    title: str
    baseline: str
    main: bool
    rows: list[Row]


def render_report(page: Page) -> str:
    """The page as HTML, pictures and styles inside; whatever a parameter says is escaped."""
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
        plots=[(plot, _inlined(plot.picture)) for plot in page.plots],
        margin=f"{100 * MARGIN:g} %",
        level=f"{100 * INTERVAL_LEVEL:.0f} %",
        parity=f"{PARITY_TOLERANCE:f}".rstrip("0"),
    )


def _inlined(picture: Picture) -> str:
    """A picture as the address of an `<img>`; as one, its ids cannot meet another picture's."""
    svg = io.BytesIO()
    picture.savefig(svg, format="svg", metadata={"Date": None})
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
            f"Close, {100 * INTERVAL_LEVEL:.0f} % intervals that held",
            _percent(covered.value),
            _ends(covered, _percent),
            "as stated" if as_stated else "not as stated",
            "good" if as_stated else "bad",
        ),
    ]


def _tile(label: str, figure: Figure, reference: float, rival: str, text: Callable[[float], str]) -> Tile:
    """A tile whose verdict is open while the interval holds what the rival reaches."""
    verdict, words = "level", "not told apart from"
    if figure.lower > reference:
        verdict, words = "good", "better than"
    if figure.upper < reference:
        verdict, words = "bad", "worse than"
    return Tile(label, text(figure.value), _ends(figure, text), f"{words} {rival}", verdict)


def _ends(figure: Figure, text: Callable[[float], str]) -> str:
    """An interval, its unit said once."""
    return f"{text(figure.lower).partition(' ')[0]} to {text(figure.upper)}"


def _sections(evaluation: Evaluation, ohlcv_only: Evaluation) -> list[Section]:
    """Every figure, by what it is about; the skill first, then in the order of measuring."""
    rows: dict[str, list[Row]] = {title: [] for title in _SECTIONS}
    for name, value in evaluation.metrics.items():
        group = next((one for one in sorted(_SECTIONS, key=len, reverse=True) if name.startswith(f"{one}_")), None)
        figure = name.removeprefix(f"{group}_")
        if group is None or figure.endswith("_baseline") or (figure.endswith("_last") and figure != "skill_last"):
            continue
        text = _text_of(figure)
        found = evaluation.figures.get(name)
        baseline, last = evaluation.metrics.get(f"{name}_baseline"), evaluation.metrics.get(f"{name}_last")
        row = Row(
            label=_LABELS.get(figure, figure.replace("_", " ")),
            value=text(value),
            interval="" if found is None else _ends(found, text),
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
    "high_low": ("High and low together", "last close", False),
    "high": ("High", "last close", False),
    "low": ("Low", "last close", False),
    "open": ("Open", "last close", False),
}
"""By the start of its figures' names: title, baseline, and whether it is shown at once."""

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
    """How a figure is written: quote currency unless its name says otherwise."""
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
    """Four significant digits, never an exponent."""
    after = 3 - floor(log10(abs(value))) if value else 0
    return f"{value:,.{min(max(after, 0), 12)}f}".replace("-", "−")

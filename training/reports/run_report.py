"""What a training leaves in its MLflow run: parameters, data, figures, plots, and a report to read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import pandas as pd

from candlecast.bundle.forecast import Forecasts
from candlecast.candles.schema import candles_digest
from candlecast.registry.registry import Registry, experiment_name
from candlecast.registry.run_log import RunLog
from candlecast.settings import Settings
from training.dataset import Dataset
from training.evaluation import Evaluation, evaluate
from training.export import library_versions
from training.gate import decide
from training.metrics import row_losses
from training.reports import plots
from training.reports.breakdown import ReportRows
from training.reports.html_report import Page, Plot, render_report
from training.splits import Split

LOGGED_SETTINGS = (
    "source",
    "symbol",
    "interval",
    "horizon",
    "lookback_days",
    "sequence_length",
    "model_family",
    "units",
    "epochs",
    "batch_size",
    "learning_rate",
    "patience",
    "recency_half_life_days",
    "seed",
)
"""Every setting that a training depends on."""

OHLCV_ONLY = "ohlcv_only_"
"""Begins the names of figures that were measured with the order flow hidden."""


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What `log_report` reports on.

    Attributes:
        settings: Of the training.
        candles: What it was given.
        dataset: Made of them.
        split: Of the dataset.
        history: Losses by epoch, any of them; `val_` on the stopping slice.
        forecasts: After the rows `split.report`.
        ohlcv_only: The same with the order flow hidden.
    """

    settings: Settings
    candles: pd.DataFrame
    dataset: Dataset
    split: Split
    history: dict[str, list[float]]
    forecasts: Forecasts
    ohlcv_only: Forecasts


@dataclass(frozen=True, slots=True)
class Report:
    """What a training was worth.

    Attributes:
        figures: Those of `training.metrics.measure`, ends of intervals as `NAME_lower` and `NAME_upper`, tests as
            `RIVALS_dm_statistic` and `RIVALS_dm_p`; and the same without order flow, beginning OHLCV_ONLY.
        plots: Pictures of it.
        html: The page that holds both.
        in_short: Markdown, a handful of lines.
    """

    figures: dict[str, float]
    plots: list[Plot]
    html: str
    in_short: str


@contextmanager
def training_run(
    registry: Registry, settings: Settings, candles: pd.DataFrame, dataset: Dataset, split: Split
) -> Iterator[RunLog]:
    """An MLflow run that knows from its first moment what is trained and on what.

    Raises:
        RegistryUnavailable: MLflow does not answer.
    """
    market, end = settings.market, dataset.span(split.report).end
    name = f"{market.model_name} until {end:%Y-%m-%d %H:%M}"
    with registry.run(experiment_name(market), name, training_parameters(settings, candles, dataset, split)) as run:
        log_candles(run, settings, candles)
        yield run


def training_parameters(settings: Settings, candles: pd.DataFrame, dataset: Dataset, split: Split) -> dict[str, object]:
    """Every setting that matters, and which candles went where."""
    parameters: dict[str, object] = {name: getattr(settings, name) for name in LOGGED_SETTINGS}
    parameters |= {"candles": len(candles), "candles_sha256": candles_digest(candles)}
    for name, ends in split._asdict().items():
        span = dataset.span(ends)
        start, end = (f"{moment:%Y-%m-%d %H:%M} UTC" for moment in (span.start, span.end))
        parameters |= {f"{name}_start": start, f"{name}_end": end, f"{name}_rows": span.rows}
    return parameters


def log_candles(run: RunLog, settings: Settings, candles: pd.DataFrame) -> None:
    """Log the candles as the run's data set: what they are and their digest, not the candles."""
    first, last = candles.index[0], candles.index[-1]
    run.dataset(
        f"{settings.symbol} {settings.interval}",
        candles_digest(candles)[:16],
        f"{settings.source}://{settings.symbol}/{settings.interval}",
        candles.columns,
        {"num_rows": len(candles), "first": first.isoformat(), "last": last.isoformat()},
    )


def log_report(run: RunLog, trained: TrainingResult) -> dict[str, float]:
    """Report on the report slice, log all of it and the library versions; the figures.

    Raises:
        NotEnoughCandles: The report slice is too short for an interval.
        RegistryUnavailable: MLflow does not answer.
    """
    report = report_on(trained, run.run_id)
    run.metrics({f"report_{name}": value for name, value in report.figures.items()})
    run.parameters({f"version_{name}": version for name, version in library_versions().items()})
    for plot in report.plots:
        run.figure(plot.picture, f"{plot.name}.png")
    run.text(report.html, "report.html")
    run.describe(report.in_short)
    return report.figures


def report_on(trained: TrainingResult, run_id: str) -> Report:
    """Measure on the report slice, draw, and write the page.

    Raises:
        NotEnoughCandles: The report slice is too short for an interval.
    """
    settings, dataset, ends = trained.settings, trained.dataset, trained.split.report
    rows = ReportRows(trained.forecasts, dataset.actual[ends], dataset.target_ms[ends], dataset.moment.volatility[ends])
    full, blind = (
        evaluate(forecasts, rows.actual, dataset.amplitude[ends], horizon=dataset.market.horizon, seed=settings.seed)
        for forecasts in (trained.forecasts, trained.ohlcv_only)
    )
    pictures = _pictures(trained.history, rows)
    page = Page(
        market=dataset.market,
        run_id=run_id,
        created_at=datetime.now(UTC),
        family=settings.model_family,
        spans={name: dataset.span(part) for name, part in trained.split._asdict().items()},
        parameters=training_parameters(settings, trained.candles, dataset, trained.split),
        libraries=library_versions(),
        evaluation=full,
        ohlcv_only=blind,
        gate_result=decide(row_losses(trained.forecasts, rows.actual), None, dataset.market.horizon),
        plots=pictures,
    )
    figures = flat(full) | {f"{OHLCV_ONLY}{name}": value for name, value in flat(blind).items()}
    return Report(figures, pictures, render_report(page), _in_short(full))


def flat(evaluation: Evaluation) -> dict[str, float]:
    """Figures, interval ends and test statistics under names of their own, as MLflow wants them."""
    figures = dict(evaluation.metrics)
    for name, figure in evaluation.figures.items():
        figures |= {f"{name}_lower": figure.lower, f"{name}_upper": figure.upper}
    for name, comparison in evaluation.comparisons.items():
        figures |= {f"{name}_dm_statistic": comparison.statistic, f"{name}_dm_p": comparison.p_value}
    return figures


def _in_short(evaluation: Evaluation) -> str:
    """The lines at the top of the run's page in MLflow."""

    def percent(name: str) -> str:
        value, lower, upper = (100 * part for part in evaluation.figures[name])
        return f"{value:.2f} % ({lower:.2f} to {upper:.2f})"

    return (
        "On the report slice, with 95 % intervals:\n\n"
        f"- close: skill {percent('close_skill')} over persistence\n"
        f"- amplitude: skill {percent('amplitude_skill')} over EWMA\n"
        f"- direction: {percent('direction_accuracy')} right, "
        f"base rate {100 * evaluation.metrics['direction_accuracy_baseline']:.2f} %\n"
        f"- 90 % interval of the close: {percent('close_coverage')} held\n\n"
        "Everything else is in `report.html` among the artifacts."
    )


def _pictures(history: dict[str, list[float]], rows: ReportRows) -> list[Plot]:
    return [
        Plot(
            "coverage",
            plots.coverage(rows),
            "Whether the intervals are as wide as they say in calm and in wild markets alike; within the grey band "
            "the difference is chance.",
        ),
        Plot(
            "reliability",
            plots.reliability_diagram(rows),
            "Whether a stated probability means what it says: points on the dashed line do.",
        ),
        Plot(
            "close",
            plots.forecasts_and_actual(rows, "close"),
            "The last forecasts of the close. That it trails the actual one is the nature of the thing, not a fault: "
            "the best guess of the next close is near the last one.",
        ),
        Plot(
            "amplitude",
            plots.forecasts_and_actual(rows, "amplitude"),
            "The last forecasts of the amplitude, which can be foreseen.",
        ),
        Plot(
            "residuals",
            plots.error_histograms(rows),
            "Errors beside the baselines'. Narrower is better; the middle belongs on the line. The widest hundredth "
            "of the baselines' errors is cut off.",
        ),
        Plot(
            "learning_curves",
            plots.learning_curves(history),
            "Loss by epoch. Ranges and prices each kept the weights of their best epoch on the stopping slice, "
            "of equally good ones the last.",
        ),
        Plot(
            "skill_by_hour",
            plots.skill_by_hour_of_day(rows),
            "Where the skill comes from. Above zero is better than the baseline in that hour.",
        ),
        Plot(
            "learning_curves_by_target",
            plots.learning_curves_by_target(history),
            "The same for each target. One that rises on the stopping slice is learnt by heart.",
        ),
    ]

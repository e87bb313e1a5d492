"""MLflow run of a training: parameters, data, figures, plots and the report page."""

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
from candlecast.settings.settings import Settings
from training.evaluation import Evaluation, evaluate
from training.export import library_versions
from training.gate import decide
from training.metrics import row_losses
from training.reports import plots
from training.reports.breakdown import ReportRows
from training.reports.html_report import Page, Plot, render_report
from training.splits import TrainingData

LOGGED_SETTINGS = (
    "source",
    "symbol",
    "interval",
    "horizon",
    "lookback_days",
    "features",
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
"""Settings that a training depends on."""

OHLCV_ONLY = "ohlcv_only_"
"""Prefix of figures that were measured with the order flow hidden."""


@dataclass(frozen=True, slots=True)
class ReportInput:
    """Training data and forecasts that a report is made of.

    Attributes:
        history: Losses by epoch; names that begin with `val_` are of the stopping slice.
        ohlcv_only: Forecasts of the report slice with the order flow hidden.
    """

    settings: Settings
    data: TrainingData
    history: dict[str, list[float]]
    forecasts: Forecasts
    ohlcv_only: Forecasts


@dataclass(frozen=True, slots=True)
class Report:
    """Figures of a training on its report slice, as numbers, plots and pages.

    Attributes:
        figures: Figures of `training.metrics.measure`, interval bounds as `NAME_lower` and `NAME_upper`, tests as
            `RIVALS_dm_statistic` and `RIVALS_dm_p`. Names with the prefix OHLCV_ONLY are without order flow.
        summary: A few lines of Markdown.
    """

    figures: dict[str, float]
    plots: list[Plot]
    html: str
    summary: str


@contextmanager
def training_run(registry: Registry, settings: Settings, data: TrainingData) -> Iterator[RunLog]:
    """Open an MLflow run with the parameters and the candles of a training.

    Raises:
        RegistryUnavailable: MLflow does not answer.
    """
    market, end = settings.market, data.dataset.span(data.split.report).end
    name = f"{market.model_name} until {end:%Y-%m-%d %H:%M}"
    with registry.run(experiment_name(market), name, training_parameters(settings, data)) as run:
        log_candles(run, settings, data.candles)
        yield run


def training_parameters(settings: Settings, data: TrainingData) -> dict[str, object]:
    """Return the settings of a training, and the span of each slice."""
    parameters: dict[str, object] = {name: settings.effective(name) for name in LOGGED_SETTINGS}
    parameters |= {"candles": len(data.candles), "candles_sha256": candles_digest(data.candles)}
    for name, ends in data.split._asdict().items():
        span = data.dataset.span(ends)
        start, end = (f"{moment:%Y-%m-%d %H:%M} UTC" for moment in (span.start, span.end))
        parameters |= {f"{name}_start": start, f"{name}_end": end, f"{name}_rows": span.rows}
    return parameters


def log_candles(run: RunLog, settings: Settings, candles: pd.DataFrame) -> None:
    """Log the symbol, interval, span and digest of candles as the run's data set."""
    first, last = candles.index[0], candles.index[-1]
    run.dataset(
        f"{settings.symbol} {settings.interval}",
        candles_digest(candles)[:16],
        f"{settings.source}://{settings.symbol}/{settings.interval}",
        candles.columns,
        {"num_rows": len(candles), "first": first.isoformat(), "last": last.isoformat()},
    )


def log_report(run: RunLog, report_input: ReportInput) -> dict[str, float]:
    """Make the report, and log it with the library versions.

    Returns:
        The report's figures.

    Raises:
        NotEnoughCandles: The report slice is too short for an interval.
        RegistryUnavailable: MLflow does not answer.
    """
    report = make_report(report_input, run.run_id)
    run.metrics({f"report_{name}": value for name, value in report.figures.items()})
    versions = library_versions(report_input.settings.training.model_family)
    run.parameters({f"version_{name}": version for name, version in versions.items()})
    for plot in report.plots:
        run.figure(plot.figure, f"{plot.name}.png")
    run.text(report.html, "report.html")
    run.describe(report.summary)
    return report.figures


def make_report(report_input: ReportInput, run_id: str) -> Report:
    """Measure the forecasts of the report slice, draw plots, and render the page.

    Raises:
        NotEnoughCandles: The report slice is too short for an interval.
    """
    settings, data = report_input.settings, report_input.data
    dataset, ends = data.dataset, data.split.report
    rows = ReportRows(
        report_input.forecasts, dataset.actual[ends], dataset.target_ms[ends], dataset.origin.volatility[ends]
    )
    full, blind = (
        evaluate(
            forecasts, rows.actual, dataset.amplitude[ends], horizon=dataset.market.horizon, seed=settings.training.seed
        )
        for forecasts in (report_input.forecasts, report_input.ohlcv_only)
    )
    drawn = _plots(report_input.history, rows)
    page = Page(
        market=dataset.market,
        run_id=run_id,
        created_at=datetime.now(UTC),
        family=settings.training.model_family,
        spans={name: dataset.span(part) for name, part in data.split._asdict().items()},
        parameters=training_parameters(settings, data),
        libraries=library_versions(settings.training.model_family),
        evaluation=full,
        ohlcv_only=blind,
        gate_result=decide(row_losses(report_input.forecasts, rows.actual), None, dataset.market.horizon),
        plots=drawn,
    )
    figures = flat(full) | {f"{OHLCV_ONLY}{name}": value for name, value in flat(blind).items()}
    return Report(figures, drawn, render_report(page), _summary(full))


def flat(evaluation: Evaluation) -> dict[str, float]:
    """Flatten figures, interval bounds and test statistics into one dictionary, as MLflow needs."""
    figures = dict(evaluation.metrics)
    for name, figure in evaluation.figures.items():
        figures |= {f"{name}_lower": figure.lower, f"{name}_upper": figure.upper}
    for name, comparison in evaluation.comparisons.items():
        figures |= {f"{name}_dm_statistic": comparison.statistic, f"{name}_dm_p": comparison.p_value}
    return figures


def _summary(evaluation: Evaluation) -> str:
    """Return the lines at the top of the run's page in MLflow."""

    def percent(name: str) -> str:
        value, lower, upper = (100 * part for part in evaluation.figures[name])
        return f"{value:.2f} % ({lower:.2f} to {upper:.2f})"

    return (
        "On the report slice, with 95 % intervals:\n\n"
        f"- close: skill {percent('close_skill')} over persistence\n"
        f"- amplitude: skill {percent('amplitude_skill')} over EWMA\n"
        f"- direction: {percent('direction_accuracy')} right, "
        f"base rate {100 * evaluation.metrics['direction_accuracy_baseline']:.2f} %\n"
        f"- 90 % interval of the close: {percent('close_coverage')} contain the outcome\n\n"
        "See `report.html` among the artifacts for more."
    )


def _plots(history: dict[str, list[float]], rows: ReportRows) -> list[Plot]:
    return [
        Plot(
            "coverage",
            plots.coverage(rows),
            "Coverage of the intervals from calm to volatile markets. Differences within the grey band may be chance.",
        ),
        Plot(
            "reliability",
            plots.reliability_diagram(rows),
            "Share of rises at each forecast probability. Points on the dashed line are calibrated.",
        ),
        Plot(
            "close",
            plots.forecasts_and_actual(rows, "close"),
            "The last forecasts of the close. They trail the actual close because the best forecast of the next close "
            "is near the last one.",
        ),
        Plot(
            "amplitude",
            plots.forecasts_and_actual(rows, "amplitude"),
            "The last forecasts of the amplitude, which is far more predictable than the close.",
        ),
        Plot(
            "residuals",
            plots.error_histograms(rows),
            "Errors of model and baseline. Narrow and centred on zero is better. The axis ends at the 99th percentile "
            "of the baseline's errors.",
        ),
        Plot(
            "learning_curves",
            plots.learning_curves(history),
            "Loss by epoch, or by round of boosting. Parts of a model keep their own best one on the stopping slice.",
        ),
        Plot(
            "skill_by_hour",
            plots.skill_by_hour_of_day(rows),
            "Skill by hour of day. Above zero, the model is better than the baseline in that hour.",
        ),
        Plot(
            "learning_curves_by_target",
            plots.learning_curves_by_target(history),
            "Loss of each target. A loss that rises on the stopping slice means overfitting.",
        ),
    ]

"""The output of `candlecast evaluate`, for people and for scripts."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from candlecast.bundle.forecast import INTERVAL_TARGETS
from candlecast.bundle.manifest import Manifest
from training.offline import OfflineEvaluation

_SHOWN = (
    ("close skill over the last close", "close_skill", "{:+.2f} %"),
    ("high and low skill over the last close", "high_low_skill", "{:+.1f} %"),
    ("amplitude skill over the last amplitude", "amplitude_skill_last", "{:+.1f} %"),
    ("amplitude skill over EWMA", "amplitude_skill", "{:+.1f} %"),
    ("direction accuracy", "direction_accuracy", "{:.2f} %"),
    ("  most confident fifth", "direction_accuracy_top_fifth", "{:.2f} %"),
    ("  Brier score minus the base rate's", "direction_brier_excess", "{:+.4f} %"),
    ("  calibration error", "direction_ece", "{:.2f} %"),
    *((f"{name} inside its 90 % interval", f"{name}_coverage", "{:.1f} %") for name in INTERVAL_TARGETS),
)


def evaluation_message(evaluated: OfflineEvaluation, version: str, manifest: Manifest) -> str:
    """Return a table of the figures with their 95 % intervals, after the version and the candles."""
    figures = evaluated.evaluation.figures
    opened = evaluated.forecasts.index
    lines = [
        f"version {version} of {manifest.market.model_name}, trained until {manifest.trained_until:%Y-%m-%d %H:%M}",
        f"{len(opened):,} candles from {opened[0]:%Y-%m-%d %H:%M} to {opened[-1]:%Y-%m-%d %H:%M}, {_inputs(evaluated)}",
    ]
    if evaluated.in_sample:
        lines.append(f"NOT A TEST: the version was trained on {evaluated.in_sample:,} of these candles")
    for title, name, form in _SHOWN:
        value, lower, upper = (form.format(100 * number) for number in figures[name])
        lines.append(f"  {title:<42}{value:>10}   95 %: {lower} to {upper}")
    for title, name in (
        ("close against persistence", "close_vs_persistence"),
        ("amplitude against EWMA", "amplitude_vs_ewma"),
    ):
        p_value = evaluated.evaluation.comparisons[name].p_value
        lines.append(f"  {title:<42}{p_value:>10.2g}   p of Diebold and Mariano")
    return "\n".join(lines)


def evaluation_figures(evaluated: OfflineEvaluation, version: str, manifest: Manifest) -> dict[str, Any]:
    """Return every figure, for scripts."""
    evaluation, opened = evaluated.evaluation, evaluated.forecasts.index
    return {
        "model": {
            "name": manifest.market.model_name,
            "version": version,
            "run_id": manifest.run_id,
            "family": manifest.family,
            "trained_until": manifest.trained_until,
        },
        "from": opened[0],
        "to": opened[-1] + manifest.market.step,
        "rows": len(opened),
        "in_sample_rows": evaluated.in_sample,
        "flow_known": evaluated.flow_known,
        "metrics": evaluation.metrics,
        "intervals": {name: [figure.lower, figure.upper] for name, figure in evaluation.figures.items()},
        "tests": {name: asdict(comparison) for name, comparison in evaluation.comparisons.items()},
    }


def _inputs(evaluated: OfflineEvaluation) -> str:
    if evaluated.flow_known == 1:
        return "with order flow"
    return "OHLCV only" if evaluated.flow_known == 0 else f"{100 * evaluated.flow_known:.0f} % of them with order flow"

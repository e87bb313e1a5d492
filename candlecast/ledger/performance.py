"""What the newest settled forecasts were worth, beside their baselines on the same rows, computed by the database."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from candlecast.ledger.forecasts import Role
from candlecast.market import Market
from candlecast.statistics import CONFIDENCE, FEWEST_ROWS, ratio_error

Read = Callable[[str, dict[str, Any]], list[dict[str, Any]]]
"""Answers a query, given its arguments by name, with rows by column name."""


class Performance(NamedTuple):
    """Figures of the newest settled forecasts of one role, abstentions left out.

    Errors without another name are the close's: mean absolute and root mean squared in quote currency, MAPE and sMAPE
    in percent. `baseline` is the same figure of the last close, of the amplitude's EWMA or of the base rate on the same
    rows. A skill is 1 - MAE / MAE of the baseline, an `error` the standard error of its figure, autocorrelation allowed
    for (None of a single row). MAPE and sMAPE of the amplitude leave out rows whose amplitude came as zero.

    Attributes:
        n: Forecasts behind the figures.
        start: Target open_time of the first of them.
        newest: Target open_time of the last.
        high_skill: Over the last close, like `low_skill`.
        moved: Candles that closed elsewhere than the last one before the forecast. Figures of the direction are of
            these alone, and 0 where there is none.
        direction_accuracy: Share of hits.
        weighted_direction_accuracy: The same, each candle weighted by its |return|.
        mean_return_on_hits: Mean |return| where the direction was right; None where it never was.
        mean_return_on_misses: Mean |return| where it was wrong; None where it never was.
        brier: Mean squared error of the probability up.
        brier_skill_error: Standard error of 1 - brier / baseline_brier.
        close_coverage: Share inside the 90 % interval, like the three after it.
    """

    n: int
    start: datetime
    newest: datetime
    mae: float
    baseline_mae: float
    rmse: float
    baseline_rmse: float
    mape: float
    baseline_mape: float
    smape: float
    baseline_smape: float
    skill: float
    skill_error: float | None
    amplitude_mae: float
    amplitude_baseline_mae: float
    amplitude_rmse: float
    amplitude_baseline_rmse: float
    amplitude_mape: float
    amplitude_baseline_mape: float
    amplitude_smape: float
    amplitude_baseline_smape: float
    amplitude_skill: float
    amplitude_skill_error: float | None
    high_skill: float
    low_skill: float
    moved: int
    direction_accuracy: float
    direction_accuracy_error: float | None
    weighted_direction_accuracy: float
    mean_return_on_hits: float | None
    mean_return_on_misses: float | None
    brier: float
    baseline_brier: float
    brier_skill_error: float | None
    close_coverage: float
    high_coverage: float
    low_coverage: float
    amplitude_coverage: float

    @property
    def mape_ratio(self) -> float:
        """MAPE over persistence's; 1 is no better than repeating the last close."""
        return self.mape / self.baseline_mape if self.baseline_mape else 1.0

    @property
    def brier_skill(self) -> float:
        """1 - Brier / Brier of the base rate."""
        return 1 - self.brier / self.baseline_brier if self.baseline_brier else 0.0

    def numbers(self) -> dict[str, Any]:
        """What a check keeps of it."""
        times = {"start": self.start.isoformat(), "newest": self.newest.isoformat()}
        return self._asdict() | times | {"mape_ratio": self.mape_ratio}

    def interval(self, name: str) -> tuple[float, float] | None:
        """95 % interval of a figure that has an `error`; None of fewer rows than an interval could be believed of."""
        value, error = getattr(self, name), getattr(self, f"{name}_error")
        if error is None or (self.moved if name in _OF_DIRECTION else self.n) < FEWEST_ROWS:
            return None
        return value - _QUANTILE * error, value + _QUANTILE * error


_QUANTILE = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
_OF_DIRECTION = ("direction_accuracy", "brier_skill")


def measure(read: Read, market: Market, role: Role, n: int, version: str | None = None) -> Performance | None:
    """Figures of the newest `n` rows of `settled_forecasts` for a role; None if there is not one to measure.

    Args:
        version: Only forecasts of this model version.
    """
    (found,) = _figures(read, market, role, n, version, by_hour=False)
    return _performance(found, market.horizon) if found["n"] else None


def measure_by_hour(
    read: Read, market: Market, role: Role, n: int, version: str | None = None
) -> dict[int, Performance]:
    """The same rows by the hour (UTC, 0 to 23) in which the target candle opened; hours without a forecast are absent.

    Args:
        version: Only forecasts of this model version.
    """
    found = _figures(read, market, role, n, version, by_hour=True)
    return {int(row["hour"]): _performance(row, market.horizon) for row in found}


def _errors(name: str, baseline: str, of: str = "") -> str:
    """Errors of a target and its baseline: mean absolute, root mean squared, MAPE, sMAPE."""
    parts = []
    for forecast, prefix in ((name, of), (baseline, f"{of}baseline_")):
        actual = f"actual_{name}"
        size = f"abs({forecast} - {actual})"
        parts += [
            f"avg({size}) as {prefix}mae",
            f"sqrt(avg(({forecast} - {actual}) ^ 2)) as {prefix}rmse",
            f"coalesce(100 * avg({size} / {actual}) filter (where {actual} > 0), 0) as {prefix}mape",
            f"coalesce(100 * avg(2 * {size} / (abs({forecast}) + {actual})) filter (where {actual} > 0), 0)"
            f" as {prefix}smape",
        ]
    return ", ".join(parts)


def _skill(name: str, baseline: str) -> str:
    naive = f"nullif(avg(abs({baseline} - actual_{name})), 0)"
    return f"coalesce(1 - avg(abs({name} - actual_{name})) / {naive}, 0)"


def _coverage(name: str) -> str:
    return f"avg((actual_{name} between {name}_lower and {name}_upper)::int)::float8 as {name}_coverage"


def _in_order(loss: str) -> str:
    return f"array_agg({loss} order by open_time)"


_MOVED = "filter (where direction_hit is not null)"
_SIZE = "abs(actual_close / reference_close - 1)"
_BRIER = "(probability_up - rose) ^ 2"
_BASELINE_BRIER = "(baseline_up - rose) ^ 2"
_FIGURES = f"""
count(*) as n, min(open_time) as start, max(open_time) as newest,
{_errors("close", "baseline_close")},
{_skill("close", "baseline_close")} as skill,
{_errors("amplitude", "baseline_amplitude", "amplitude_")},
{_skill("amplitude", "baseline_amplitude")} as amplitude_skill,
{_skill("high", "baseline_close")} as high_skill,
{_skill("low", "baseline_close")} as low_skill,
count(direction_hit) as moved,
coalesce(avg(direction_hit::int)::float8, 0) as direction_accuracy,
coalesce(sum({_SIZE} * direction_hit::int) / nullif(sum({_SIZE}), 0), 0) as weighted_direction_accuracy,
avg({_SIZE}) filter (where direction_hit) as mean_return_on_hits,
avg({_SIZE}) filter (where not direction_hit) as mean_return_on_misses,
coalesce(avg({_BRIER}) {_MOVED}, 0) as brier,
coalesce(avg({_BASELINE_BRIER}) {_MOVED}, 0) as baseline_brier,
{_coverage("close")}, {_coverage("high")}, {_coverage("low")}, {_coverage("amplitude")},
{_in_order("abs(close - actual_close)")} as losses,
{_in_order("abs(baseline_close - actual_close)")} as baseline_losses,
{_in_order("abs(amplitude - actual_amplitude)")} as amplitude_losses,
{_in_order("abs(baseline_amplitude - actual_amplitude)")} as amplitude_baseline_losses,
{_in_order("direction_hit::int")} {_MOVED} as hits,
{_in_order(_BRIER)} {_MOVED} as briers,
{_in_order(_BASELINE_BRIER)} {_MOVED} as baseline_briers
"""

# Of one row a figure would do, of many its mean does not say how sure it is: losses come along, in order of time.
_LOSSES = {
    "skill_error": ("losses", "baseline_losses"),
    "amplitude_skill_error": ("amplitude_losses", "amplitude_baseline_losses"),
    "direction_accuracy_error": ("hits", None),
    "brier_skill_error": ("briers", "baseline_briers"),
}


def _figures(
    read: Read, market: Market, role: Role, n: int, version: str | None, *, by_hour: bool
) -> list[dict[str, Any]]:
    of_version = "and model_version = %(version)s" if version is not None else ""
    hour = "extract(hour from open_time at time zone 'UTC') as hour," if by_hour else ""
    query = f"""
    select {hour} {_FIGURES} from (
        select *, (actual_close > reference_close)::int as rose from settled_forecasts
        where symbol = %(symbol)s and interval = %(interval)s and horizon = %(horizon)s and role = %(role)s {of_version}
        order by open_time desc limit %(n)s
    ) as newest where not abstained {"group by hour order by hour" if by_hour else ""}
    """
    return read(query, {**market._asdict(), "role": role, "n": n, "version": version})


def _performance(row: dict[str, Any], horizon: int) -> Performance:
    errors: dict[str, Any] = {
        name: _ratio_error(row[losses], row[reference] if reference else None, horizon)
        for name, (losses, reference) in _LOSSES.items()
    }
    return Performance(**{name: row[name] for name in Performance._fields if name not in errors}, **errors)


def _ratio_error(losses: list[float] | None, reference: list[float] | None, horizon: int) -> float | None:
    """Standard error of mean loss / mean reference, or of the mean loss alone; None where it cannot be told."""
    if losses is None or len(losses) < horizon + 1:
        return None
    own = np.array(losses, dtype="float64")
    return ratio_error(own, np.ones(len(own)) if reference is None else np.array(reference, dtype="float64"), horizon)

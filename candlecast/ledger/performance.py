"""Figures of the newest settled forecasts, beside their baselines on the same rows, computed by the database."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from candlecast.bundle.forecast import INTERVAL_TARGETS
from candlecast.figures import FIGURES, LOSS, SQUARED_ERROR
from candlecast.ledger.forecasts import Role
from candlecast.market import Market
from candlecast.registry.identity import ModelVersion
from candlecast.statistics import ratio_error

Read = Callable[[str, dict[str, Any]], list[dict[str, Any]]]
"""Runs a query, given its arguments by name; rows come by column name."""


@dataclass(frozen=True, slots=True)
class TargetFigures:
    """Figures of one target, and of its baseline: the last close, or the amplitude's EWMA.

    MAE and RMSE are in quote currency, MAPE and sMAPE in percent. The latter leave out rows whose outcome is 0.

    Attributes:
        skill: 1 - MAE / MAE of the baseline.
        skill_error: Standard error of `skill`, autocorrelation allowed for; None of fewer than 2 horizon + 1 rows.
    """

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

    @property
    def mape_ratio(self) -> float:
        """MAPE over the baseline's; 1 is no better than the baseline."""
        return self.mape / self.baseline_mape if self.baseline_mape else 1.0

    def named(self, target: str, baseline: str) -> dict[str, float | None]:
        """Flatten the figures; names of the baseline's begin with `baseline`, all others with `target`."""
        return {
            baseline + name.removeprefix("baseline_") if name.startswith("baseline_") else target + name: value
            for name, value in asdict(self).items()
        }


@dataclass(frozen=True, slots=True)
class DirectionFigures:
    """Figures of the direction, of the candles that moved from the last close; 0 where none moved.

    Attributes:
        accuracy_error: Standard error of `accuracy`, autocorrelation allowed for, or None as for `skill`.
        weighted_accuracy: Share of hits, each candle weighted by its |return|.
        mean_return_on_hits: Mean |return| where the direction was right; None where there is no hit.
        mean_return_on_misses: Mean |return| where the direction was wrong; None where there is no miss.
        brier: Mean squared error of the probability of a rise.
        baseline_brier: Mean squared error of the base rate.
        brier_skill_error: Standard error of 1 - brier / baseline_brier; None of fewer than 2 horizon + 1 rows.
    """

    moved: int
    accuracy: float
    accuracy_error: float | None
    weighted_accuracy: float
    mean_return_on_hits: float | None
    mean_return_on_misses: float | None
    brier: float
    baseline_brier: float
    brier_skill_error: float | None

    def named(self) -> dict[str, Any]:
        """Flatten the figures; each accuracy is named as one of the direction."""
        return {name.replace("accuracy", "direction_accuracy"): value for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class Performance:
    """Figures of the newest settled forecasts of one role, abstentions left out.

    Attributes:
        start: Target open_time of the first forecast.
        newest: Target open_time of the last forecast.
        high_skill: 1 - MAE / MAE of the last close as the high.
        low_skill: 1 - MAE / MAE of the last close as the low.
        coverage: Share of outcomes inside the 90 % interval, by target.
    """

    n: int
    start: datetime
    newest: datetime
    close: TargetFigures
    amplitude: TargetFigures
    high_skill: float
    low_skill: float
    direction: DirectionFigures
    coverage: dict[str, float]

    def named(self, close: str, close_baseline: str, amplitude_baseline: str) -> dict[str, Any]:
        """Flatten the figures; names of the close and of the baselines begin with these."""
        return {
            "n": self.n,
            "start": self.start,
            "newest": self.newest,
            **self.close.named(close, close_baseline),
            **self.amplitude.named("amplitude_", amplitude_baseline),
            "high_skill": self.high_skill,
            "low_skill": self.low_skill,
            **self.direction.named(),
            **{f"{target}_coverage": share for target, share in self.coverage.items()},
        }

    def numbers(self) -> dict[str, Any]:
        """Flatten to the names of stored checks, as JSON values."""
        times = {"start": self.start.isoformat(), "newest": self.newest.isoformat()}
        figures = self.named("", "baseline_", "amplitude_baseline_")
        return figures | times | {"mape_ratio": self.close.mape_ratio}


def measure(read: Read, market: Market, role: Role, n: int, version: ModelVersion | None = None) -> Performance | None:
    """Measure the newest `n` forecasts of a role that count: rows of `settled_forecasts` without abstentions.

    Charts show the same rows of a version (`service.charts.queries`).

    Returns:
        None if there is no row.
    """
    of_version = "and model_version = %(number)s and run_id = %(run_id)s" if version is not None else ""
    newest = f"{of_version} order by open_time desc limit %(n)s"
    (row,) = _rows(read, market, role, "", newest, n=n, **(version._asdict() if version else {}))
    return _performance(row, market.horizon) if row["n"] else None


def measure_by_hour(read: Read, market: Market, role: Role, span: timedelta) -> dict[int, Performance]:
    """Measure the forecasts of the newest `span` of outcomes by the hour (UTC) in which the target opened.

    Hours without a row are absent.
    """
    newest = f"and open_time > (select max(open_time) from outcomes where {_OF_MARKET}) - %(span)s"
    rows = _rows(read, market, role, "extract(hour from open_time at time zone 'UTC') as hour,", newest, span=span)
    return {int(row["hour"]): _performance(row, market.horizon) for row in rows}


def _in_order(value: str) -> str:
    return f"array_agg({value} order by open_time)"


def _losses(target: str, baseline: str) -> tuple[str, str]:
    return LOSS.sql(target, f"actual_{target}"), LOSS.sql(baseline, f"actual_{target}")


def _target(target: str, baseline: str) -> dict[str, str]:
    losses = _losses(target, baseline)
    columns = {
        f"{target}_{prefix}{name}": f"coalesce({FIGURES[name].sql(forecast, f'actual_{target}')}, 0)"
        for prefix, forecast in (("", target), ("baseline_", baseline))
        for name in ("mae", "rmse", "mape", "smape")
    }
    in_order = dict(zip((f"{target}_losses", f"{target}_baseline_losses"), map(_in_order, losses), strict=True))
    return columns | {f"{target}_skill": FIGURES["skill"].sql(*losses)} | in_order


_SIZE = "abs(actual_close / reference_close - 1)"
_HIT = ("direction_hit", _SIZE)
_COLUMNS = {
    "n": "count(*)",
    "start": "min(open_time)",
    "newest": "max(open_time)",
    **_target("close", "baseline_close"),
    **_target("amplitude", "baseline_amplitude"),
    "high_skill": FIGURES["skill"].sql(*_losses("high", "baseline_close")),
    "low_skill": FIGURES["skill"].sql(*_losses("low", "baseline_close")),
    "moved": "count(direction_hit)",
    "accuracy": f"coalesce({FIGURES['accuracy'].sql('direction_hit')}, 0)",
    "weighted_accuracy": f"coalesce({FIGURES['weighted_accuracy'].sql(*_HIT)}, 0)",
    "mean_return_on_hits": FIGURES["mean_return_on_hits"].sql(*_HIT),
    "mean_return_on_misses": FIGURES["mean_return_on_misses"].sql(*_HIT),
    "brier": f"coalesce({FIGURES['brier'].sql('probability_up', 'rose')}, 0)",
    "baseline_brier": f"coalesce({FIGURES['brier'].sql('baseline_up', 'rose')}, 0)",
    **{
        f"{name}_coverage": FIGURES["coverage"].sql(f"actual_{name}", f"{name}_lower", f"{name}_upper")
        for name in INTERVAL_TARGETS
    },
    **{
        name: f"{_in_order(value)} filter (where rose is not null)"
        for name, value in {
            "hits": "direction_hit::int",
            "briers": SQUARED_ERROR.sql("probability_up", "rose"),
            "baseline_briers": SQUARED_ERROR.sql("baseline_up", "rose"),
        }.items()
    },
}
_FIGURES = ", ".join(f"{value} as {name}" for name, value in _COLUMNS.items())


_OF_MARKET = "symbol = %(symbol)s and interval = %(interval)s and horizon = %(horizon)s"


def _rows(read: Read, market: Market, role: Role, hour: str, newest: str, **arguments: Any) -> list[dict[str, Any]]:
    query = f"""
    select {hour} {_FIGURES} from (
        select *, case when direction_hit is not null then (actual_close > reference_close)::int end as rose
        from settled_forecasts
        where {_OF_MARKET} and role = %(role)s and not abstained {newest}
    ) as newest {"group by hour order by hour" if hour else ""}
    """
    return read(query, {**market._asdict(), "role": role, **arguments})


def _performance(row: dict[str, Any], horizon: int) -> Performance:
    def target(name: str) -> TargetFigures:
        error = _ratio_error(row[f"{name}_losses"], row[f"{name}_baseline_losses"], horizon)
        figures: dict[str, Any] = {one.name: row.get(f"{name}_{one.name}") for one in fields(TargetFigures)}
        return TargetFigures(**figures | {"skill_error": error})

    figures: dict[str, Any] = {one.name: row.get(one.name) for one in fields(DirectionFigures)}
    errors = {
        "accuracy_error": _ratio_error(row["hits"], None, horizon),
        "brier_skill_error": _ratio_error(row["briers"], row["baseline_briers"], horizon),
    }
    return Performance(
        n=row["n"],
        start=row["start"],
        newest=row["newest"],
        close=target("close"),
        amplitude=target("amplitude"),
        high_skill=row["high_skill"],
        low_skill=row["low_skill"],
        direction=DirectionFigures(**figures | errors),
        coverage={name: row[f"{name}_coverage"] for name in INTERVAL_TARGETS},
    )


def _ratio_error(losses: list[float] | None, reference: list[float] | None, horizon: int) -> float | None:
    """Standard error of mean loss / mean reference, or of the mean loss alone; None of too few rows."""
    if losses is None:
        return None
    own = np.array(losses, dtype="float64")
    return ratio_error(own, np.ones(len(own)) if reference is None else np.array(reference, dtype="float64"), horizon)

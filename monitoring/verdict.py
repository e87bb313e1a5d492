"""What a check concludes, and whether it asks for a training."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from candlecast.quality import Doubtful, describe
from candlecast.settings import Settings
from monitoring.performance import Performance

FEWEST = 36
"""Settled forecasts below which the rolling error says nothing yet."""

NEWEST = 3
"""Newest candles that must be sound, or there is a fault in the data."""

_STALE_CANDLES = 3


class Verdict(NamedTuple):
    """Conclusion of one check, with a sentence for each reason."""

    verdict: Literal["healthy", "drift", "data fault", "too early"]
    action: Literal["none", "train"]
    reasons: list[str]


def judge(
    settings: Settings,
    now: datetime,
    newest_candle: datetime | None,
    performance: Performance | None,
    last_training: datetime | None,
    doubtful: Sequence[Doubtful] = (),
) -> Verdict:
    """Weigh the feed, then the rolling error, then the age of the model.

    Args:
        now: The exchange's clock, like every other time here.
        newest_candle: open_time of the newest stored candle.
        last_training: When the last training began, whether it succeeded or not.
        doubtful: The marked ones among the NEWEST newest candles.
    """
    stale_after = (_STALE_CANDLES + 1) * settings.market.step
    if newest_candle is None or now - newest_candle > stale_after:
        newest = "no candle is stored" if newest_candle is None else f"the newest candle opened {newest_candle:%F %T}"
        return Verdict(
            "data fault", "none", [f"{newest} and the exchange's clock says {now:%F %T}: nothing is trained"]
        )
    if doubtful:
        return Verdict("data fault", "none", [f"the newest candles hold {describe(doubtful)}: nothing is trained"])
    since_training = now - last_training if last_training else timedelta.max
    overdue = since_training >= timedelta(hours=settings.train_max_hours)
    age = f"the last training began {_hours(since_training)} ago" if last_training else "nothing was trained yet"
    too_old = [f"{age}, the limit is {settings.train_max_hours:g} h"] if overdue else []
    if performance is None or performance.n < FEWEST:
        settled = performance.n if performance else 0
        few = f"{settled} settled forecasts, {FEWEST} are needed for a rolling error"
        return Verdict("too early", "train" if overdue else "none", [few, *too_old])
    faults = _faults(settings, performance)
    if not faults:
        fine = f"rolling MAPE {performance.mape:.4f} % is {performance.mape_ratio:.4f} times persistence's"
        return Verdict("healthy", "train" if overdue else "none", [fine, *too_old])
    if since_training >= timedelta(hours=settings.train_min_hours):
        return Verdict("drift", "train", [*faults, age])
    return Verdict("drift", "none", [*faults, f"{age}, at least {settings.train_min_hours:g} h must pass"])


def _faults(settings: Settings, performance: Performance) -> list[str]:
    faults = []
    if performance.mape_ratio >= settings.mape_ratio_threshold:
        faults.append(
            f"rolling MAPE {performance.mape:.4f} % is {performance.mape_ratio:.4f} times persistence's "
            f"{performance.baseline_mape:.4f} %, the limit is {settings.mape_ratio_threshold:g}"
        )
    if performance.mape >= settings.mape_threshold:
        faults.append(f"rolling MAPE {performance.mape:.4f} % reaches the limit of {settings.mape_threshold:g} %")
    return faults


def _hours(span: timedelta) -> str:
    return f"{span / timedelta(hours=1):.1f} h"

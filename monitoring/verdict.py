"""Verdict of a check, and whether it requests a training."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

from candlecast.candles.gaps import CandleGap, describe_gaps
from candlecast.candles.quality import MarkedCandle, describe_doubtful
from candlecast.ledger.performance import Performance
from candlecast.settings.groups import MonitoringSettings
from candlecast.settings.settings import Settings
from monitoring.drift import DRIFTED_SHARE, VOLATILITY, Drift
from monitoring.skill import Skill

NEWEST_CANDLES = 3
"""Number of newest candles that must not be doubtful, or the verdict is a data fault."""

_LATE_CANDLES, _LATE = 2, timedelta(days=1)


class Verdict(NamedTuple):
    """Conclusion of a check, with reasons as sentences and figures as numbers."""

    verdict: Literal["healthy", "drift", "decay", "data fault", "too early", "no champion"]
    action: Literal["none", "train"]
    reasons: list[str]
    numbers: dict[str, Any]


def reach_verdict(
    settings: Settings,
    now: datetime,
    newest_candle: datetime | None,
    performance: Performance | None,
    last_training: datetime | None,
    doubtful: Sequence[MarkedCandle] = (),
    gaps: Sequence[CandleGap] = (),
    *,
    skill: Skill | None = None,
    drift: Drift | None = None,
    on_trial: str | None = None,
) -> Verdict:
    """Check the data, then losses and inputs, then the age of the model.

    - `data fault`: recent candles are old, doubtful or missing; no training is requested.
    - `drift`: the rolling MAPE reached a limit, a sequential test found a loss above its baseline's, or inputs drifted.
    - `decay`: only losses are worse, inputs have not drifted, and the version was better than its baselines at first.

    Drift and decay request a training if TRAIN_MIN_HOURS have passed since the last. During a trial the limit is
    TRAIN_MAX_HOURS, so that the challenger can finish its trial. After TRAIN_MAX_HOURS every verdict except a data
    fault requests a training.

    Args:
        now: Time by the exchange's clock, as all times here.
        newest_candle: open_time of the newest stored candle.
        last_training: Start of the last training, successful or not.
        doubtful: Doubtful candles among the NEWEST_CANDLES newest.
        gaps: Open gaps in the history that the next forecast needs.
        on_trial: Version on trial beside the champion, or None.
    """
    since_training = now - last_training if last_training else timedelta.max
    numbers = {
        "newest_candle_age_s": (now - newest_candle).total_seconds() if newest_candle else None,
        "hours_since_training": since_training / timedelta(hours=1) if last_training else None,
        "doubtful": len(doubtful),
        "gaps": len(gaps),
        "skill": skill.numbers() if skill else None,
        "drift": drift.numbers() if drift else None,
    }
    fault = _data_fault(settings, now, newest_candle, doubtful, gaps)
    if fault:
        return Verdict("data fault", "none", [f"{fault}: nothing is trained"], numbers)
    age = f"the last training began {_hours(since_training)} ago" if last_training else "no training has run yet"
    longest = settings.limits.longest_wait
    drifted = _drifted_inputs(drift)
    reasons = [*_worse_than_limits(settings, performance), *_lost_skill(skill), *drifted]
    if reasons:
        verdict: Literal["drift", "decay"] = (
            "drift" if drifted or not _had_skill(settings, performance, skill) else "decay"
        )
        wait = longest if on_trial else settings.limits.shortest_wait
        if since_training >= wait:
            return Verdict(verdict, "train", [*reasons, age], numbers)
        beside = f" while version {on_trial} is on trial" if on_trial else ""
        too_soon = f"{age}, at least {wait / timedelta(hours=1):g} h must pass{beside}"
        return Verdict(verdict, "none", [*reasons, too_soon], numbers)
    overdue = since_training >= longest
    too_old = [f"{age}, the limit is {longest / timedelta(hours=1):g} h"] if overdue else []
    action: Literal["none", "train"] = "train" if overdue else "none"
    if performance is None or not _says_something(settings, performance):
        settled = performance.n if performance else 0
        few = f"{settled} settled forecasts, {settings.limits.fewest_settled} are needed for the rolling error"
        return Verdict("too early", action, [few, *too_old], numbers)
    within = f"rolling MAPE {performance.close.mape:.4f} % is {performance.close.mape_ratio:.4f} times persistence's"
    return Verdict("healthy", action, [within, *too_old], numbers)


def _data_fault(
    settings: Settings,
    now: datetime,
    newest_candle: datetime | None,
    doubtful: Sequence[MarkedCandle],
    gaps: Sequence[CandleGap],
) -> str | None:
    if newest_candle is None:
        return f"no candle is stored and the exchange's clock says {now:%F %T}"
    step = settings.market.step
    if now - newest_candle > 2 * step + min(_LATE_CANDLES * step, _LATE):  # the next one closes after two steps
        return f"the newest candle opened {newest_candle:%F %T} and the exchange's clock says {now:%F %T}"
    if doubtful:
        return f"the newest candles hold {describe_doubtful(doubtful)}"
    if gaps:
        return f"the newest candles have gaps: {describe_gaps(gaps, settings.market.step)}"
    return None


def _worse_than_limits(settings: Settings, performance: Performance | None) -> list[str]:
    if performance is None or not _says_something(settings, performance):
        return []
    limits, faults = settings.monitoring, []
    if _over_ratio(limits, performance):
        faults.append(
            f"rolling MAPE {performance.close.mape:.4f} % is {performance.close.mape_ratio:.4f} times persistence's "
            f"{performance.close.baseline_mape:.4f} %, the limit is {limits.mape_ratio_threshold:g}"
        )
    highest = settings.limits.mape
    if performance.close.mape >= highest:
        faults.append(f"rolling MAPE {performance.close.mape:.4f} % reaches the limit of {highest:.4g} %")
    return faults


def _says_something(settings: Settings, performance: Performance) -> bool:
    """Return whether there are enough outcomes for a rolling error."""
    return performance.n >= settings.limits.fewest_settled


def _over_ratio(limits: MonitoringSettings, performance: Performance) -> bool:
    return performance.close.mape_ratio >= limits.mape_ratio_threshold


def _lost_skill(skill: Skill | None) -> list[str]:
    if skill is None:
        return []
    return [
        f"{name}: the loss is {1 + evidence.excess:.4f} times its baseline's over {evidence.n} forecasts "
        f"(evidence {evidence.now:.3g}, the limit is {skill.limit:,.0f})"
        for name, evidence in skill.evidence.items()
        if name in skill.lost
    ]


def _drifted_inputs(drift: Drift | None) -> list[str]:
    if drift is None or not drift.alarming:
        return []
    far = ", ".join(f"{name} {drift.distances[name] / drift.limits[name]:.2f} times" for name in drift.drifted)
    return [
        f"{100 * drift.share:.0f} % of the inputs drifted (limits: {100 * DRIFTED_SHARE:.0f} %, or {VOLATILITY}, which "
        f"is {drift.volatility_ratio:.2f} times the training's): {far} the distance allowed"
    ]


def _had_skill(settings: Settings, performance: Performance | None, skill: Skill | None) -> bool:
    """Return whether every loss above its limit was better than its baseline's at first."""
    if skill is None:
        return False
    worse = set(skill.lost)
    if (
        performance is not None
        and _says_something(settings, performance)
        and _over_ratio(settings.monitoring, performance)
    ):
        worse.add("close")
    return bool(worse) and all(skill.at_first[name] < 0 for name in worse)


def _hours(span: timedelta) -> str:
    return f"{span / timedelta(hours=1):.1f} h"

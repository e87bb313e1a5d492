"""Times and counts that follow from interval and horizon unless a setting gives them.

What a statistic needs is counted in independent outcomes, of which `horizon` candles make one:

- history: 90 days, at least 1,440 outcomes, at most 20 years; a window's half-life is 365 days, or as many outcomes;
- life of a version after its training: 60 days, at least 120 outcomes;
- time between two trainings: 12 to 24 hours, at least 8 to 16 outcomes;
- rolling error: 288 outcomes, at least a day, at most a quarter of a life, at least 36 outcomes;
- targets of a trial: 288 outcomes, at least a day, at most a sixth of a life.

The limit of the MAPE is MAPE_THRESHOLD times the square root of the time ahead in units of 5 minutes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta

from candlecast.market import Market
from candlecast.settings.groups import MonitoringSettings, ServiceSettings, TrainingSettings

MIN_OUTCOMES = 36
"""Fewest independent outcomes of a rolling error."""

TRIALS_IN_A_LIFE = 6
"""Trials of default length that fit into a model's life: a trial may take three times as long, and half of a life."""

_DAY = timedelta(days=1)
_LOOKBACK, _LOOKBACK_OUTCOMES = 90 * _DAY, 1440
_LONGEST_LOOKBACK = 7300 * _DAY  # no market is older
_HALF_LIFE = 365 * _DAY
_EXPIRY, _EXPIRY_OUTCOMES = 60 * _DAY, 120
_SHORTEST_WAIT, _SHORTEST_WAIT_OUTCOMES = _DAY / 2, 8
_LONGEST_WAIT, _LONGEST_WAIT_OUTCOMES = _DAY, 16
_ROLLING_OUTCOMES = 288
_ROLLING_SHARE = 4
_FEWEST_NEW_CANDLES = 4  # fewer add nothing to learn
_MAPE_THRESHOLD_OF = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class MarketLimits:
    """The limits of one market.

    Attributes:
        lookback: History that backfill keeps and training uses.
        half_life: Age at which a training window counts half.
        model_expiry: Time past its training span when a model abstains.
        shortest_wait: Shortest time between two trainings.
        longest_wait: Longest time between two trainings.
        rolling_n: Settled forecasts in the rolling error.
        fewest_settled: Settled forecasts below which no rolling error is judged, MIN_OUTCOMES outcomes.
        trial_forecasts: Targets of a trial before it may promote by proof.
        mape: Rolling MAPE of the close, in percent, that means drift.
    """

    lookback: timedelta
    half_life: timedelta
    model_expiry: timedelta
    shortest_wait: timedelta
    longest_wait: timedelta
    rolling_n: int
    fewest_settled: int
    trial_forecasts: int
    mape: float

    @property
    def judged_n(self) -> int:
        """Settled forecasts in a rolling error that is judged."""
        return max(self.rolling_n, self.fewest_settled)

    @property
    def by_setting(self) -> dict[str, float]:
        """Values by the name of the setting that would give them, in its unit."""
        day, hour = timedelta(days=1), timedelta(hours=1)
        return {
            "lookback_days": self.lookback / day,
            "recency_half_life_days": self.half_life / day,
            "model_expiry_hours": self.model_expiry / hour,
            "train_min_hours": self.shortest_wait / hour,
            "train_max_hours": self.longest_wait / hour,
            "rolling_n": self.rolling_n,
            "trial_forecasts": self.trial_forecasts,
        }


def market_limits(
    market: Market,
    lookback_days: float | None,
    service: ServiceSettings,
    training: TrainingSettings,
    monitoring: MonitoringSettings,
) -> MarketLimits:
    """Return the limits of a market; a setting that is given wins."""
    ahead = market.horizon * market.step
    expiry = _given(service.model_expiry_hours) or max(_EXPIRY, _EXPIRY_OUTCOMES * ahead)
    lookback = min(max(_LOOKBACK, _LOOKBACK_OUTCOMES * ahead), _LONGEST_LOOKBACK)
    if lookback_days is not None:
        lookback = timedelta(days=lookback_days)
    fewest_new = _FEWEST_NEW_CANDLES * market.step
    shortest = _given(training.train_min_hours)
    if shortest is None:
        shortest = max(_SHORTEST_WAIT, _SHORTEST_WAIT_OUTCOMES * ahead)
    longest = _given(training.train_max_hours) or max(_LONGEST_WAIT, _LONGEST_WAIT_OUTCOMES * ahead)
    measured = max(_ROLLING_OUTCOMES * market.horizon, _DAY // market.step)
    rolling = min(measured, int(expiry / market.step / _ROLLING_SHARE))
    trial = min(measured, int(expiry / market.step / TRIALS_IN_A_LIFE))
    fewest = MIN_OUTCOMES * market.horizon
    return MarketLimits(
        lookback=lookback,
        half_life=recency_half_life(training, market),
        model_expiry=expiry,
        shortest_wait=max(shortest, fewest_new),
        longest_wait=max(longest, shortest, fewest_new),
        rolling_n=monitoring.rolling_n or max(rolling, fewest),
        fewest_settled=fewest,
        trial_forecasts=monitoring.trial_forecasts or max(trial, 1),
        mape=monitoring.mape_threshold * math.sqrt(ahead / _MAPE_THRESHOLD_OF),
    )


def recency_half_life(training: TrainingSettings, market: Market) -> timedelta:
    """Return the age at which a training window of a market counts half."""
    if training.recency_half_life_days is not None:
        return timedelta(days=training.recency_half_life_days)
    return max(_HALF_LIFE, _LOOKBACK_OUTCOMES * market.horizon * market.step)


def _given(hours: float | None) -> timedelta | None:
    return None if hours is None else timedelta(hours=hours)

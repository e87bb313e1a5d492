"""Where a candle stands in the hour, in the trading day and in the week, as smooth periodic inputs.

Ranges follow the clock: whole hours and their quarters, and the day of the American stock market, whose opening
moves an hour against UTC twice a year. So day and week are New York's, the hour is everybody's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
_HARMONICS = {"day": 4, "hour": 6, "week": 2}
"""Sine and cosine of so many multiples of each cycle; six of the hour tell all twelve 5-minute candles apart."""

SEASON_NAMES = (
    *(
        f"{cycle}_{part}_{k}"
        for cycle, last in _HARMONICS.items()
        for k in range(1, last + 1)
        for part in ("sin", "cos")
    ),
    "weekend",
)


def season_columns(open_ms: NDArray[np.int64]) -> list[Floats]:
    """Columns `SEASON_NAMES`, shape (n,) each.

    Args:
        open_ms: Open times in milliseconds since 1970, shape (n,).
    """
    local_ms = _new_york_ms(open_ms)
    weekday = (local_ms // _DAY_MS + 3) % 7  # 1970-01-01 was a Thursday; Monday is 0
    phases = {
        "day": local_ms % _DAY_MS / _DAY_MS,
        "hour": open_ms % _HOUR_MS / _HOUR_MS,
        "week": (weekday + local_ms % _DAY_MS / _DAY_MS) / 7,
    }
    columns: list[Floats] = []
    for cycle, last in _HARMONICS.items():
        turn = np.exp(2j * np.pi * phases[cycle])
        harmonic = np.ones_like(turn)
        for _ in range(last):
            harmonic = harmonic * turn
            columns += [harmonic.imag, harmonic.real]
    return [*columns, (weekday >= 5).astype("float64")]


def _new_york_ms(open_ms: NDArray[np.int64]) -> NDArray[np.int64]:
    """New York's wall clock: UTC-5, in summer UTC-4, by the rule of the Energy Policy Act of 2005 (since 2007).

    Arithmetic, because a feature must not depend on the time zone files of the machine it is computed on.
    """
    year = open_ms.astype("datetime64[ms]").astype("datetime64[Y]")
    starts = _sunday_from(year, month=3, nth=2) * _DAY_MS + 7 * _HOUR_MS
    ends = _sunday_from(year, month=11, nth=1) * _DAY_MS + 6 * _HOUR_MS
    summer = (open_ms >= starts) & (open_ms < ends)
    local_ms: NDArray[np.int64] = open_ms - np.where(summer, 4, 5) * _HOUR_MS
    return local_ms


def _sunday_from(year: NDArray[np.datetime64], month: int, nth: int) -> NDArray[np.int64]:
    """The nth Sunday of a month of each year, in days since 1970."""
    months = year.astype("datetime64[M]").astype("int64") + month - 1
    first = months.astype("datetime64[M]").astype("datetime64[D]").astype("int64")
    sunday: NDArray[np.int64] = first + (3 - first) % 7 + 7 * (nth - 1)  # 1970-01-04 was a Sunday: day 3
    return sunday

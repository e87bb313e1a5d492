"""The position of a candle in hour, day and week, as smooth periodic inputs.

Price ranges follow whole and quarter hours, and the day of the American stock market, which shifts by an hour
against UTC twice a year. Day and week are therefore in New York time.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
from numpy.typing import NDArray

from candlecast.arrays import Floats
from candlecast.market import epoch_ms

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
_HARMONICS = {"day": 4, "hour": 6, "week": 2}
"""Number of harmonics of each cycle; six of the hour distinguish all twelve 5-minute candles."""

SEASON_NAMES = (
    *(
        f"{cycle}_{part}_{k}"
        for cycle, last in _HARMONICS.items()
        for k in range(1, last + 1)
        for part in ("sin", "cos")
    ),
    "weekend",
)

_SUMMERS = (
    (2007, (3, 8), (11, 1)),
    (1987, (4, 1), (10, 25)),
    (1976, (4, 24), (10, 25)),
    (1975, (2, 23), (10, 25)),
    (1974, (1, 6), (10, 25)),
    (1, (4, 24), (10, 25)),
)
"""First year of a rule; month and day from which the next Sunday starts and ends summer time."""

_PICKED = [
    (part, k, row)
    for row, last in enumerate(_HARMONICS.values())
    for k in range(last)
    for part in (1, 0)  # the sine is the imaginary part
]
_PARTS, _MULTIPLES, _CYCLES = (np.array(column) for column in zip(*_PICKED, strict=True))


def season_columns(open_ms: NDArray[np.int64]) -> Floats:
    """Compute the columns `SEASON_NAMES`, shape (len(SEASON_NAMES), *open_ms.shape).

    Args:
        open_ms: Open times in milliseconds since 1970, of any shape.
    """
    local_ms = _new_york_ms(open_ms)
    weekday = (local_ms // _DAY_MS + 3) % 7  # 1970-01-01 was a Thursday; Monday is 0
    day = local_ms % _DAY_MS / _DAY_MS
    turn = np.exp(2j * np.pi * np.array([day, open_ms % _HOUR_MS / _HOUR_MS, (weekday + day) / 7]))
    harmonics = np.empty((max(_HARMONICS.values()), *turn.shape), dtype="complex128")
    harmonics[0] = turn
    for k in range(1, len(harmonics)):
        np.multiply(harmonics[k - 1], turn, out=harmonics[k])
    columns = np.empty((len(SEASON_NAMES), *open_ms.shape))
    columns[:-1] = harmonics.view("float64").reshape(*harmonics.shape, 2)[_MULTIPLES, _CYCLES, ..., _PARTS]
    columns[-1] = weekday >= 5
    return columns


def _new_york_ms(open_ms: NDArray[np.int64]) -> NDArray[np.int64]:
    """Compute New York's wall clock: UTC-5, in summer UTC-4. It is right since 1967 (15 U.S.C. 260a, as amended).

    Time zone files are not used, because features must not depend on the machine.
    """
    summer = np.zeros(open_ms.shape, dtype=bool)
    for year in range(_year(open_ms.min()), _year(open_ms.max()) + 1) if open_ms.size else ():
        start, end = _summer(year)
        summer |= (open_ms >= start) & (open_ms < end)
    local_ms: NDArray[np.int64] = open_ms + _HOUR_MS * (summer - 5)
    return local_ms


def _year(open_ms: np.int64) -> int:
    return datetime.fromtimestamp(int(open_ms) // 1000, UTC).year


@cache
def _summer(year: int) -> tuple[int, int]:
    """Return start and end of New York's summer time, in milliseconds since 1970."""
    starts, ends = next((starts, ends) for first, starts, ends in _SUMMERS if first <= year)
    return _sunday_from(datetime(year, *starts, 7, tzinfo=UTC)), _sunday_from(datetime(year, *ends, 6, tzinfo=UTC))


def _sunday_from(moment: datetime) -> int:
    """Return the next Sunday from a moment on, at its time of day, in milliseconds since 1970."""
    return epoch_ms(moment + timedelta(days=6 - moment.weekday()))

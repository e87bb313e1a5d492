"""Markets, and the time grid of their candles: intervals, open times, milliseconds."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from candlecast.errors import ConfigurationError

_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_DAY, _WEEK = timedelta(days=1), timedelta(weeks=1)
GRID_ORIGIN = datetime(1970, 1, 5, tzinfo=UTC)  # weekly candles open on Mondays; shorter ones divide a day
_LETTERS = "A-Z0-9\u3400-\u9fff"  # Binance lists symbols with Chinese letters
SYMBOL = f"^[{_LETTERS}]{{2,20}}$"
"""Pattern of a symbol, in the exchange's spelling."""
LONGEST_HORIZON = 9_999
CLOCK_TOLERANCE = timedelta(hours=1)
"""Time after the present from which a recorded time counts as unknown."""


class Market(NamedTuple):
    """A symbol and interval whose candle is forecast `horizon` candles ahead."""

    symbol: str
    interval: str
    horizon: int = 1

    @property
    def step(self) -> timedelta:
        """Length of one candle."""
        return interval_duration(self.interval)

    @property
    def model_name(self) -> str:
        """Name of the registered model: `BTCUSDT-5m`, or `BTCUSDT-1m-h15` for a horizon of 15."""
        name = f"{self.symbol}-{self.interval}"
        return name if self.horizon == 1 else f"{name}-h{self.horizon}"

    @classmethod
    def named(cls, name: str, horizon: int = 1) -> Market:
        """Parse a market's name, such as `BTCUSDT-5m` or `BTCUSDT-1m-h15`.

        Args:
            horizon: Horizon of a name without one.

        Raises:
            ConfigurationError: `name` does not have that form.
        """
        symbol, interval, ahead = _parts(name)
        return cls(symbol, interval, horizon if ahead is None else ahead)


@lru_cache(maxsize=1024)
def _parts(name: str) -> tuple[str, str, int | None]:
    found = re.fullmatch(f"([{_LETTERS}]{{2,20}})-([0-9a-zA-Z]+)(?:-h([1-9][0-9]{{0,3}}))?", name)
    if not found:
        raise ConfigurationError(
            f"market {name!r:.60}: write symbol and interval like BTCUSDT-5m, and for more than one candle ahead "
            "the horizon like BTCUSDT-1m-h15"
        )
    interval_duration(found[2])
    return found[1], found[2], int(found[3]) if found[3] else None


def require_symbol(symbol: str) -> str:
    """Return `symbol` if it can be one of the exchange.

    Raises:
        ConfigurationError: Lower case, a separator, a blank, or not 2 to 20 characters.
    """
    if not re.fullmatch(SYMBOL, symbol):
        raise ConfigurationError(f"symbol is {symbol!r:.60}; send it in the exchange's spelling, like BTCUSDT")
    return symbol


def without_separators(name: str) -> str:
    """Return the name of a symbol, such as btc/usdt or BTC-USDT, in the exchange's spelling."""
    return re.sub(f"[^{_LETTERS}]", "", name.upper())


def price_text(value: float, scale: float | None = None) -> str:
    """Write a price, or a difference of prices around `scale`, with six digits of its size, at least two decimals."""
    size = abs(value if scale is None else scale)
    decimals = min(16, max(2, 5 - math.floor(math.log10(size)))) if size > 0 else 2
    return f"{value:,.{decimals}f}"


@lru_cache(maxsize=64)
def interval_duration(interval: str) -> timedelta:
    """Return the length of one candle of `interval`, e.g. 5 minutes for "5m".

    It divides a day, or is a week. Other candles, such as 3d, open on a grid that depends on the symbol
    (docs/decisions/0017).

    Raises:
        ConfigurationError: Not such an interval; months are not supported.
    """
    match = re.fullmatch(r"([1-9]\d{0,4})([mhdw])", interval)
    if not match:
        raise ConfigurationError(f"interval {interval!r}: use a number and one of m, h, d, w, such as 5m or 1h")
    length = int(match[1]) * _UNITS[match[2]]
    if _DAY % length and length != _WEEK:
        raise ConfigurationError(f"interval {interval!r}: use one that divides a day, such as 5m or 1h, or 1w")
    return length


def floor_time(moment: datetime, interval: str) -> datetime:
    """Return the open_time of the candle that contains `moment`."""
    return moment - (moment - GRID_ORIGIN) % interval_duration(interval)


def known_time(moment: datetime | None, now: datetime) -> datetime | None:
    """Return a recorded time by the exchange's clock; None if it is unknown, or over an hour after `now`.

    The clock was wrong then. Whatever counts from such a time would wait until it has come.
    """
    return moment if moment is not None and moment <= now + CLOCK_TOLERANCE else None


def epoch_ms(moment: datetime) -> int:
    """Convert an aware time to milliseconds since 1970."""
    return round(moment.timestamp() * 1000)


def from_epoch_ms(milliseconds: int) -> datetime:
    """Convert milliseconds since 1970 to an aware UTC time."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)

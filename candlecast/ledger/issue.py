"""Issuing forecasts: asking the service for the next candle and writing the answer down before it comes."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal, NamedTuple, Protocol

import pandas as pd

from candlecast.api.answers import ForecastAnswer, ModelsAnswer
from candlecast.bundle.forecast import INTERVAL_TARGETS
from candlecast.candles.quality import CandleQuality, describe_doubtful, repair_command
from candlecast.candles.schema import split_at_gaps
from candlecast.candles.store import CandleStore
from candlecast.candles.sync import Exchange
from candlecast.errors import ForecastTooLate
from candlecast.ledger.forecasts import ROLES, ForecastRecord, Ledger, Role
from candlecast.market import Market

Source = Literal["live", "replay"]

_MISSES_SOUGHT_AGAIN = timedelta(days=2)  # a gap that is repaired shows candles that nobody forecast


class ForecastService(Protocol):
    """What issuing needs of the service: `candlecast.client.ForecastClient`."""

    def model(self, market: Market) -> ModelsAnswer:
        """What it serves of a market."""

    def predict(self, candles: pd.DataFrame, symbol: str, interval: str, model: str = "champion") -> ForecastAnswer:
        """The forecast after the last of `candles`."""


class IssueResult(NamedTuple):
    """What was recorded now.

    Attributes:
        withheld: The sentence why a forecast was not, if candles or the hour were the reason.
        missed: Earlier forecasts that were due, were never made, and are recorded as missed now.
    """

    forecasts: list[ForecastRecord]
    withheld: str | None = None
    missed: int = 0


def issue_forecasts(
    exchange: Exchange,
    store: CandleStore,
    quality: CandleQuality,
    ledger: Ledger,
    service: ForecastService,
    market: Market,
    source: Source,
) -> IssueResult:
    """Ask every served role for the candle after the newest stored one, and record what it says.

    Nothing is recorded once the target candle has closed on the exchange's clock: a forecast that comes too
    late is not one. A target and role that have their forecast already keep it. Nobody is asked while there is a
    doubtful candle, or a gap, in the history that the model would see. What was due before and never made is
    recorded as missed first, whether the service answers or not.

    Returns:
        What was recorded now; nothing if no model is served yet.

    Raises:
        ServiceUnavailable: The service does not answer.
        ServiceRejected: It refuses the stored candles.
    """
    now = exchange.server_time()
    missed = ledger.record_missed("champion", now - _MISSES_SOUGHT_AGAIN, now)
    served = service.model(market).models
    due = [role for role in ROLES if role in served]
    if len({served[role].version for role in due}) < len(due):
        due.remove("challenger")  # a version under both aliases would compete with itself
    if "challenger" in due:
        missed += ledger.record_missed("challenger", now - _MISSES_SOUGHT_AGAIN, now, served["challenger"].version)
    issued: list[ForecastRecord] = []
    withheld = None
    for role in due:
        candles = store.newest(market.symbol, market.interval, served[role].input.history)
        if candles.empty:
            continue
        obstacle = _obstacle(candles, served[role].input.history, quality, market)
        if obstacle is not None:
            withheld = f"no {role} forecast: {obstacle}"
            continue
        answer = service.predict(candles, market.symbol, market.interval, role)
        forecast = forecast_record(answer, role, exchange.server_time(), source)
        try:
            if ledger.record(forecast):
                issued.append(forecast)
        except ForecastTooLate as exc:
            withheld = f"no {role} forecast: {exc}"
    return IssueResult(issued, withheld, missed)


def _obstacle(candles: pd.DataFrame, needed: int, quality: CandleQuality, market: Market) -> str | None:
    """Why the newest stored candles cannot be forecast from; None if they can."""
    newest = candles.index[-1].to_pydatetime()
    doubtful = quality.doubtful(market, candles.index[0].to_pydatetime(), newest + market.step)
    if doubtful:
        return (
            f"its {len(candles)} candles hold {describe_doubtful(doubtful)}; "
            f"`{repair_command(market, doubtful[0].open_time, newest)}` asks for them again"
        )
    stretch = split_at_gaps(candles, market.interval)[-1]
    if len(stretch) < needed:
        return (
            f"only {len(stretch)} of the {needed} candles it needs are stored in a row, "
            f"from {stretch.index[0]:%Y-%m-%d %H:%M} on"
        )
    return None


def forecast_record(answer: ForecastAnswer, role: Role, issued_at: datetime, source: Source) -> ForecastRecord:
    """The ledger's row for an answer of the service."""
    bounds = {name: getattr(answer.intervals, name) for name in INTERVAL_TARGETS}
    return ForecastRecord(
        symbol=answer.symbol,
        interval=answer.interval,
        open_time=answer.open_time,
        horizon=answer.horizon,
        role=role,
        model_version=answer.model.version,
        run_id=answer.model.run_id,
        issued_at=issued_at,
        open=answer.open,
        high=answer.high,
        low=answer.low,
        close=answer.close,
        amplitude=answer.amplitude,
        probability_up=answer.direction.up,
        **{f"{name}_lower": lower for name, (lower, _) in bounds.items()},
        **{f"{name}_upper": upper for name, (_, upper) in bounds.items()},
        baseline_close=answer.baseline.close,
        baseline_amplitude=answer.baseline.amplitude,
        baseline_up=answer.baseline.up,
        last_open_time=answer.last_open_time,
        feature_hash=answer.model.feature_hash,
        abstained=answer.abstained,
        reason=answer.reason,
        source=source,
    )

"""Issuing forecasts: asking the service for the next candle and writing the answer down before it comes."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, NamedTuple, Protocol

import pandas as pd

from candlecast.answers import ForecastAnswer, ModelsAnswer
from candlecast.candles import Market, unbroken
from candlecast.forecast import INTERVAL_TARGETS
from candlecast.ledger import ROLES, ForecastRecord, Ledger, Role
from candlecast.quality import CandleQuality, describe, repair_command
from candlecast.store import CandleStore
from candlecast.sync import Exchange

Source = Literal["live", "replay"]


class ForecastService(Protocol):
    """What issuing needs of the service: `candlecast.client.ForecastClient`."""

    def model(self) -> ModelsAnswer:
        """What it serves."""

    def predict(self, candles: pd.DataFrame, symbol: str, interval: str, model: str = "champion") -> ForecastAnswer:
        """The forecast after the last of `candles`."""


class Issued(NamedTuple):
    """What was recorded now, and the sentence why something was not, if candles were the reason."""

    forecasts: list[ForecastRecord]
    withheld: str | None = None


def issue_forecasts(
    exchange: Exchange,
    store: CandleStore,
    quality: CandleQuality,
    ledger: Ledger,
    service: ForecastService,
    market: Market,
    source: Source,
) -> Issued:
    """Ask every served role for the candle after the newest stored one, and record what it says.

    Nothing is recorded once the target candle has closed on the exchange's clock: a forecast that comes too
    late is not one. A target and role that have their forecast already keep it. Nobody is asked while there is a
    doubtful candle, or a gap, in the history that the model would see.

    Returns:
        What was recorded now; nothing if no model is served yet.

    Raises:
        ServiceUnavailable: The service does not answer.
        ServiceRejected: It refuses the stored candles.
    """
    served = service.model().models
    issued: list[ForecastRecord] = []
    asked: set[str] = set()
    withheld = None
    for role in ROLES:
        if role not in served or served[role].version in asked:
            continue  # a version under both aliases would compete with itself
        asked.add(served[role].version)
        candles = store.newest(market.symbol, market.interval, served[role].input.history)
        if candles.empty:
            continue
        newest = candles.index[-1].to_pydatetime()
        doubtful = quality.doubtful(market, candles.index[0].to_pydatetime(), newest + market.step)
        if doubtful:
            withheld = (
                f"no {role} forecast: its {len(candles)} candles hold {describe(doubtful)}; "
                f"`{repair_command(market, doubtful[0].open_time, newest)}` asks for them again"
            )
            continue
        stretch = unbroken(candles, market.interval)[-1]
        if len(stretch) < served[role].input.history:
            withheld = (
                f"no {role} forecast: only {len(stretch)} of the {served[role].input.history} candles it needs are "
                f"stored in a row, from {stretch.index[0]:%Y-%m-%d %H:%M} on"
            )
            continue
        answer = service.predict(stretch, market.symbol, market.interval, role)
        issued_at = exchange.server_time()
        if issued_at < answer.close_time:
            forecast = forecast_record(answer, role, issued_at, source)
            if ledger.record(forecast):
                issued.append(forecast)
    return Issued(issued, withheld)


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

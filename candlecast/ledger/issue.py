"""Issuing forecasts: the service is asked for the next candle, and the answer is recorded before it closes."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal, NamedTuple, Protocol

import pandas as pd

from candlecast.api.answers import ForecastAnswer, ModelsAnswer, ServedModelAnswer
from candlecast.bundle.bundle import first_unseen_target, target_open_time
from candlecast.bundle.forecast import INTERVAL_TARGETS, TARGETS
from candlecast.candles.activity import measure_activity
from candlecast.candles.quality import describe_doubtful, repair_command
from candlecast.candles.schema import split_at_gaps
from candlecast.candles.session import MarketSession
from candlecast.errors import ForecastTooLate
from candlecast.features.features import STOOD_STILL
from candlecast.features.sets import feature_set
from candlecast.ledger.forecasts import ROLES, ForecastRecord, Ledger, Role, WithheldCause
from candlecast.ledger.quotes import record_quotes
from candlecast.market import Market
from candlecast.registry.identity import ModelVersion

Source = Literal["live", "replay"]

_MISSES_SOUGHT_AGAIN = timedelta(days=2)  # a repaired gap reveals candles without a forecast


class ForecastService(Protocol):
    """Methods of `candlecast.client.ForecastClient` that issuing needs."""

    def model(self, market: Market) -> ModelsAnswer:
        """Return the models served for a market."""

    def predict(
        self,
        candles: pd.DataFrame,
        symbol: str,
        interval: str,
        model: str = "champion",
        horizon: int | None = None,
    ) -> ForecastAnswer:
        """Return the forecast of the candle `horizon` after the last of `candles`."""


class IssueResult(NamedTuple):
    """Forecasts recorded now.

    Attributes:
        withheld: Why forecasts were not recorded, by role: unusable candles, or too late; else None.
        missed: Number of earlier forecasts that were due, were not made, and are recorded as missed now.
        unquoted: Why a forecast has no quote, as `candlecast.ledger.quotes.record_quotes` returns it.
    """

    forecasts: list[ForecastRecord]
    withheld: str | None = None
    missed: int = 0
    unquoted: str | None = None


class _Obstacle(NamedTuple):
    cause: WithheldCause
    reason: str


def issue_forecasts(session: MarketSession, service: ForecastService, source: Source) -> IssueResult:
    """Record every served role's forecast from the newest stored candle, and of earlier targets that are still open.

    With a horizon above 1, the target of a skipped run is still open. It is forecast from the candles that were due
    then, the oldest first, unless the model was fitted on candles after that forecast.

    A forecast is not recorded if its target candle has closed on the exchange's clock, or if its target and role
    have one already. It is not requested if a candle of its history is doubtful or missing, or if the market stood
    still in it; the reason is noted in the ledger. Earlier forecasts that were due and were not made are recorded as
    missed first, even if the service does not answer. After the last forecast, the exchange's best bid and ask are
    recorded beside those of this run.

    Returns:
        Forecasts recorded now; none if no model is served yet.

    Raises:
        ServiceUnavailable: The service does not answer.
        ServiceRejected: The service rejects the stored candles.
    """
    market, ledger = session.market, Ledger(session.pool, session.market)
    now = session.exchange.server_time()
    missed = ledger.record_missed("champion", now - _MISSES_SOUGHT_AGAIN, now)
    served = service.model(market).models
    due = [role for role in ROLES if role in served]
    versions = {role: ModelVersion(served[role].version, served[role].run_id) for role in due}
    if len({*versions.values()}) < len(due):
        due.remove("challenger")  # a version under both aliases would compete with itself
    if "challenger" in due:
        missed += ledger.record_missed("challenger", now - _MISSES_SOUGHT_AGAIN, now, versions["challenger"])
    issued: list[ForecastRecord] = []
    withheld: list[str] = []
    try:
        for role in due:
            for candles in _due_histories(session, ledger, role, served[role], now):
                obstacle = _obstacle(candles, served[role], session)
                if obstacle is not None:
                    withheld.append(f"no {role} forecast: {obstacle.reason}")
                    target = target_open_time(candles.index[-1].to_pydatetime(), market)
                    ledger.note_withheld(role, target, *obstacle, now)
                    continue
                answer = service.predict(candles, market.symbol, market.interval, role, market.horizon)
                forecast = forecast_record(answer, role, session.exchange.server_time(), source)
                try:
                    if ledger.record(forecast):
                        issued.append(forecast)
                except ForecastTooLate as exc:
                    withheld.append(f"no {role} forecast: {exc}")
    finally:  # also beside the forecasts before a failure
        unquoted = record_quotes(session, issued)
    return IssueResult(issued, "; ".join(withheld) or None, missed, unquoted)


def _due_histories(
    session: MarketSession, ledger: Ledger, role: Role, model: ServedModelAnswer, now: datetime
) -> list[pd.DataFrame]:
    """Return the histories to forecast from, oldest first; the last one ends with the newest candle.

    An earlier one is usable, and its target is open, has no forecast of the role and is unseen by the model.
    """
    market, needed = session.market, model.input.history
    candles = session.store.newest(market.symbol, market.interval, needed + market.horizon - 1)
    if candles.empty:
        return []
    newest, ahead = candles.index[-1].to_pydatetime(), market.horizon * market.step
    recorded = ledger.recorded_targets(role, newest) if market.horizon > 1 else set()
    unseen_from = first_unseen_target(model.trained_until, market) if model.trained_until else newest
    histories = []
    for back in range(market.horizon - 1, 0, -1):
        last = newest - back * market.step
        history = candles.loc[:last].iloc[-needed:]
        target = last + ahead
        is_due = target + market.step > now and target not in recorded and target >= unseen_from
        if is_due and last in history.index and _obstacle(history, model, session) is None:
            histories.append(history)
    return [*histories, candles.iloc[-needed:]]


def _obstacle(candles: pd.DataFrame, model: ServedModelAnswer, session: MarketSession) -> _Obstacle | None:
    """Find why no forecast can be made from the newest stored candles.

    Returns:
        None if they can be used.
    """
    market, wanted = session.market, model.input
    newest = candles.index[-1].to_pydatetime()
    doubtful = session.quality.doubtful(market, candles.index[0].to_pydatetime(), newest + market.step)
    if doubtful:
        return _Obstacle(
            "doubtful",
            f"its {len(candles)} candles hold {describe_doubtful(doubtful)}; "
            f"`{repair_command(market, doubtful[0].open_time, newest)}` requests them again",
        )
    stretch = split_at_gaps(candles, market.interval)[-1]
    if len(stretch) < wanted.history:
        return _Obstacle(
            "gap",
            f"only {len(stretch)} of the {wanted.history} candles it needs are stored in a row, "
            f"from {stretch.index[0]:%Y-%m-%d %H:%M} on",
        )
    if not feature_set(wanted.features).build(stretch).finite().all():
        return _Obstacle(
            "still",
            f"{market.symbol} {market.interval} trades too seldom to be forecast now, because {STOOD_STILL}: "
            f"{measure_activity(stretch)}",
        )
    return None


def forecast_record(answer: ForecastAnswer, role: Role, issued_at: datetime, source: Source) -> ForecastRecord:
    """Turn an answer of the service into a row of the ledger."""
    same = ("symbol", "interval", "horizon", "open_time", "last_open_time", *TARGETS, "abstained", "reason")
    bounds = {name: getattr(answer.intervals, name) for name in INTERVAL_TARGETS}
    return ForecastRecord(
        **{name: getattr(answer, name) for name in same},
        role=role,
        model_version=answer.model.version,
        run_id=answer.model.run_id,
        issued_at=issued_at,
        probability_up=answer.direction.up,
        **{f"{name}_lower": lower for name, (lower, _) in bounds.items()},
        **{f"{name}_upper": upper for name, (_, upper) in bounds.items()},
        baseline_close=answer.baseline.close,
        baseline_amplitude=answer.baseline.amplitude,
        baseline_up=answer.baseline.up,
        feature_hash=answer.model.feature_hash,
        source=source,
        bundle_sha256=answer.model.bundle_sha256,
    )

"""From posted candles to the answer of `POST /predict`."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd

from candlecast.answers import (
    Baseline,
    Direction,
    ForecastAnswer,
    InputContract,
    Intervals,
    ModelReference,
    ModelsAnswer,
    ServedModelAnswer,
    SpanAnswer,
)
from candlecast.bundle import is_expired, target_open_time
from candlecast.candles import FLOW_COLUMNS, OHLCV_COLUMNS, require_sound
from candlecast.errors import InvalidCandles, ModelNotFound, NotEnoughCandles, ServiceUnavailable
from candlecast.forecast import INTERVAL_LEVEL, INTERVAL_TARGETS, TARGETS, Forecasts, persist
from candlecast.registry import CHAMPION
from service.models import ModelFollower, ServedModel, ServedModels
from service.problems import BadRequest
from service.request import HISTORY_LIMIT, PostedHistory

NO_MODEL_RETRY_S = 5


def choose_model(served: ServedModels, wanted: str) -> ServedModel:
    """The served model of an alias or version number.

    Raises:
        ServiceUnavailable: There is no champion, or nothing at all.
        ModelNotFound: Something is served, but not this.
    """
    if wanted in served:
        return served[wanted]
    by_version = [model for model in served.values() if model.version == wanted]
    if by_version:
        return by_version[0]
    if not served or wanted == CHAMPION:
        raise ServiceUnavailable(
            "no champion is being served yet: train and promote a model, see /model", NO_MODEL_RETRY_S
        )
    versions = ", ".join(f"{alias} (version {model.version})" for alias, model in served.items())
    raise ModelNotFound(f"model {wanted!r:.60} is not being served; served are {versions}")


def answer_forecast(posted: PostedHistory, model: ServedModel, expiry: timedelta) -> ForecastAnswer:
    """Forecast the candle `horizon` after the last one posted.

    Args:
        expiry: How long after its training data a model is believed; later it abstains.

    Raises:
        BadRequest: Symbol or interval are not the model's.
        InvalidCandles: Too few, or not sound; names row and field.
    """
    manifest = model.bundle.manifest
    market = manifest.market
    for field, posted_value, served_value in (
        ("symbol", posted.symbol, market.symbol),
        ("interval", posted.interval, market.interval),
    ):
        if posted_value is not None and posted_value != served_value:
            raise BadRequest(f"{field} {posted_value!r:.60} was posted, {served_value!r} is forecast here", field=field)
    if len(posted.candles) < manifest.history:
        raise NotEnoughCandles(
            f"{len(posted.candles)} candles: version {model.version} needs at least {manifest.history} in a row",
            field="candles",
        )
    require_sound(posted.candles, market.interval)
    forecasts = _forecast_tail(posted.candles, model)
    last_open_time = pd.DatetimeIndex(posted.candles.index)[-1].to_pydatetime()
    target = target_open_time(last_open_time, market)
    reason = None
    if is_expired(manifest, target, expiry):
        forecasts = persist(forecasts)
        reason = (
            f"version {model.version} knows candles up to {manifest.trained_until:%Y-%m-%d %H:%M} UTC and is not "
            f"believed more than {expiry / timedelta(hours=1):g} hours later: this is the baseline"
        )
    values = dict(zip(TARGETS, forecasts.targets[0].tolist(), strict=True))
    bounds = zip(INTERVAL_TARGETS, forecasts.lower[0].tolist(), forecasts.upper[0].tolist(), strict=True)
    up = float(forecasts.probability_up[0])
    return ForecastAnswer(
        symbol=market.symbol,
        interval=market.interval,
        horizon=market.horizon,
        last_open_time=last_open_time,
        open_time=target,
        close_time=target + market.step,
        **values,
        intervals=Intervals(level=INTERVAL_LEVEL, **{name: (lower, upper) for name, lower, upper in bounds}),
        direction=Direction(up=up, down=1 - up),
        baseline=Baseline(
            close=float(forecasts.baseline_close[0]),
            amplitude=float(forecasts.baseline_amplitude[0]),
            up=forecasts.baseline_up,
        ),
        abstained=reason is not None,
        reason=reason,
        model=ModelReference(
            name=market.model_name,
            version=model.version,
            alias=model.alias,
            run_id=manifest.run_id,
            feature_hash=manifest.feature_hash,
        ),
    )


def _forecast_tail(candles: pd.DataFrame, model: ServedModel) -> Forecasts:
    """The forecast after the last candle; faults are reported in rows of all candles posted."""
    skipped = len(candles) - model.bundle.manifest.history
    try:
        # What cannot be computed from absurd prices is refused below, in words.
        with np.errstate(over="ignore", invalid="ignore"):
            forecasts = model.bundle.forecast(candles)
    except InvalidCandles as exc:
        if not skipped or exc.row is None:
            raise
        message = f"in the {model.bundle.manifest.history} newest candles, which begin at row {skipped}: {exc}"
        raise InvalidCandles(message, exc.row + skipped, exc.field) from exc
    if not all(np.isfinite(part).all() for part in forecasts[:-1]):
        raise InvalidCandles("the forecast is not finite: these prices span more orders of magnitude than any market")
    return forecasts


def describe_models(follower: ModelFollower, expiry: timedelta) -> ModelsAnswer:
    """What is served, and what keeps the registry's newest state from being served."""
    return ModelsAnswer(
        name=follower.market.model_name,
        models={alias: _describe(model, expiry) for alias, model in follower.served.items()},
        problems=dict(follower.problems),
    )


def _describe(model: ServedModel, expiry: timedelta) -> ServedModelAnswer:
    manifest = model.bundle.manifest
    return ServedModelAnswer(
        version=model.version,
        alias=model.alias,
        run_id=manifest.run_id,
        family=manifest.family,
        created_at=manifest.created_at,
        served_since=model.served_since,
        expires_at=manifest.trained_until + expiry,
        validation_start=max(span.start for span in manifest.spans.values()),
        feature_hash=manifest.feature_hash,
        input=InputContract(
            symbol=manifest.symbol,
            interval=manifest.interval,
            horizon=manifest.horizon,
            sequence_length=manifest.sequence_length,
            history=manifest.history,
            history_limit=HISTORY_LIMIT,
            required_fields=("open_time", *OHLCV_COLUMNS),
            optional_fields=FLOW_COLUMNS,
        ),
        spans={name: SpanAnswer(**span.model_dump()) for name, span in manifest.spans.items()},
        metrics={name: value if np.isfinite(value) else None for name, value in manifest.metrics.items()},
    )

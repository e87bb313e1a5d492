"""From posted candles to forecasts, and the answer of `POST /predict`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from candlecast.bundle import target_open_time
from candlecast.candles import CANDLE_COLUMNS, OHLCV_COLUMNS, from_epoch_ms
from candlecast.errors import InvalidCandles, ModelNotFound, NotEnoughCandles, ServiceUnavailable
from candlecast.forecast import INTERVAL_LEVEL, INTERVAL_TARGETS, TARGETS, Forecasts, persist
from candlecast.registry import CHAMPION
from service.abstention import Abstention, abstentions
from service.models import ServedModel, ServedModels
from service.problems import Refused
from service.request import PostedHistory
from service.soundness import require_sound

NO_MODEL_RETRY_S = 5
_TAKER_BUY, _TRADES = CANDLE_COLUMNS.index("taker_buy_base"), CANDLE_COLUMNS.index("trades")


class Computed(NamedTuple):
    """n forecasts, and which of them the model does not stand behind.

    Attributes:
        forecasts: Where the model abstains, the baseline's.
        abstained: By their position, ascending.
        last_ms: open_time of the last candle that each used, milliseconds since 1970, shape (n,).
    """

    forecasts: Forecasts
    abstained: list[Abstention]
    last_ms: NDArray[np.int64]


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


def require_answerable(posted: PostedHistory, model: ServedModel) -> None:
    """Refuse what `model` cannot forecast from.

    Raises:
        Refused: Symbol or interval are not the model's, or a candle is not sound; names row and field.
        NotEnoughCandles: There are too few.
    """
    market = model.bundle.manifest.market
    for field, posted_value, served_value in (
        ("symbol", posted.symbol, market.symbol),
        ("interval", posted.interval, market.interval),
    ):
        if posted_value is not None and posted_value != served_value:
            message = f"{field} {posted_value!r:.60} was posted, {served_value!r} is forecast here"
            raise Refused("wrong-market", message, field=field, value=posted_value[:60])
    if len(posted.open_ms) < model.bundle.manifest.history:
        raise NotEnoughCandles(
            f"{len(posted.open_ms)} candles: version {model.version} needs at least "
            f"{model.bundle.manifest.history} in a row",
            field="candles",
        )
    require_sound(posted.open_ms, posted.table, market.interval)


def forecast_newest(posted: PostedHistory, model: ServedModel, expiry: timedelta) -> Computed:
    """The one forecast after the last candle; older ones than the model sees change nothing.

    Raises:
        InvalidCandles: A feature or the forecast is not finite; rows are those of all candles posted.
    """
    history = model.bundle.manifest.history
    skipped = len(posted.open_ms) - history
    newest = posted._replace(open_ms=posted.open_ms[skipped:], table=posted.table[skipped:])
    try:
        return _forecast(newest, _flow(newest.table), posted, model, expiry)
    except InvalidCandles as exc:
        if not skipped or exc.row is None:
            raise
        message = f"in the {history} newest candles, which begin at row {skipped}: {exc}"
        raise InvalidCandles(message, exc.row + skipped, exc.field) from exc


def forecast_all(posted: PostedHistory, model: ServedModel, expiry: timedelta) -> Computed:
    """One forecast after every candle with enough others before it: those that single calls would answer.

    Order flow counts, as in a single call, where every candle that a forecast sees has it. Where only some
    have, all is computed with and without it, and the one or the other is taken.
    """
    known = np.isfinite(posted.table[:, [_TAKER_BUY, _TRADES]]).all(axis=1)
    if known.all() or not known.any():
        return _forecast(posted, _flow(posted.table), posted, model, expiry)
    unknown_before = np.concatenate([[0], np.cumsum(~known)])
    history = model.bundle.manifest.history
    with_flow = unknown_before[history:] == unknown_before[:-history]
    filled = posted._replace(table=np.where(np.isfinite(posted.table), posted.table, 1.0))
    flows = _forecast(filled, _flow(filled.table), posted, model, expiry)
    blind = _forecast(posted, None, posted, model, expiry)
    merged: list[Any] = [
        np.where(with_flow if one.ndim == 1 else with_flow[:, None], one, other)
        for one, other in zip(flows.forecasts[:-1], blind.forecasts[:-1], strict=True)
    ]
    abstained = [one for one in flows.abstained if with_flow[one.number]]
    abstained += [one for one in blind.abstained if not with_flow[one.number]]
    return Computed(
        Forecasts._make([*merged, flows.forecasts.baseline_up]),
        sorted(abstained, key=lambda one: one.number),
        flows.last_ms,
    )


def answer_forecast(posted: PostedHistory, model: ServedModel, expiry: timedelta) -> dict[str, Any]:
    """Forecast the candle `horizon` after the last one posted.

    Args:
        expiry: How long after its training data a model is believed; later it abstains.

    Returns:
        The values of a `candlecast.answers.ForecastAnswer`; to build one would double the time this takes.

    Raises:
        Refused: Symbol or interval are not the model's, or a candle is not sound.
        InvalidCandles: There are too few, or nothing can be computed from them.
    """
    require_answerable(posted, model)
    forecasts, abstained, last_ms = forecast_newest(posted, model, expiry)
    market = model.bundle.manifest.market
    last_open_time = from_epoch_ms(int(last_ms[0]))
    target = target_open_time(last_open_time, market)
    bounds = zip(forecasts.lower[0].tolist(), forecasts.upper[0].tolist(), strict=True)
    up = float(forecasts.probability_up[0])
    return {
        "symbol": market.symbol,
        "interval": market.interval,
        "horizon": market.horizon,
        "last_open_time": last_open_time,
        "open_time": target,
        "close_time": target + market.step,
        **dict(zip(TARGETS, forecasts.targets[0].tolist(), strict=True)),
        "intervals": {"level": INTERVAL_LEVEL, **dict(zip(INTERVAL_TARGETS, bounds, strict=True))},
        "direction": {"up": up, "down": 1 - up},
        "baseline": {
            "close": float(forecasts.baseline_close[0]),
            "amplitude": float(forecasts.baseline_amplitude[0]),
            "up": forecasts.baseline_up,
        },
        "abstained": bool(abstained),
        "cause": abstained[0].cause if abstained else None,
        "reason": abstained[0].reason if abstained else None,
        "model": reference(model),
    }


def reference(model: ServedModel) -> dict[str, str]:
    """Which model answered, as `candlecast.answers.ModelReference`."""
    manifest = model.bundle.manifest
    return {
        "name": manifest.market.model_name,
        "version": model.version,
        "alias": model.alias,
        "run_id": manifest.run_id,
        "feature_hash": manifest.feature_hash,
    }


def _flow(table: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    taker_buy, trades = table[:, _TAKER_BUY], table[:, _TRADES]
    return (taker_buy, trades) if np.isfinite(taker_buy).all() and np.isfinite(trades).all() else None


def _is_finite(forecasts: Forecasts) -> bool:
    total = sum(
        float(part.sum()) for part in forecasts[:-1]
    )  # finite parts may have an infinite sum, never the reverse
    return bool(np.isfinite(total)) or all(np.isfinite(part).all() for part in forecasts[:-1])


def _forecast(
    seen: PostedHistory,
    flow: tuple[NDArray[np.float64], NDArray[np.float64]] | None,
    posted: PostedHistory,
    model: ServedModel,
    expiry: timedelta,
) -> Computed:
    """Forecast from what is `seen` of all that was `posted`, with or without order flow."""
    # What cannot be computed from absurd prices is refused below, in words.
    with np.errstate(over="ignore", invalid="ignore"):
        inputs = model.bundle.inputs_of(seen.open_ms, seen.table[:, : len(OHLCV_COLUMNS)], flow)
        forecasts = model.bundle.answer(inputs)
    if not _is_finite(forecasts):
        raise InvalidCandles("the forecast is not finite: these prices span more orders of magnitude than any market")
    abstained = abstentions(model, posted, inputs, expiry)
    if abstained:
        rows = np.array([one.number for one in abstained])
        baseline = persist(forecasts)
        for part in ("targets", "probability_up"):
            getattr(forecasts, part)[rows] = getattr(baseline, part)[rows]
    return Computed(forecasts, abstained, seen.open_ms[model.bundle.manifest.history - 1 :])

"""Forecasts of posted candles, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from candlecast.bundle.forecast import Forecasts, persist
from candlecast.bundle.manifest import Manifest
from candlecast.candles.schema import CANDLE_COLUMNS, OHLCV_COLUMNS
from candlecast.errors import InvalidCandles, ModelNotFound, NotEnoughCandles, ServiceUnavailable
from candlecast.features.features import complete_windows
from candlecast.registry.registry import CHAMPION
from service.models.served import ServedModel, ServedModels
from service.predict.abstention import Abstention, Histories, abstentions
from service.predict.candle_checks import require_valid
from service.predict.request import PostedHistory

NO_MODEL_RETRY_S = 5
_LEFT_OUT, _BLIND, _WITH_FLOW = range(3)  # kinds of windows
_FLOW = [CANDLE_COLUMNS.index("taker_buy_base"), CANDLE_COLUMNS.index("trades")]


class ForecastBatch(NamedTuple):
    """n forecasts, and the abstentions among them.

    Attributes:
        forecasts: Forecasts of the model, or of the baseline where the model abstains.
        abstained: Abstentions by ascending position.
        last_ms: open_time of the last candle of each forecast, milliseconds since 1970, shape (n,).
    """

    forecasts: Forecasts
    abstained: list[Abstention]
    last_ms: NDArray[np.int64]


def choose_model(served: ServedModels, wanted: str) -> ServedModel:
    """Find the served model of an alias or version number.

    Raises:
        ServiceUnavailable: No champion is served.
        ModelNotFound: The alias or version is not served.
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
    """Refuse a history that `model` cannot forecast from.

    Raises:
        Refusal: A candle is invalid; names row and field.
        NotEnoughCandles: The history is too short.
    """
    if len(posted.open_ms) < model.bundle.manifest.history:
        raise NotEnoughCandles(
            f"{len(posted.open_ms)} candles: version {model.version} needs at least "
            f"{model.bundle.manifest.history} in a row",
            field="candles",
        )
    require_valid(posted.open_ms, posted.table, model.bundle.manifest.interval)


def knows_flow(posted: PostedHistory, model: ServedModel) -> bool:
    """Check whether order flow is known for all candles of the newest forecast."""
    recent = posted.table[-model.bundle.manifest.history :]
    return all(bool(np.isfinite(recent[:, column]).all()) for column in _FLOW)


def forecast_newest(batch: Sequence[PostedHistory], model: ServedModel, expiry: timedelta) -> ForecastBatch:
    """Forecast after the last candle of each history; only the model's window of candles counts.

    Args:
        batch: Histories that can be answered, with the same `knows_flow`. Each gets, bit for bit, the forecast
            that it would get alone.

    Raises:
        InvalidCandles: A feature or the forecast is not finite. The error names the row of the request, unless the
            batch has several histories.
    """
    history = model.bundle.manifest.history
    first_rows = [len(posted.open_ms) - history for posted in batch]
    histories = Histories(
        np.stack([posted.open_ms[-history:] for posted in batch]),
        np.stack([posted.table[-history:] for posted in batch]),
        first_rows,
    )
    try:
        return _forecast(histories, model, expiry, with_flow=knows_flow(batch[0], model))
    except InvalidCandles as exc:
        if len(batch) > 1 or not first_rows[0] or exc.row is None:
            raise
        message = f"in the {history} newest candles, which begin at row {first_rows[0]}: {exc}"
        raise InvalidCandles(message, exc.row + first_rows[0], exc.field) from exc


def forecast_all(
    posted: PostedHistory, model: ServedModel, expiry: timedelta
) -> tuple[ForecastBatch, NDArray[np.int64]]:
    """Forecast after every candle that completes a window; the forecasts equal those of single calls.

    A forecast uses order flow if every candle of its window has it. A window that a single call refuses, because
    prices or volume stood still, is left out.

    Returns:
        The forecasts, and the open_time of the last candle of each window left out, milliseconds since 1970.

    Raises:
        InvalidCandles: No window is left, or a forecast is not finite.
    """
    manifest = model.bundle.manifest
    kinds = _kinds_of_windows(posted, manifest)
    batches: list[ForecastBatch] = []
    edges = [0, *(np.flatnonzero(np.diff(kinds)) + 1).tolist(), len(kinds)]
    for first, stop in pairwise(edges):
        if kinds[first] != _LEFT_OUT:
            candles = slice(first, stop + manifest.history - 1)
            histories = Histories(posted.open_ms[candles], posted.table[candles], [first])
            batches.append(_forecast(histories, model, expiry, with_flow=kinds[first] == _WITH_FLOW))
    return _joined(batches), posted.open_ms[manifest.history - 1 :][kinds == _LEFT_OUT]


def _kinds_of_windows(posted: PostedHistory, manifest: Manifest) -> NDArray[np.int8]:
    """Return for each window, shape (n - history + 1,), whether it is left out, or is forecast with order flow."""
    flow = posted.table[:, _FLOW]
    known = np.asarray(np.isfinite(flow).all(axis=1))
    with_flow = complete_windows(known, manifest.history)[manifest.history - 1 :]
    kinds = np.full(len(with_flow), _LEFT_OUT, dtype=np.int8)
    for kind, windows in ((_WITH_FLOW, with_flow), (_BLIND, ~with_flow)):
        if windows.any():
            taker_buy, trades = np.where(known[:, None], flow, 1.0).T
            # Absurd prices overflow here, and are refused later.
            with np.errstate(over="ignore", invalid="ignore"):
                features = manifest.features.compute(
                    posted.open_ms,
                    posted.table[:, : len(OHLCV_COLUMNS)],
                    (taker_buy, trades) if kind == _WITH_FLOW else None,
                )
            complete = complete_windows(features.finite(), manifest.sequence_length)[manifest.sequence_length - 1 :]
            kinds[windows & complete] = kind
    if (kinds == _LEFT_OUT).all():
        features.require_finite()
    return kinds


def _joined(batches: Sequence[ForecastBatch]) -> ForecastBatch:
    if len(batches) == 1:
        return batches[0]
    parts: list[Any] = [np.concatenate(part) for part in zip(*(one.forecasts[:-1] for one in batches), strict=True)]
    first = np.cumsum([0, *(len(one.last_ms) for one in batches)]).tolist()
    return ForecastBatch(
        Forecasts._make([*parts, batches[0].forecasts.baseline_up]),
        [
            replace(one, number=before + one.number)
            for before, batch in zip(first, batches, strict=False)
            for one in batch.abstained
        ],
        np.concatenate([one.last_ms for one in batches]),
    )


def reference(model: ServedModel) -> dict[str, str]:
    """Describe the model that answered, as `candlecast.api.answers.ModelReference`."""
    manifest = model.bundle.manifest
    return {
        "name": manifest.market.model_name,
        "version": model.version,
        "alias": model.alias,
        "run_id": model.run_id,
        "bundle_sha256": model.bundle_sha256,
        "feature_hash": manifest.feature_hash,
    }


def _forecast(histories: Histories, model: ServedModel, expiry: timedelta, *, with_flow: bool) -> ForecastBatch:
    """Forecast with or without order flow; abstentions get the baseline."""
    flow = (histories.table[..., _FLOW[0]], histories.table[..., _FLOW[1]]) if with_flow else None
    # Absurd prices overflow here, and are refused below.
    with np.errstate(over="ignore", invalid="ignore"):
        inputs = model.bundle.inputs_of(histories.open_ms, histories.ohlcv, flow)
        forecasts = model.bundle.answer(inputs)
    if not _is_finite(forecasts):
        raise InvalidCandles("the forecast is not finite, because the prices span too many orders of magnitude")
    abstained = abstentions(model, histories, inputs, expiry)
    if abstained:
        rows = np.array([one.number for one in abstained])
        baseline = persist(forecasts)
        for part in ("targets", "probability_up"):
            getattr(forecasts, part)[rows] = getattr(baseline, part)[rows]
    return ForecastBatch(forecasts, abstained, histories.open_ms[..., model.bundle.manifest.history - 1 :].ravel())


def _is_finite(forecasts: Forecasts) -> bool:
    total = sum(
        float(part.sum()) for part in forecasts[:-1]
    )  # finite parts may have an infinite sum, never the reverse
    return bool(np.isfinite(total)) or all(np.isfinite(part).all() for part in forecasts[:-1])

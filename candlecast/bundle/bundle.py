"""A model version in memory: from candles to its inputs, and from those to forecasts."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from candlecast.arrays import Floats
from candlecast.bundle.forecast import ForecastOrigin, Forecasts, decode, forecast_origins
from candlecast.bundle.manifest import Manifest
from candlecast.bundle.network import OnnxNetwork, windows_of
from candlecast.candles.schema import ohlcv_values, open_times_ms
from candlecast.errors import NotEnoughCandles
from candlecast.features.features import Flow, order_flow
from candlecast.market import Market


class ModelInputs(NamedTuple):
    """Inputs of a network and of `decode`; row i belongs to candle lookback + i.

    Attributes:
        rows: Standardised features, clipped at CLIP deviations, shape (..., n, features).
    """

    rows: NDArray[np.float32]
    origin: ForecastOrigin


class Bundle:
    """A loaded model version, safe to share between threads."""

    def __init__(self, manifest: Manifest, network: OnnxNetwork) -> None:
        self.manifest = manifest
        self.network = network

    def with_metrics(self, metrics: dict[str, float]) -> Bundle:
        """Return this bundle with the figures of its report slice."""
        return Bundle(self.manifest.model_copy(update={"metrics": metrics}), self.network)

    def forecast(self, candles: pd.DataFrame) -> Forecasts:
        """Forecast the candle `horizon` after the last of `candles`; n = 1.

        Raises:
            NotEnoughCandles: Fewer than `manifest.history`.
            InvalidCandles: As `inputs_of`.
        """
        return self.forecast_series(candles.iloc[-self.manifest.history :])

    def forecast_series(self, candles: pd.DataFrame) -> Forecasts:
        """Make one forecast after every candle that has `manifest.history` - 1 others before it.

        Args:
            candles: Valid (`candlecast.candles.schema.require_valid`), at least OHLCV.

        Returns:
            n = len(candles) - history + 1; row i was made after candle history - 1 + i.
        """
        return self.answer(self.inputs_of(open_times_ms(candles), ohlcv_values(candles), order_flow(candles)))

    def inputs_of(self, open_ms: NDArray[np.int64], ohlcv: Floats, flow: Flow | None) -> ModelInputs:
        """Compute the inputs of valid candles, of one history or of several (the leading axes).

        Args:
            open_ms: Open times in milliseconds since 1970, shape (..., n).
            ohlcv: Shape (..., n, 5).

        Raises:
            NotEnoughCandles: Fewer than `manifest.history`.
            InvalidCandles: As `Features.require_finite`.
        """
        if (count := ohlcv.shape[-2]) < self.manifest.history:
            raise NotEnoughCandles(
                f"{count} candles: version needs {self.manifest.history} in a row "
                f"({self.manifest.sequence_length} feature rows of {self.manifest.lookback} candles before each)"
            )
        manifest = self.manifest
        features = manifest.features.compute(open_ms, ohlcv, flow)
        features.require_finite()
        rows = manifest.scaler.apply(features.matrix, manifest.features)
        return ModelInputs(rows, forecast_origins(ohlcv, features.volatility))

    def answer(self, inputs: ModelInputs) -> Forecasts:
        """Make one forecast after every row that has sequence_length - 1 others before it, history by history."""
        recent = ForecastOrigin(*(values[..., self.manifest.sequence_length - 1 :].ravel() for values in inputs.origin))
        raw, logit = self.network.answer(windows_of(inputs.rows, self.manifest.sequence_length))
        return decode(raw, logit, recent, self.manifest.calibration)


def target_open_time(last_open_time: datetime, market: Market) -> datetime:
    """Return the open_time of the target candle of a forecast made after the candle at `last_open_time`."""
    return last_open_time + market.horizon * market.step


def first_unseen_target(trained_until: datetime, market: Market) -> datetime:
    """Return the open_time of the first target of a forecast that was made when all candles of the training had closed.

    The candles between an earlier forecast and its target were fitted on.
    """
    return target_open_time(trained_until - market.step, market)

"""Small real bundles for tests: an ONNX graph, its manifest and golden sample, in a fraction of a second."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
from onnx import TensorProto, helper, numpy_helper

from candlecast.bundle.bundle import Bundle
from candlecast.bundle.forecast import INTERVAL_TARGETS, Calibration
from candlecast.bundle.golden import GOLDEN, golden_sample
from candlecast.bundle.load import digest_of
from candlecast.bundle.manifest import FORMAT, MANIFEST, Manifest, Scaler, Span
from candlecast.bundle.network import open_network
from candlecast.candles.schema import CANDLE_COLUMNS
from candlecast.features.base import BASE
from candlecast.market import Market
from tests.support.markets import MARKET

SEQUENCE_LENGTH = 48
_TRAINED_FROM = datetime(2025, 6, 1, tzinfo=UTC)
REPORTED = {
    "close_mae": 38.2,
    "close_mae_baseline": 38.3,
    "close_mape": 0.05,
    "close_mape_baseline": 0.06,
    "direction_accuracy": 0.52,
    "direction_accuracy_baseline": 0.5,
    "direction_f1": 0.51,
    "direction_f1_baseline": 0.4,
}
"""Figures of the report slice of every tiny bundle."""
_TRAINED_UNTIL = datetime(2025, 9, 30, tzinfo=UTC)


def sound_candles(count: int, market: Market = MARKET, end: datetime | None = None, seed: int = 3) -> pd.DataFrame:
    """A made-up but sound series of `count` candles with order flow; the last one closes at `end`."""
    random = np.random.default_rng(seed)
    close = 100_000 * np.exp(np.cumsum(random.normal(0, 0.001, count)))
    opened = np.concatenate([[100_000.0], close[:-1]])
    high = np.maximum(opened, close) * (1 + random.uniform(0.0001, 0.001, count))
    low = np.minimum(opened, close) * (1 - random.uniform(0.0001, 0.001, count))
    volume = random.uniform(5, 50, count)
    taker = volume * random.uniform(0.3, 0.7, count)
    table = np.column_stack(
        [opened, high, low, close, volume, volume * close, (volume * 20).round(), taker, taker * close]
    )
    index = pd.date_range(end=(end or _TRAINED_UNTIL) - market.step, periods=count, freq=market.step, unit="us")
    return pd.DataFrame(table.round(6), index=index.rename("open_time"), columns=list(CANDLE_COLUMNS))


def write_tiny_bundle(
    directory: Path,
    *,
    version_bias: float = 0.0,
    market: Market = MARKET,
    trained_until: datetime = _TRAINED_UNTIL,
    network: bytes | None = None,
    sequence_length: int = SEQUENCE_LENGTH,
    ballast_mb: int = 0,
) -> Path:
    """Write a bundle whose network is one matrix; `directory` is created and returned.

    Args:
        version_bias: Added to the network's close, in volatilities, so that versions can be told apart.
        trained_until: End of its newest span, from which expiry counts.
        network: Another one in its place, as an ONNX file has it, for windows of `sequence_length`.
        ballast_mb: Weights that do nothing but fill memory for as long as the network is held.
    """
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "model.onnx").write_bytes(network or _network(version_bias, ballast_mb).SerializeToString())
    manifest = _manifest(market, version_bias, trained_until, {"model.onnx": digest_of(directory / "model.onnx")})
    manifest = manifest.model_copy(update={"sequence_length": sequence_length})
    golden = golden_sample(Bundle(manifest, open_network(directory / "model.onnx")), sound_candles(manifest.history))
    (directory / GOLDEN).write_text(json.dumps(golden))
    files = {**manifest.files, GOLDEN: digest_of(directory / GOLDEN)}
    (directory / MANIFEST).write_text(manifest.model_copy(update={"files": files}).model_dump_json(indent=1))
    return directory


def _network(bias: float, ballast_mb: int) -> onnx.ModelProto:
    """The last row of the window times a fixed matrix: five targets and a logit."""
    weights = np.random.default_rng(1).normal(0, 0.02, (len(BASE.names), 6)).astype("float32")
    offset = np.array([0.0, 0.5, -0.5, bias, 1.0, 0.1], dtype="float32")
    constants = [
        numpy_helper.from_array(weights, "weights"),
        numpy_helper.from_array(offset, "offset"),
        numpy_helper.from_array(np.array(-1), "last"),
        numpy_helper.from_array(np.array([5, 1]), "sizes"),
    ]
    nodes = [
        helper.make_node("Gather", ["window", "last"], ["row"], axis=1),
        helper.make_node("MatMul", ["row", "weights"], ["product"]),
        helper.make_node("Add", ["product", "offset"], ["both"]),
        helper.make_node("Split", ["both", "sizes"], ["targets", "direction"], axis=1),
    ]
    window = helper.make_tensor_value_info("window", TensorProto.FLOAT, ["n", SEQUENCE_LENGTH, len(BASE.names)])
    outputs = [
        helper.make_tensor_value_info("targets", TensorProto.FLOAT, ["n", 5]),
        helper.make_tensor_value_info("direction", TensorProto.FLOAT, ["n", 1]),
    ]
    if ballast_mb:
        weights = np.zeros(ballast_mb * 250_000, dtype="float32")
        constants.append(numpy_helper.from_array(weights, "ballast"))
        outputs.append(helper.make_tensor_value_info("ballast", TensorProto.FLOAT, weights.shape))  # else it is dropped
    graph = helper.make_graph(nodes, "tiny", [window], outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _manifest(market: Market, bias: float, trained_until: datetime, files: dict[str, str]) -> Manifest:
    reported_from = trained_until - timedelta(days=24)
    return Manifest(
        format=FORMAT,
        run_id=hashlib.sha256(repr((market, bias)).encode()).hexdigest()[:32],
        created_at=trained_until,
        symbol=market.symbol,
        interval=market.interval,
        horizon=market.horizon,
        family="tiny",
        sequence_length=SEQUENCE_LENGTH,
        lookback=BASE.lookback,
        feature_names=BASE.names,
        feature_hash=BASE.hash,
        scaler=Scaler(mean=[0.0] * len(BASE.names), scale=[1.0] * len(BASE.names)),
        calibration=Calibration(
            open_weight=0.5,
            close_weight=0.5,
            direction_slope=1.0,
            direction_intercept=0.0,
            volatility_knots=[0.001],
            residual_bounds={key: [(-1.5, 1.5)] for key in INTERVAL_TARGETS},
            base_rate_up=0.5,
        ),
        spans={
            "fit": Span(start=_TRAINED_FROM, end=reported_from, rows=26_000),
            "report": Span(start=reported_from, end=trained_until, rows=6_900),
        },
        metrics={"close_skill": 0.001, **REPORTED},
        libraries={},
        files=files,
    )

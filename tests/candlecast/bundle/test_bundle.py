"""A bundle is loaded whole and unaltered, or refused; and answers the same however much history it is given."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from candlecast.bundle.bundle import Bundle, target_open_time
from candlecast.bundle.forecast import Forecasts
from candlecast.bundle.golden import GOLDEN, check_golden, read_golden
from candlecast.bundle.load import digest_of, load_bundle
from candlecast.bundle.manifest import MANIFEST, Scaler
from candlecast.candles.schema import OHLCV_COLUMNS
from candlecast.errors import BundleError, NotEnoughCandles
from candlecast.features.base import BASE
from candlecast.market import Market
from tests.support.bundles import SEQUENCE_LENGTH, sound_candles, write_tiny_bundle

HISTORY = BASE.lookback + SEQUENCE_LENGTH
KEPT = sorted(Path(__file__).parent.glob("bundle-of-*"))
"""Bundles as released versions wrote them, never to be changed. Where FORMAT or the features must change so that one of
them is refused, say so in the CHANGELOG: operators then train before they upgrade."""


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "1")


@pytest.fixture(scope="module")
def bundle(pristine: Path) -> Bundle:
    return load_bundle(pristine)


@pytest.fixture
def copied(pristine: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(pristine, tmp_path / "copied"))


def rewrite_manifest(directory: Path, **changes: Any) -> None:
    manifest = json.loads((directory / MANIFEST).read_text())
    (directory / MANIFEST).write_text(json.dumps(manifest | changes))


def assert_same(one: Forecasts, other: Forecasts) -> None:
    for ours, theirs in zip(one, other, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_an_untouched_bundle_loads_and_says_what_it_is(bundle):
    manifest = bundle.manifest

    assert manifest.market == Market("BTCUSDT", "5m", 1)
    assert manifest.history == HISTORY
    assert manifest.trained_until == manifest.spans["report"].end


@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: kept.name)
def test_what_an_earlier_version_wrote_still_loads_and_answers_as_it_did(kept):
    loaded = load_bundle(kept)

    check_golden(loaded, read_golden(kept / GOLDEN))
    assert loaded.manifest.market == Market("BTCUSDT", "5m", 1)


@pytest.mark.parametrize("name", ["model.onnx", GOLDEN])
def test_an_altered_file_is_refused_by_name(copied, name):
    content = bytearray((copied / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copied / name).write_bytes(content)

    with pytest.raises(BundleError, match=f"{name}: missing or altered"):
        load_bundle(copied)


@pytest.mark.parametrize("name", ["model.onnx", GOLDEN])
def test_a_missing_file_is_refused_by_name(copied, name):
    (copied / name).unlink()

    with pytest.raises(BundleError, match=f"{name}: missing or altered"):
        load_bundle(copied)


def test_a_bundle_without_manifest_is_refused(copied):
    (copied / MANIFEST).unlink()

    with pytest.raises(BundleError, match=MANIFEST):
        load_bundle(copied)


def test_a_manifest_cut_short_is_refused(copied):
    text = (copied / MANIFEST).read_text()
    (copied / MANIFEST).write_text(text[: len(text) // 2])

    with pytest.raises(BundleError, match=MANIFEST):
        load_bundle(copied)


@pytest.mark.parametrize("other", [{"feature_hash": "0123456789abcdef"}, {"format": 99}])
def test_another_meaning_of_features_or_another_format_is_refused(copied, other):
    rewrite_manifest(copied, **other)

    with pytest.raises(BundleError, match=str(next(iter(other.values())))):
        load_bundle(copied)


def test_a_network_that_differs_from_its_golden_sample_is_refused(copied):
    golden = json.loads((copied / GOLDEN).read_text())
    golden["expected"][3] *= 1 + 1e-4
    (copied / GOLDEN).write_text(json.dumps(golden))
    files = {name: digest_of(copied / name) for name in ("model.onnx", GOLDEN)}
    rewrite_manifest(copied, files=files)

    with pytest.raises(BundleError, match="the golden sample gives"):
        load_bundle(copied)


def test_another_calibration_than_the_golden_samples_is_refused(copied):
    calibration = json.loads((copied / MANIFEST).read_text())["calibration"]
    rewrite_manifest(copied, calibration=calibration | {"direction_intercept": 0.5})

    with pytest.raises(BundleError, match="the golden sample gives"):
        load_bundle(copied)


@pytest.mark.parametrize("damage", [b"", b"no graph at all"])
def test_a_network_that_cannot_be_opened_is_refused(copied, damage):
    (copied / "model.onnx").write_bytes(damage)
    files = {name: digest_of(copied / name) for name in ("model.onnx", GOLDEN)}
    rewrite_manifest(copied, files=files)

    with pytest.raises(BundleError, match=r"model\.onnx"):
        load_bundle(copied)


def test_the_shortest_history_gives_the_forecast_that_a_long_one_gives(bundle, bundled_candles):
    long = bundled_candles.iloc[:3000]

    assert_same(bundle.forecast(long.iloc[-HISTORY:]), bundle.forecast(long))
    assert_same(bundle.forecast_series(long.iloc[-HISTORY:]), bundle.forecast(long))


def test_a_series_gives_the_forecasts_that_single_calls_give(bundle, bundled_candles):
    candles = bundled_candles.iloc[: HISTORY + 5]

    series = bundle.forecast_series(candles)

    assert len(series.targets) == 6
    for row in range(6):
        single = bundle.forecast(candles.iloc[: HISTORY + row])
        assert_same(single, Forecasts(*(part[row : row + 1] for part in series[:6]), series.baseline_up))


def test_every_forecast_starts_from_the_last_candle_it_was_given(bundle, bundled_candles):
    candles = bundled_candles.iloc[: HISTORY + 5]

    series = bundle.forecast_series(candles)

    assert series.baseline_close.tolist() == candles["close"].iloc[HISTORY - 1 :].tolist()
    amplitude = (candles["high"] - candles["low"]).ewm(span=12).mean().iloc[HISTORY - 1 :]
    np.testing.assert_allclose(series.baseline_amplitude, amplitude, rtol=1e-5)


def test_a_series_longer_than_one_batch_is_answered_whole(bundle, bundled_candles):
    candles = bundled_candles.iloc[: HISTORY + 4096]

    series = bundle.forecast_series(candles)

    assert len(series.targets) == 4097
    last = bundle.forecast(candles)
    np.testing.assert_allclose(series.targets[-1], last.targets[0], rtol=1e-6)


def test_one_candle_too_few_is_refused_with_the_number_needed(bundle):
    with pytest.raises(NotEnoughCandles, match=f"{HISTORY - 1} candles: version needs {HISTORY}"):
        bundle.forecast(sound_candles(HISTORY - 1))


def test_a_forecast_needs_no_order_flow(bundle):
    candles = sound_candles(HISTORY)

    plain = bundle.forecast(candles[list(OHLCV_COLUMNS)])

    assert np.isfinite(plain.targets).all()
    assert plain.targets.tolist() != bundle.forecast(candles).targets.tolist()


def test_unknown_order_flow_reaches_the_network_as_zeros():
    rows = np.ones((2, len(BASE.names)))
    rows[1, -len(BASE.flow_names) :] = 0.0
    scaler = Scaler(mean=[0.25] * len(BASE.names), scale=[0.5] * len(BASE.names))

    scaled = scaler.apply(rows, BASE)

    assert scaled[0].tolist() == [1.5] * (len(BASE.names) - 1) + [1.0]
    assert scaled[1, -len(BASE.flow_names) :].tolist() == [0.0] * len(BASE.flow_names)


def test_a_target_lies_horizon_candles_after_the_last_one(bundle):
    last = sound_candles(2).index[-1].to_pydatetime()

    opened = target_open_time(last, Market("BTCUSDT", "5m", 3))

    assert opened == last + timedelta(minutes=15)

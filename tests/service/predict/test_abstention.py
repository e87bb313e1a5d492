"""Abstention, in `POST /predict` and for arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from starlette.testclient import TestClient

from candlecast.api.answers import ForecastAnswer, ModelsAnswer
from candlecast.bundle.bundle import Bundle
from candlecast.bundle.familiarity import LEAST_LIMIT, training_limits
from candlecast.bundle.golden import GOLDEN, read_golden
from candlecast.bundle.load import load_bundle
from candlecast.candles.schema import CANDLE_COLUMNS, open_times_ms
from candlecast.features.base import BASE
from candlecast.features.indicators import INDICATORS
from candlecast.market import Market
from candlecast.replay.recordings import bundled_recordings
from service.models.served import ServedModel
from service.predict.abstention import Abstention, Histories, abstentions
from tests.service.conftest import Start
from tests.support.bundles import sound_candles, write_tiny_bundle
from tests.support.damage import stubs
from tests.support.posted import as_rows
from tests.support.registries import FakeRegistry
from training.dataset import build_dataset
from training.evaluation import fit_scaler, scaled_rows

NEVER = timedelta(days=10_000)
Judge = Callable[..., list[Abstention]]


@pytest.fixture(scope="module")
def model(tiny_bundles: dict[str, Path]) -> ServedModel:
    bundle, golden = load_bundle(tiny_bundles["1"]), read_golden(tiny_bundles["1"] / GOLDEN)
    return ServedModel("champion", "1", "run", "digest", bundle, golden, datetime(2025, 10, 1, tzinfo=UTC))


@pytest.fixture
def judge(model: ServedModel) -> Judge:
    """Abstentions of forecasts after the newest `count` candles; `scale` multiplies one input."""

    def abstained(candles: pd.DataFrame, count: int = 1, expiry: timedelta = NEVER, **scale: float) -> list[Abstention]:
        seen = newest(candles, model.bundle.manifest.history + count - 1)
        inputs = model.bundle.inputs_of(seen.open_ms, seen.ohlcv, (seen.table[:, 7], seen.table[:, 6]))
        for name, factor in scale.items():
            inputs.rows[:, BASE.names.index(name)] = factor
        return abstentions(model, seen, inputs, expiry)

    return abstained


def newest(candles: pd.DataFrame, count: int) -> Histories:
    table = candles[list(CANDLE_COLUMNS)].to_numpy()
    return Histories(open_times_ms(candles)[-count:], table[-count:], [len(candles) - count])


def forecast(service: TestClient, candles: pd.DataFrame) -> ForecastAnswer:
    response = service.post("/predict", json={"candles": as_rows(candles)})
    assert response.status_code == 200, response.text
    return ForecastAnswer.model_validate_json(response.content)


def is_baseline(answer: ForecastAnswer) -> bool:
    prices = {answer.open, answer.high, answer.low, answer.close}
    return (
        prices == {answer.baseline.close}
        and answer.amplitude == answer.baseline.amplitude
        and answer.direction.up == answer.baseline.up
    )


def test_sound_and_familiar_candles_are_answered_for(judge: Judge) -> None:
    assert judge(sound_candles(400), count=257) == []


def test_an_expired_model_abstains_with_the_baseline(
    start_service: Start, registry: FakeRegistry, history: pd.DataFrame
) -> None:
    registry.pointers["champion"] = "3"

    answer = forecast(start_service(model_expiry_hours=720), history)

    assert (answer.abstained, answer.cause) == (True, "expired")
    assert "720 hours" in str(answer.reason)
    assert is_baseline(answer)


@pytest.mark.parametrize(("days", "expired"), [(100, False), (121, True)])
def test_a_model_of_daily_candles_lives_for_120_of_them(
    start_service: Start, registry: FakeRegistry, tmp_path: Path, days: int, expired: bool
) -> None:
    daily, trained_until = Market("BTCUSDT", "1d"), datetime(2025, 9, 1, tzinfo=UTC)
    bundle = write_tiny_bundle(tmp_path / "daily", market=daily, trained_until=trained_until)
    registry.versions["1"] = bundle
    service = start_service(interval="1d")

    answer = forecast(service, sound_candles(160, daily, trained_until + timedelta(days=days)))

    assert (answer.cause == "expired") == expired
    served = ModelsAnswer.model_validate_json(service.get("/model").content).models["champion"]
    assert served.expires_at == trained_until + timedelta(days=120)


def test_a_model_expires_between_two_candles(model: ServedModel, judge: Judge) -> None:
    candles = sound_candles(160, end=model.bundle.manifest.trained_until + timedelta(hours=1))

    found = judge(candles, count=10, expiry=timedelta(minutes=30))

    # The last target opens at +60 min; the model expires after the one at +30 min.
    assert [(one.number, one.cause) for one in found] == [(number, "expired") for number in range(4, 10)]


def test_a_doubtful_candle_in_the_history_is_named_by_row_and_time(start_service: Start, history: pd.DataFrame) -> None:
    answer = forecast(start_service(), stubs(history, [100]))

    assert (answer.abstained, answer.cause) == (True, "doubtful")
    assert f"row 100: the candle of {history.index[100]:%Y-%m-%d %H:%M} UTC" in str(answer.reason)
    assert is_baseline(answer)


def test_a_doubtful_candle_before_the_window_has_no_effect(model: ServedModel, judge: Judge) -> None:
    unused = stubs(sound_candles(200), [200 - model.bundle.manifest.history - 1])
    used = stubs(sound_candles(200), [200 - model.bundle.manifest.history])

    assert judge(unused) == []
    assert [one.cause for one in judge(used)] == ["doubtful"]


def test_many_forecasts_abstain_where_single_ones_do(model: ServedModel, judge: Judge) -> None:
    candles = stubs(sound_candles(400), [210, 300])
    history = model.bundle.manifest.history
    count = len(candles) - history + 1

    together = judge(candles, count)

    alone = [one.cause for at in range(count) for one in judge(candles.iloc[: history + at])]
    assert [one.cause for one in together] == alone
    assert 2 * history > len(together) > history


@pytest.mark.parametrize("name", ["ret_12", "vol_rel", "volatility_trend"])
def test_an_input_unlike_those_of_training_is_named_with_its_distance(judge: Judge, name: str) -> None:
    found = judge(sound_candles(150), **{name: 6.0})

    assert [one.cause for one in found] == ["unfamiliar"]
    assert f"input {name} is about 6 standard deviations" in found[0].reason


def test_the_distance_is_a_root_mean_square_over_the_window(judge: Judge) -> None:
    assert judge(sound_candles(150), ret_12=LEAST_LIMIT - 0.01) == []
    assert len(judge(sound_candles(150), ret_12=-LEAST_LIMIT - 0.01)) == 1


@pytest.fixture(scope="module")
def minutes() -> pd.DataFrame:
    """Ten days after which three weeks of training begin, and three days after those."""
    return bundled_recordings("minutes")["BTCUSDT", "1m"].iloc[10 * 1440 : 34 * 1440]


@pytest.fixture(scope="module")
def model_of_one_row(model: ServedModel, minutes: pd.DataFrame) -> ServedModel:
    """A model of one row of `indicators`, with the scaler and the limits of a training on three weeks."""
    market = Market("BTCUSDT", "1m")
    dataset = build_dataset(minutes.iloc[: 21 * 1440], market, 1, INDICATORS)
    scaler = fit_scaler(dataset, dataset.ends)
    change = {
        **market._asdict(),
        "sequence_length": 1,
        "feature_set": INDICATORS.name,
        "lookback": INDICATORS.lookback,
        "scaler": scaler,
        "input_limits": training_limits(scaled_rows(scaler, dataset), dataset.ends, 1, INDICATORS),
    }
    bundle = Bundle(model.bundle.manifest.model_copy(update=change), model.bundle.network)
    return replace(model, bundle=bundle)


def unfamiliar(model: ServedModel, candles: pd.DataFrame) -> list[Abstention]:
    seen = newest(candles, len(candles))
    inputs = model.bundle.inputs_of(seen.open_ms, seen.ohlcv, None)
    return [one for one in abstentions(model, seen, inputs, NEVER) if one.cause == "unfamiliar"]


def test_ordinary_candles_are_familiar_to_a_model_of_one_row(
    model_of_one_row: ServedModel, minutes: pd.DataFrame
) -> None:
    later = minutes.iloc[-3 * 1440 :]

    found = unfamiliar(model_of_one_row, later)

    assert len(found) / len(later) < 0.002


def test_shuffled_candles_are_unfamiliar_to_a_model_of_one_row(
    model_of_one_row: ServedModel, minutes: pd.DataFrame
) -> None:
    shuffled = minutes.iloc[-1440:].copy()
    shuffled[:] = np.random.default_rng(0).permutation(shuffled.to_numpy())

    assert len(unfamiliar(model_of_one_row, shuffled)) == 1440 - INDICATORS.lookback


def test_the_limit_of_an_input_is_that_of_its_training(model: ServedModel) -> None:
    candles = sound_candles(model.bundle.manifest.history)
    seen = newest(candles, len(candles))
    limited = Bundle(model.bundle.manifest.model_copy(update={"input_limits": {"ret": 7.0}}), model.bundle.network)
    inputs = limited.inputs_of(seen.open_ms, seen.ohlcv, None)
    inputs.rows[:, BASE.names.index("ret")] = 6.9
    inputs.rows[:, BASE.names.index("amp")] = 5.1

    found = abstentions(replace(model, bundle=limited), seen, inputs, NEVER)

    assert "input amp is about 5 standard deviations" in found[0].reason
    assert "more than its limit of 5" in found[0].reason


def test_what_the_clock_says_is_never_unfamiliar(judge: Judge) -> None:
    assert judge(sound_candles(150), weekend=8.0, day_sin_1=8.0) == []


def test_one_wild_candle_alone_is_not_unfamiliar(model: ServedModel) -> None:
    candles = sound_candles(150)
    seen = newest(candles, len(candles))
    inputs = model.bundle.inputs_of(seen.open_ms, seen.ohlcv, None)
    inputs.rows[-1, :] = 8.0

    found = abstentions(model, seen, inputs, NEVER)

    assert [one for one in found if one.number == len(inputs.rows) - model.bundle.manifest.sequence_length] == []


def test_of_several_causes_expiry_comes_first(judge: Judge) -> None:
    candles = stubs(sound_candles(150), [140])

    both = judge(candles, ret_12=6.0)
    all_three = judge(candles, expiry=timedelta(0) - timedelta(days=1), ret_12=6.0)

    assert [one.cause for one in both] == ["doubtful"]
    assert [one.cause for one in all_three] == ["expired"]


def test_recorded_candles_are_hardly_ever_abstained_from(
    start_service: Start, registry: FakeRegistry, bundled_candles: pd.DataFrame, tmp_path: Path
) -> None:
    registry.versions["4"] = write_tiny_bundle(tmp_path / "4", trained_until=datetime(2025, 9, 1, tzinfo=UTC))
    registry.pointers["champion"] = "4"
    service = start_service()

    causes = [
        answer.cause
        for start in range(26_000, 35_000, 173)
        if (answer := forecast(service, bundled_candles.iloc[start : start + 144])).abstained
    ]

    assert causes == []

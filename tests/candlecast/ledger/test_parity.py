"""Recomputed forecasts equal the recorded ones, or the difference is explained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest
from psycopg_pool import ConnectionPool

from candlecast.bundle.bundle import target_open_time
from candlecast.bundle.forecast import INTERVAL_TARGETS, TARGETS, Forecasts, persist
from candlecast.bundle.load import load_bundle
from candlecast.bundle.manifest import bundle_sha256
from candlecast.candles.store import CandleStore
from candlecast.database import open_database
from candlecast.ledger.forecasts import ForecastRecord, Ledger
from candlecast.ledger.parity import ParityCheck, parity_message, verify_forecasts
from tests.support.bundles import sound_candles, write_tiny_bundle
from tests.support.markets import MARKET
from tests.support.registries import FakeRegistry
from tests.support.sessions import market_session

pytestmark = pytest.mark.integration

CANDLES = sound_candles(160)
Verify = Callable[..., list[ParityCheck]]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("parity") / "1")


@pytest.fixture
def verify(pool: ConnectionPool, tiny: Path, tmp_path: Path) -> Verify:
    registry = FakeRegistry()
    registry.versions["1"] = tiny

    def verified(last: int = 100) -> list[ParityCheck]:
        return verify_forecasts(market_session(pool), registry, tmp_path / "models", last)

    return verified


@pytest.fixture
def issued(pool: ConnectionPool, store: CandleStore, tiny: Path) -> list[ForecastRecord]:
    """Five forecasts in the ledger, the newest of them an abstention."""
    ledger = Ledger(pool, MARKET)
    records = [record_of(tiny, CANDLES.iloc[: len(CANDLES) - back]) for back in range(4, 0, -1)]
    records.append(record_of(tiny, CANDLES, abstained=True))
    store.upsert("BTCUSDT", "5m", CANDLES.iloc[:-4], "rest")
    assert all(ledger.record(record) for record in records)
    store.upsert("BTCUSDT", "5m", CANDLES, "rest")
    return records


def record_of(tiny: Path, candles: pd.DataFrame, *, abstained: bool = False) -> ForecastRecord:
    bundle = load_bundle(tiny)
    forecasts: Forecasts = bundle.forecast(candles)
    if abstained:
        forecasts = persist(forecasts)
    last = candles.index[-1].to_pydatetime()
    target = target_open_time(last, MARKET)
    bounds = zip(INTERVAL_TARGETS, forecasts.lower[0].tolist(), forecasts.upper[0].tolist(), strict=True)
    ends = {
        f"{name}_{end}": value for name, *both in bounds for end, value in zip(("lower", "upper"), both, strict=True)
    }
    return ForecastRecord(
        symbol="BTCUSDT",
        interval="5m",
        open_time=target,
        horizon=1,
        role="champion",
        model_version="1",
        run_id=bundle.manifest.run_id,
        issued_at=target + timedelta(seconds=2),
        **dict(zip(TARGETS, forecasts.targets[0].tolist(), strict=True)),
        probability_up=float(forecasts.probability_up[0]),
        **ends,
        baseline_close=float(forecasts.baseline_close[0]),
        baseline_amplitude=float(forecasts.baseline_amplitude[0]),
        baseline_up=forecasts.baseline_up,
        last_open_time=last,
        feature_hash="hash",
        abstained=abstained,
        reason="doubtful" if abstained else None,
        source="replay",
        bundle_sha256=bundle_sha256(tiny),
    )


def outcomes(checked: list[ParityCheck]) -> list[str]:
    return [one.outcome for one in checked]


def test_recorded_forecasts_and_abstentions_come_out_the_same(issued, verify):
    assert outcomes(verify()) == ["equal"] * 5


def test_a_forecast_of_a_bundle_whose_files_are_gone_is_not_compared(pool, issued, verify):
    replaced = "0" * 64
    Ledger(pool, MARKET).record(replace(issued[4], role="challenger", bundle_sha256=replaced))

    checked = verify(last=1)[0]

    assert checked.outcome == "not checkable"
    assert f"its bundle {replaced[:16]} is gone" in checked.detail


def test_only_the_newest_are_made_again(issued, verify):
    checked = verify(last=2)

    assert [one.open_time for one in checked] == [issued[4].open_time, issued[3].open_time]


def test_a_forecast_that_was_recorded_differently_is_named_with_its_field(pool, issued, verify):
    wrong = replace(issued[4], role="challenger", probability_up=issued[4].probability_up * (1 + 2e-6))
    Ledger(pool, MARKET).record(wrong)

    checked = verify()

    (different,) = [one for one in checked if one.outcome == "different"]
    assert (different.role, different.open_time) == ("challenger", wrong.open_time)
    assert "probability_up was" in different.detail
    assert "5 of 6 recorded forecasts come out the same, 1 differently" in parity_message(checked)


def test_a_candle_corrected_after_the_forecast_is_distinguished(store, issued, verify):
    corrected = CANDLES.iloc[[-2]].copy()
    corrected["volume"] += 1.0
    store.upsert("BTCUSDT", "5m", corrected, "rest")

    assert outcomes(verify()) == ["corrected", "corrected", "equal", "equal", "equal"]


@pytest.fixture
def forecast_of_a_wrong_candle(pool: ConnectionPool, store: CandleStore, tiny: Path) -> ForecastRecord:
    """A forecast from a wrong candle, recorded after its correction."""
    wrong = CANDLES.copy()
    wrong.iloc[-2, 4] += 1.0
    store.upsert("BTCUSDT", "5m", wrong, "rest")
    store.upsert("BTCUSDT", "5m", CANDLES, "rest")
    record = record_of(tiny, wrong)
    Ledger(pool, MARKET).record(record)
    return record


def test_a_candle_corrected_while_the_forecast_is_made_is_distinguished(forecast_of_a_wrong_candle, verify):
    assert outcomes(verify()) == ["corrected"]


def test_a_candle_corrected_before_the_forecast_is_no_excuse(database, forecast_of_a_wrong_candle, verify):
    with open_database(database.owner_url) as pool, pool.connection() as connection:
        connection.execute("update candle_revisions set replaced_at = replaced_at - interval '2 minutes'")

    assert outcomes(verify()) == ["different"]


def test_a_correction_is_no_excuse_for_another_forecast(pool, store, tiny, verify):
    wrong = CANDLES.copy()
    wrong.iloc[-2, 4] += 1.0
    store.upsert("BTCUSDT", "5m", wrong, "rest")
    record = record_of(tiny, wrong)
    Ledger(pool, MARKET).record(replace(record, probability_up=record.probability_up + 0.01))
    store.upsert("BTCUSDT", "5m", CANDLES, "rest")

    (checked,) = verify()

    assert checked.outcome == "different"
    assert "probability_up" in checked.detail


def test_candles_that_give_no_forecast_are_a_difference(pool, store, tiny, verify):
    Ledger(pool, MARKET).record(record_of(tiny, CANDLES))
    store.upsert("BTCUSDT", "5m", CANDLES.assign(high=1e300, low=1e-300), "rest")

    (checked,) = verify()

    assert checked.outcome == "different"
    assert "no forecast comes out" in checked.detail


def test_the_first_value_counts_of_a_candle_that_was_corrected_twice(pool, store, tiny, verify):
    first, second = CANDLES.copy(), CANDLES.copy()
    first.iloc[-2, 4], second.iloc[-2, 4] = 7.0, 8.0
    store.upsert("BTCUSDT", "5m", first, "rest")
    Ledger(pool, MARKET).record(record_of(tiny, first))
    store.upsert("BTCUSDT", "5m", second, "rest")
    store.upsert("BTCUSDT", "5m", CANDLES, "rest")

    assert outcomes(verify()) == ["corrected"]


def test_a_version_that_is_gone_is_not_checkable_rather_than_different(pool, issued, verify):
    Ledger(pool, MARKET).record(replace(issued[4], role="challenger", model_version="9"))

    checked = verify()

    assert sorted(outcomes(checked)) == ["equal"] * 5 + ["not checkable"]


def test_without_candles_nothing_can_be_checked(pool, tiny, verify):
    Ledger(pool, MARKET).record(record_of(tiny, CANDLES))

    (checked,) = verify()

    assert checked.outcome == "not checkable"
    assert "only 0 of its" in checked.detail


def test_an_empty_ledger_has_nothing_to_verify(pool, verify):
    assert verify() == []


def test_a_version_that_is_another_run_now_is_not_compared(pool, issued, verify):
    Ledger(pool, MARKET).record(replace(issued[4], role="challenger", run_id="of a deleted model"))

    [other] = [one for one in verify() if one.role == "challenger"]

    assert other.outcome == "not checkable"
    assert "not run of a deleted model" in other.detail

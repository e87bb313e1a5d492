"""A home keeps the source of its first start."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from candlecast.errors import ConfigurationError
from candlecast.market import Market
from candlecast.replay.clock import ReplayClock
from candlecast.settings.settings import Settings
from candlecast.settings.sources import load_settings
from flows.cli import app
from flows.jobs.market import earliest_needed
from flows.local.source import recorded_markets, replay_begin, replay_end, resolve_source, store_source
from flows.local.up import up
from tests.support.manifests import ROOT

UNREACHABLE = "http://127.0.0.1:1"
BTC = Market("BTCUSDT", "5m")
SPAN = (datetime(2025, 5, 31, tzinfo=UTC), datetime(2025, 10, 1, tzinfo=UTC))


def settings(home: Path, **changes: object) -> Settings:
    return load_settings(**{"home": home, "binance_url": UNREACHABLE, **changes})


def test_auto_is_the_exchange_if_it_answers_and_else_the_recording(tmp_path, replay_exchange):
    reached = resolve_source(settings(tmp_path, binance_url=replay_exchange().url))
    unreached = resolve_source(settings(tmp_path))

    assert (reached.source, unreached.source) == ("binance", "replay")


def test_addresses_that_need_no_proxy_are_no_proxy(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1,::1")  # as the command line sets it

    assert resolve_source(settings(tmp_path, binance_url="http://exchange.test")).source == "replay"


def test_a_home_of_recorded_candles_stays_one_when_the_exchange_answers(tmp_path, replay_exchange):
    store_source(resolve_source(settings(tmp_path)))

    later = resolve_source(settings(tmp_path, binance_url=replay_exchange().url))

    assert later.source == "replay"


def test_the_other_source_is_refused_with_both_ways_out(tmp_path):
    store_source(settings(tmp_path, source="replay"))

    with pytest.raises(ConfigurationError, match="set CANDLECAST_HOME to another directory, or delete"):
        resolve_source(settings(tmp_path, source="binance"))


def test_a_home_that_no_longer_says_its_source_is_refused(tmp_path):
    (tmp_path / "source").write_text("")

    with pytest.raises(ConfigurationError, match="write binance or replay into it"):
        resolve_source(settings(tmp_path))


def test_a_replay_whose_clock_would_stand_still_is_not_begun(tmp_path, monkeypatch):
    for name, value in {"HOME": str(tmp_path), "SOURCE": "replay", "REPLAY_SPEED": "0"}.items():
        monkeypatch.setenv(f"CANDLECAST_{name}", value)

    with pytest.raises(ConfigurationError, match="CANDLECAST_REPLAY_SPEED=0 stops the replay's clock"):
        up(Console())


def test_a_market_that_was_not_recorded_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match="no recording of ETHUSDT 5m is served, only of BTCUSDT 5m"):
        recorded_markets(settings(tmp_path, symbol="ETHUSDT"))


@pytest.mark.parametrize("days", [30, 90, 400])
def test_a_replay_begins_with_history_behind_it_and_days_before_it(tmp_path, days):
    begin = replay_begin(settings(tmp_path, lookback_days=days), {BTC: SPAN})

    assert begin - SPAN[0] >= timedelta(days=min(days, 115))
    assert SPAN[1] - begin >= timedelta(days=7)


def test_a_recording_of_a_week_is_too_short(tmp_path):
    with pytest.raises(ConfigurationError, match="at least 8 are needed"):
        replay_begin(settings(tmp_path), {BTC: (SPAN[0], SPAN[0] + timedelta(days=7))})


def test_a_replay_of_several_markets_begins_when_each_has_its_own_history(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "candlecast.toml").write_text(
        "[markets.BTCUSDT-5m]\nlookback_days = 30\n[markets.BTCUSDT-1m-h15]\nlookback_days = 21\n"
    )
    later = (SPAN[0] + timedelta(days=44), SPAN[1] - timedelta(days=3))
    spans = {BTC: SPAN, Market("BTCUSDT", "1m", 15): later}

    begin, end = replay_begin(settings(tmp_path), spans), replay_end(spans)

    assert timedelta(days=65) <= begin - SPAN[0] < timedelta(days=66)
    assert end == later[1]
    assert replay_begin(settings(tmp_path), {BTC: SPAN}) - SPAN[0] < timedelta(days=31)


def test_a_replay_of_two_markets_begins_when_both_have_their_history(tmp_path, monkeypatch):
    file = tmp_path / "minutes.toml"
    file.write_text(
        """
        exchange.recording = "minutes"
        [markets.BTCUSDT-5m]
        [markets.BTCUSDT-1m-h15]
        lookback_days = 21
        """
    )
    monkeypatch.setenv("CANDLECAST_CONFIG", str(file))
    chosen = settings(tmp_path)

    spans = recorded_markets(chosen)
    begin = replay_begin(chosen, spans)

    minutes = Market("BTCUSDT", "1m", 15)
    assert {one.model_name for one in spans} == {"BTCUSDT-5m", "BTCUSDT-1m-h15"}
    assert spans[BTC][0] == datetime(2025, 5, 1, tzinfo=UTC)
    assert spans[minutes] == (datetime(2025, 7, 14, tzinfo=UTC), datetime(2025, 8, 18, 18, 27, tzinfo=UTC))
    assert begin - spans[BTC][0] >= timedelta(days=90)
    assert timedelta(days=21) <= begin - spans[minutes][0] <= timedelta(days=22)
    assert spans[minutes][1] - begin >= timedelta(days=7)


def test_the_markets_side_by_side_have_their_history_and_a_week_left(tmp_path, monkeypatch):
    monkeypatch.setenv("CANDLECAST_CONFIG", str(ROOT / "examples" / "side-by-side.toml"))
    chosen = settings(tmp_path)

    spans = recorded_markets(chosen)
    begin = replay_begin(chosen, spans)

    assert [one.model_name for one in spans] == ["BTCUSDT-5m", "BTCUSDT-1m-h15"]
    assert all(earliest_needed(chosen.of(one), begin) >= first for one, (first, _) in spans.items())
    assert replay_end(spans) - begin >= timedelta(days=7)


@pytest.mark.parametrize("market", ["BTCUSDT-5m", "BTCUSDT-1m-h15"])
def test_the_clock_of_the_replay_ends_when_up_says(tmp_path, empty_environment, monkeypatch, market):
    values = {"HOME": str(tmp_path), "RECORDING": "minutes", "MARKETS": market, "LOOKBACK_DAYS": "20"}
    for name, value in values.items():
        monkeypatch.setenv(f"CANDLECAST_{name}", value)
    said = recorded_markets(load_settings())
    begin = replay_begin(load_settings(), said)
    clocks: list[ReplayClock] = []
    monkeypatch.setattr("candlecast.replay.server.serve_replay", lambda _, clock, *__: clocks.append(clock))

    ran = CliRunner().invoke(app, ["exchange", "--speed=0", f"--start={begin:%FT%T}"])

    assert ran.exit_code == 0, ran.output
    assert [(clock.now(), clock.end) for clock in clocks] == [(begin, replay_end(said))]


def test_the_default_replay_begins_where_it_did(tmp_path):
    begin = replay_begin(settings(tmp_path), recorded_markets(settings(tmp_path)))

    assert begin == datetime(2025, 8, 29, 8, tzinfo=UTC)


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:1", "socks5h://127.0.0.1:1"])
def test_auto_does_not_take_a_dead_proxy_for_a_dead_exchange(tmp_path, monkeypatch, proxy):
    monkeypatch.setenv("ALL_PROXY", proxy)

    with pytest.raises(ConfigurationError, match="could not be asked .*ALL_PROXY.* set CANDLECAST_SOURCE"):
        resolve_source(settings(tmp_path, binance_url="http://exchange.test"))
    assert not (tmp_path / "source").exists()
    assert resolve_source(settings(tmp_path)).source == "replay"  # an address of this machine uses no proxy

"""The commands about stored candles, over a real database and a replay exchange."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg
import pytest
from click.testing import Result
from typer.testing import CliRunner

from candlecast.candles.files import read_candles, write_candles
from candlecast.errors import InvalidCandles
from flows.cli import app
from tests.support.damage import half_done, stubs

pytestmark = pytest.mark.integration

Run = Callable[..., Result]


@pytest.fixture
def final(bundled_candles: pd.DataFrame) -> pd.DataFrame:
    """Five recorded days as the exchange serves them now."""
    return bundled_candles.iloc[: 5 * 288]


@pytest.fixture
def damaged(final: pd.DataFrame) -> pd.DataFrame:
    """Five recorded days of which the last 200 candles were stored while they were still open."""
    newest = len(final) - 1
    return half_done(stubs(final, range(newest - 199, newest)), [newest - 200, newest], 0.95)


@pytest.fixture
def run(database: Any, replay_exchange: Any, final: pd.DataFrame, monkeypatch: Any, tmp_path: Path) -> Run:
    """Run a command with the database and an exchange with the final candles, one minute after the last close."""
    monkeypatch.setenv("CANDLECAST_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CANDLECAST_DATABASE_URL", database.writer_url.get_secret_value())
    monkeypatch.setenv("CANDLECAST_SOURCE", "replay")
    exchange = replay_exchange(final).url
    monkeypatch.setenv("CANDLECAST_BINANCE_URL", exchange)
    monkeypatch.setenv("CANDLECAST_ARCHIVE_URL", exchange)
    monkeypatch.setenv("CANDLECAST_FINALITY_GUARD_S", "0")
    return lambda *arguments: CliRunner().invoke(app, [str(one) for one in arguments])


@pytest.fixture
def owner(database: Any) -> Any:
    with psycopg.connect(database.owner_url.get_secret_value(), autocommit=True) as connection:
        yield connection


def words_after(found: Result, phrase: str) -> list[str]:
    return found.stdout.split(phrase)[1].splitlines()[0].split()


def test_verify_finds_unfinished_bars_and_the_repair_restores_every_one(run, owner, final, damaged, tmp_path):
    write_candles(tmp_path / "table.parquet", damaged)
    imported = run("candles", "import", tmp_path / "table.parquet")

    found = run("verify")
    repaired = run(*words_after(found, "to mend it: candlecast "))
    afterwards = run("verify")

    assert "1,440 rows read, 1,440 candles stored, 0 corrected, 0 unchanged, 0 refused, 199 doubtful" in imported.stdout
    assert (found.exit_code, "199 doubtful candles" in found.stdout) == (1, True)
    assert "0 candles stored, 201 corrected, 199 no longer doubtful; no gap is left" in repaired.stdout
    assert (afterwards.exit_code, "no doubtful candle" in afterwards.stdout) == (0, True)
    run("candles", "export", tmp_path / "mended.parquet")
    pd.testing.assert_frame_equal(read_candles(tmp_path / "mended.parquet"), final, check_exact=True, check_freq=False)
    kept = owner.execute("select open_time, open, high, low, close, volume from candle_revisions order by 1").fetchall()
    differing = damaged[(damaged != final).any(axis=1)].iloc[:, :5]
    assert [row[0] for row in kept] == list(differing.index)
    assert [list(row[1:]) for row in kept] == differing.to_numpy().tolist()


def test_a_second_repair_changes_nothing(run, owner, damaged, tmp_path):
    write_candles(tmp_path / "table.parquet", damaged)
    run("candles", "import", tmp_path / "table.parquet")
    run("backfill", "--repair", "--start", "2025-05-31", "--end", "2025-06-05")
    revisions = owner.execute("select count(*) from candle_revisions").fetchall()

    again = run("backfill", "--repair", "--start", "2025-05-31", "--end", "2025-06-05", "--json")

    figures = json.loads(again.stdout)
    assert (figures["inserted"], figures["corrected"], figures["missing"]) == (0, 0, [])
    assert owner.execute("select count(*) from candle_revisions").fetchall() == revisions


def test_a_backfill_fills_gaps_and_corrects_the_last_two_days(run, owner, damaged, tmp_path):
    write_candles(tmp_path / "table.csv", damaged.drop(damaged.index[300:310]))
    run("candles", "import", tmp_path / "table.csv")

    filled = run("backfill", "--start", "2025-05-31", "--end", "2025-06-05")

    assert "10 candles stored, 201 corrected, 199 no longer doubtful; no gap is left" in filled.stdout
    assert owner.execute("select state, end_time - start_time from candle_gaps").fetchone()[0] == "repaired"


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_candles_go_out_and_come_in_again_exactly(run, owner, final, tmp_path, ending):
    first, second = tmp_path / f"first.{ending}", tmp_path / f"second.{ending}"
    run("backfill", "--start", "2025-05-31", "--end", "2025-06-05")
    run("candles", "export", first, "--start", "2025-06-01", "--end", "2025-06-02")
    owner.execute("delete from candles")

    imported = run("candles", "import", first)
    run("candles", "export", second)

    assert "288 candles stored" in imported.stdout
    assert first.read_bytes() == second.read_bytes()
    pd.testing.assert_frame_equal(read_candles(second), final.iloc[288:576], check_exact=True, check_freq=False)


def test_an_unsound_file_is_refused_as_a_whole_and_the_refusal_recorded(run, owner, final, tmp_path):
    unsound = final.copy()
    unsound.iloc[77, unsound.columns.get_loc("close")] *= 2
    write_candles(tmp_path / "mine.csv", unsound)

    refused = run("candles", "import", tmp_path / "mine.csv")

    assert isinstance(refused.exception, InvalidCandles)
    assert "mine.csv: row 77: high" in str(refused.exception)
    assert owner.execute("select count(*) from candles").fetchone() == (0,)
    assert owner.execute("select status from job_runs where job = 'import'").fetchall() == [("failed",)]


def test_verify_answers_scripts_in_json_and_by_exit_code(run, final, tmp_path):
    write_candles(tmp_path / "table.parquet", final.drop(final.index[300:310]))
    run("candles", "import", tmp_path / "table.parquet")

    found = run("verify", "--json")

    figures = json.loads(found.stdout)
    assert (found.exit_code, figures["sound"], figures["candles"]) == (1, False, 1430)
    assert [gap["state"] for gap in figures["gaps"]] == ["open"]


def test_verify_looks_at_the_table_while_the_exchange_is_away(run, final, tmp_path, monkeypatch):
    write_candles(tmp_path / "table.parquet", final)
    run("candles", "import", tmp_path / "table.parquet")
    monkeypatch.setenv("CANDLECAST_BINANCE_URL", "http://127.0.0.1:9")

    found = run("verify")

    assert (found.exit_code, "1,440 candles of BTCUSDT 5m" in found.stdout) == (0, True)
    assert "the exchange does not answer: candles missing after the newest were not looked for" in found.stdout


def test_features_of_stored_candles_are_those_of_their_file(run, final, tmp_path):
    write_candles(tmp_path / "candles.parquet", final)
    run("candles", "import", tmp_path / "candles.parquet")
    stored, from_file = tmp_path / "stored.parquet", tmp_path / "file.parquet"

    done = run("features", "export", stored)
    run("features", "export", from_file, "--candles", tmp_path / "candles.parquet")

    assert f"rows of BTCUSDT-5m with 38 inputs written to {stored}: fit " in done.stdout
    pd.testing.assert_frame_equal(pd.read_parquet(stored), pd.read_parquet(from_file), check_exact=True)

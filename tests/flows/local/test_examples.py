"""The files of examples/, all markets of them in one `candlecast up`."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from candlecast.market import Market, epoch_ms
from candlecast.settings.file import CONFIG_VARIABLE
from candlecast.settings.sources import load_settings
from flows.local.source import WARM_UP, recorded_markets, replay_begin
from tests.support.manifests import ROOT
from tests.support.up import Platform, eventually

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

SMALL = {"LOOKBACK_DAYS": "10", "MODEL_FAMILY": "xgboost", "REPLAY_SPEED": "1"}
"""Settings of trainings that take seconds; variables win over the tables."""


def joined_examples() -> dict[str, dict[str, Any]]:
    """Tables of all files together."""
    tables: dict[str, dict[str, Any]] = {}
    for file in sorted((ROOT / "examples").glob("*.toml")):
        for name, table in tomllib.loads(file.read_text()).items():
            tables.setdefault(name, {}).update(table)
    return tables


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    """A platform of the markets of all examples, after its recorded day."""
    lines = [f"exchange = {{ recording = {json.dumps(joined_examples()['exchange']['recording'])} }}"]
    for name, table in joined_examples()["markets"].items():
        lines += [f"[markets.{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    (tmp_path / "examples.toml").write_text("\n".join(lines))
    for name, value in {"CONFIG": str(tmp_path / "examples.toml"), "SOURCE": "replay", **SMALL}.items():
        monkeypatch.setenv(f"CANDLECAST_{name}", value)
    settings = load_settings()
    (tmp_path / "home").mkdir()
    begin = replay_begin(settings, recorded_markets(settings)) + WARM_UP
    (tmp_path / "home" / "exchange-clock.json").write_text(json.dumps({"now_ms": epoch_ms(begin)}))
    platform = Platform(tmp_path / "home", **SMALL)
    assert platform.environment[CONFIG_VARIABLE]
    try:
        platform.start()
        yield platform
    finally:
        platform.kill()


def test_one_up_works_on_every_market_of_the_examples(platform):
    names = list(joined_examples()["markets"])
    refused = [name for name in names if f"no version of {name} has passed the gate" in platform.printed()]
    served = [name for name in names if name not in refused]
    checked = "select distinct symbol, interval, horizon from monitoring_checks"

    eventually(lambda: len(platform.sql(checked)) == len(names), 120)
    eventually(lambda: all(f"\n{name} 2025-" in platform.printed() for name in served), 120)

    told = json.loads(platform.run("status", "--json").stdout)
    assert [told["market"], *told["others"]] == names
    assert {"BTCUSDT-5m", "BTCUSDT-1m-h15"} <= set(served)  # the gate may find too little in ten days of others
    for name, figures in [(names[0], told), *told["others"].items()]:
        assert {run["job"] for run in figures["jobs"]} == {"backfill", "train", "ingest", "monitor"}
        assert figures["check"]["verdict"] == "too early"
        assert f"page of {name} " in platform.printed() or name == names[0]
        if name in served:
            assert figures["served"]["champion"]["version"] == "1"
            assert figures["forecast"]["horizon"] == Market.named(name).horizon
            assert f"service loads {name} version 1" in platform.printed()
    assert platform.stop() == 0

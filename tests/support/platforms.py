"""A whole platform of `flows.local.stack` in this process's hands, without training: what measurements stand on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pandas as pd

from candlecast.market import Market, interval_duration
from candlecast.registry.registry import CHAMPION, Registry, experiment_name
from candlecast.settings.settings import Settings
from candlecast.settings.sources import load_settings
from flows.deploy.deployment import deploy
from flows.local.programs import addresses
from flows.local.stack import LocalStack, free_ports
from tests.support.bundles import write_tiny_bundle

_PARTS = ("service", "mlflow", "prefect", "database", "exchange", "evidently")


def platform_settings(home: Path, markets: Sequence[Market], **more: object) -> Settings:
    """Settings of a replay in `home` at the speed of the market, on ports that are free; told to its processes too."""
    ports = {f"{part}_port": port for part, port in zip(_PARTS, free_ports(len(_PARTS)), strict=True)}
    chosen = {"home": home, "source": "replay", "replay_speed": 1, "lookback_days": 1, **ports, **more}
    chosen["markets"] = ",".join(market.model_name for market in markets)
    os.environ |= {f"CANDLECAST_{name.upper()}": str(value) for name, value in chosen.items()}
    return load_settings(**chosen)


def write_recordings(directory: Path, candles: pd.DataFrame, markets: Sequence[Market]) -> None:
    """Candles of BTCUSDT 5m under other names: prices scaled, longer intervals put together from whole ones."""
    directory.mkdir()
    for number, market in enumerate(markets):
        coarse = candles.resample(interval_duration(market.interval), origin="epoch").agg(
            {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum", "quote_volume": "sum"}
            | dict.fromkeys(("trades", "taker_buy_base", "taker_buy_quote"), "sum")
        )
        prices = ["open", "high", "low", "close"]
        coarse[prices] = (coarse[prices] / (1 + number)).round(6)
        coarse.to_parquet(directory / f"{market.symbol}-{market.interval}.parquet")


@contextmanager
def running(settings: Settings, start: datetime, recordings: Path) -> Iterator[LocalStack]:
    """PostgreSQL, MLflow, Prefect with every deployment, and the replay exchange, its clock standing at `start`."""
    stack = LocalStack(settings, start, recordings)
    os.environ |= addresses(stack.settings)
    try:
        stack.launch()
        stack.start_database()
        stack.start("mlflow", "prefect")
        stack.start_replay()
        stack.wait_until_up("mlflow", f"{settings.mlflow_tracking_uri}/health")
        stack.wait_until_up("prefect", f"{settings.prefect_api_url}/health")
        deploy(settings.prefect_api_url, addresses(stack.settings))
        yield stack
    finally:
        stack.stop()


def make_champions(settings: Settings, markets: Sequence[Market], scratch: Path, **bundle: object) -> Mapping[str, str]:
    """Register a small bundle as champion of every market; its version by model."""
    registry, made = Registry(settings.mlflow_tracking_uri), {}
    for market in markets:
        name = market.model_name
        with registry.run(experiment_name(market), "made for a measurement", {}) as run:
            run.bundle(write_tiny_bundle(scratch / name, market=market, **bundle))  # type: ignore[arg-type]
        made[name] = registry.register(name, run.run_id, {})
        registry.set_alias(name, CHAMPION, made[name])
    return made

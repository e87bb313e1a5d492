"""Commands about models: train, promote, rollback, predict."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from flows.terminal import EXIT_ERROR, Json, progress, read_settings, recorded, say

app = typer.Typer()

Reason = Annotated[str, typer.Option(help="Why; kept with the decision.")]


@app.command()
def train(as_json: Json = False) -> None:
    """Train a version on LOOKBACK_DAYS of stored candles and let the gate decide."""
    from flows import loop
    from flows.messages import train_message
    from training.versions import pass_gate, train_version

    with recorded("train", timed=True) as (market, report), progress("train") as tell:
        now = report.as_of
        candles, registry = market.history(now), loop.training_registry(market.settings)
        trained = train_version(candles, market.settings, registry, tell)
        decision = pass_gate(candles, trained.number, market.settings, registry, market.pool)
        report.message = train_message(trained, decision, market.left_out(now))
    say(report.message, as_json, version=trained.number, promoted=decision.promoted, metrics=trained.metrics)


@app.command()
def promote(version: str, reason: Reason) -> None:
    """Make a registered version champion; the service follows within seconds."""
    _move_champion(version, reason, "person")


@app.command()
def rollback(reason: Reason) -> None:
    """Make the champion's predecessor champion again."""
    _move_champion(None, reason, "rollback")


@app.command()
def predict(file: Path, model: str = "champion") -> None:
    """Forecast the candle after the last one in FILE: parquet or csv with open_time, OHLCV, ...; or json, which is
    what `POST /predict` takes, or a list of klines as Binance returns them."""
    from candlecast.candle_files import read_candles, read_posted
    from flows.market import open_service

    settings = read_settings()
    with open_service(settings) as service:
        if file.suffix == ".json":
            answer = service.predict_posted({"model": model, **read_posted(file)})
        else:
            answer = service.predict(read_candles(file), settings.symbol, settings.interval, model)
    print(answer.model_dump_json(indent=2))


@app.command("verify-forecasts")
def verify_forecasts(
    last: Annotated[int, typer.Option(min=1, help="How many of the newest forecasts.")] = 288, as_json: Json = False
) -> None:
    """Make recorded forecasts again from the stored candles; exit code 1 if one comes out differently."""
    from candlecast.parity import parity_message
    from candlecast.parity import verify_forecasts as make_again
    from flows.market import open_registry

    with recorded("verify-forecasts") as (market, report):
        settings = market.settings
        checked = make_again(market.pool, open_registry(settings), settings.market, settings.models_dir, last)
        report.rows, report.message = len(checked), parity_message(checked)
    different = [one._asdict() for one in checked if one.outcome == "different"]
    say(report.message, as_json, checked=len(checked), different=different)
    if different:
        raise typer.Exit(EXIT_ERROR)


def _move_champion(version: str | None, reason: str, decided_by: Literal["person", "rollback"]) -> None:
    from candlecast.promotion import move_champion
    from flows.market import open_market, open_registry

    settings = read_settings()
    with open_market(settings) as market:
        moved = move_champion(
            open_registry(settings), market.pool, settings.market.model_name, version, reason, decided_by
        )
    print(f"champion of {settings.market.model_name} is now version {moved}")

"""Commands about models: train, evaluate, walk-forward, search, promote, rollback, history, predict."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from flows.commands.terminal import (
    EXIT_ERROR,
    LATEST,
    TIME,
    End,
    Json,
    MarketName,
    Start,
    progress,
    read_settings,
    recorded,
    say,
)

app = typer.Typer()


class Inputs(StrEnum):
    """The columns that `evaluate` gives to a version."""

    ALL = "all"
    OHLCV = "ohlcv"


CandleFile = Annotated[
    Path | None,
    typer.Option(help="Parquet or csv with open_time, OHLCV, and order flow if known; default: the stored candles."),
]
Reason = Annotated[str, typer.Option(help="Reason; recorded with the decision.")]


@app.command()
def train(
    candles: Annotated[Path | None, typer.Option(help=".parquet or .csv file to train on, without database.")] = None,
    until: Annotated[
        datetime | None, typer.Option(**TIME, help="With --candles: train on candles before, in UTC.")
    ] = None,
    market: MarketName = None,
    as_json: Json = False,
) -> None:
    """Train a version on the last LOOKBACK_DAYS days of stored candles and apply the gate."""
    if candles is not None:
        _train_on_file(candles, until, market, as_json)
    elif until is not None:
        raise typer.BadParameter("--until needs --candles: stored candles are always used up to now")
    else:
        _train_on_stored_candles(market, as_json)


def _train_on_stored_candles(market: str | None, as_json: bool) -> None:
    from flows.jobs import loop
    from flows.jobs.messages import train_message

    with recorded("train", market, timed=True) as (opened, job), progress("train") as report:
        version, decision = loop.train(opened, job.as_of, report)
        job.message = train_message(version, decision, opened.left_out(job.as_of))
    say(
        job.message,
        as_json,
        version=version.number,
        outcome=decision.outcome,
        promoted=decision.promoted,
        metrics=version.metrics,
    )


def _train_on_file(file: Path, until: datetime | None, market: str | None, as_json: bool) -> None:
    from candlecast.candles.files import read_history
    from training.offline import train_offline

    settings = read_settings(market)
    history = read_history(file, settings.interval, settings.symbol)
    with progress("train") as report:
        trained = train_offline(history[history.index < (until or LATEST)], settings, report)
    say(
        f"version {trained.name}, report: {trained.report}\n"
        f"to evaluate it on later candles: candlecast evaluate --market {settings.market.model_name} --candles FILE "
        "--from T",
        as_json,
        version=trained.name,
        report=str(trained.report),
        metrics=trained.metrics,
    )


@app.command()
def evaluate(
    start: Annotated[datetime, typer.Option("--from", **TIME, help="First open_time, in UTC.")],
    candles: CandleFile = None,
    end: Annotated[datetime | None, typer.Option("--to", **TIME, help="End, in UTC.")] = None,
    inputs: Annotated[Inputs, typer.Option(help="ohlcv hides the order flow.")] = Inputs.ALL,
    model: Annotated[
        str | None,
        typer.Option(help="Name, number or alias; default: the version last trained from a file, else the champion."),
    ] = None,
    forecasts: Annotated[Path | None, typer.Option(help="Write every forecast to this .parquet or .csv file.")] = None,
    market: MarketName = None,
    as_json: Json = False,
) -> None:
    """Forecast each candle from those before it, and compare with the baselines."""
    from candlecast.candles.files import write_candles
    from flows.commands.chosen_version import chosen_version
    from flows.commands.evaluation_message import evaluation_figures, evaluation_message
    from flows.commands.given_candles import given_candles
    from training.offline import evaluate_offline

    settings = read_settings(market)
    bundle, version = chosen_version(settings, model)
    earlier = (bundle.manifest.history + settings.horizon) * settings.market.step
    evaluated = evaluate_offline(
        bundle,
        given_candles(settings, candles, start - earlier, end),
        start,
        end,
        with_flow=inputs is Inputs.ALL,
        seed=settings.training.seed,
    )
    if forecasts is not None:
        write_candles(forecasts, evaluated.forecasts)
    say(
        evaluation_message(evaluated, version, bundle.manifest),
        as_json,
        **evaluation_figures(evaluated, version, bundle.manifest),
    )


@app.command("walk-forward")
def walk_forward(
    candles: CandleFile = None,
    family: Annotated[
        str | None,
        typer.Option(help="lstm, gru, xgboost, har, ewma, persistence, repeat_direction; default: that of the market."),
    ] = None,
    train_months: Annotated[int, typer.Option(min=1, help="Months of candles to fit on.")] = 3,
    validate_months: Annotated[int, typer.Option(min=1, help="Months after them to measure on.")] = 1,
    step_months: Annotated[int, typer.Option(min=1, help="Months between the starts of two folds.")] = 1,
    start: Start = None,
    end: End = None,
    market: MarketName = None,
    as_json: Json = False,
) -> None:
    """Fit and measure a model family fold after fold; the flow of this name uses several processes."""
    from flows.commands.given_candles import given_candles
    from training.families.interface import family_name
    from training.walk_forward.folds import FoldLengths, folds_of
    from training.walk_forward.report import fold_line, fold_table, walk_forward_message
    from training.walk_forward.walk_forward import measure_folds, pooled

    settings = read_settings(market)
    name = family_name(family or settings.training.model_family)
    if family not in {None, name}:
        typer.echo(f"The family {family} is now {name}.", err=True)
    history = given_candles(settings, candles, start, end)
    lengths = FoldLengths(train_months, validate_months, step_months)
    folds = folds_of(history, settings.market, lengths, start, end)
    with progress("walk-forward") as report:
        reports = measure_folds(history, folds, name, settings, lambda fold: report(fold_line(fold)))
    say(
        walk_forward_message(reports, settings.market, name),
        as_json,
        folds=fold_table(reports),
        pooled=pooled(reports),
    )


@app.command()
def search(
    candles: Annotated[Path | None, typer.Option(help="Search on this file instead of stored candles.")] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Most trials, including those of an earlier start.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0, help="Most minutes.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Trials in parallel; default: by the cores.")] = None,
    market: MarketName = None,
    as_json: Json = False,
) -> None:
    """Search for better settings of the model; continue an interrupted search."""
    from candlecast.candles.files import read_history
    from candlecast.market import floor_time
    from flows.jobs import loop
    from flows.jobs.market import open_market
    from flows.jobs.messages import search_message
    from training.search.search import Budget, search_settings

    settings, budget, registry = read_settings(market), Budget(trials, minutes), None
    if candles is not None:
        history = read_history(candles, settings.interval, settings.symbol)
    else:
        registry = loop.training_registry(settings)
        with open_market(settings) as opened:
            history = opened.history(floor_time(opened.exchange.server_time(), "1d"))
    with progress("search") as report:
        found = search_settings(history, settings, budget, report, jobs=jobs, registry=registry)
    print(found.as_json() if as_json else search_message(found, settings.market))


@app.command()
def promote(
    version: str,
    reason: Reason,
    force: Annotated[bool, typer.Option("--force", help="Promote a version that failed, and clear its mark.")] = False,
    market: MarketName = None,
) -> None:
    """Make a registered version champion; the service loads it within seconds."""
    _move_champion(market, version, reason, "person", force=force)


@app.command()
def rollback(reason: Reason, market: MarketName = None) -> None:
    """Make the newest former champion that did not fail champion again."""
    _move_champion(market, None, reason, "rollback")


@app.command()
def history(
    at: Annotated[datetime | None, typer.Option("--at", **TIME, help="Show the champion at this time, in UTC.")] = None,
    last: Annotated[int, typer.Option(min=1, help="Number of decisions, newest first.")] = 30,
    market: MarketName = None,
    as_json: Json = False,
) -> None:
    """Show the decisions about versions, or the champion at a time of the exchange's clock, and the reasons."""
    from candlecast.registry.decisions import decision_history as decisions_until
    from flows.commands.history import as_figures, champion_at, history_message, live_message
    from flows.jobs.market import open_market

    with open_market(read_settings(market)) as opened:
        if at is not None:
            live = champion_at(opened, at)
            say(live_message(live, opened.market), as_json, **as_figures(live))
            return
        decisions = decisions_until(opened.pool, opened.market.model_name, limit=last)
    if as_json:
        print(json.dumps([asdict(one) for one in decisions], default=str))
    else:
        print(history_message(decisions))


@app.command()
def predict(file: Path, model: str = "champion", market: MarketName = None) -> None:
    """Forecast the candle that is the market's horizon after the last one in FILE.

    FILE is .parquet or .csv with open_time and OHLCV, or .json: a body of `POST /predict` or Binance's klines. It has
    as many candles as `/predict` takes, 120 to 10,000 by default. A body that names another market than --market is
    refused.
    """
    from candlecast.candles.files import read_candles, read_posted
    from candlecast.errors import ConfigurationError
    from flows.jobs.market import open_service

    settings = read_settings(market)
    with open_service(settings) as service:
        if file.suffix == ".json":
            body = {"model": model, **read_posted(file)}
            if market is not None and body.setdefault("market", market) != market:
                raise ConfigurationError(f"{file} is of market {body['market']}, not {market}: give one, or equal ones")
            answer = service.predict_posted(body)
        else:
            symbol, interval, horizon = settings.market
            answer = service.predict(read_candles(file, symbol), symbol, interval, model, horizon)
    print(answer.model_dump_json(indent=2))


@app.command("verify-forecasts")
def verify_forecasts(
    last: Annotated[int, typer.Option(min=1, help="Number of newest forecasts.")] = 288,
    market: MarketName = None,
    as_json: Json = False,
) -> None:
    """Recompute recorded forecasts from the stored candles; exit code 1 if one differs."""
    from candlecast.ledger.parity import parity_message
    from candlecast.ledger.parity import verify_forecasts as recompute
    from flows.jobs.market import open_registry

    with recorded("verify-forecasts", market) as (opened, job):
        settings = opened.settings
        checked = recompute(opened, open_registry(settings), settings.models_dir, last)
        job.rows, job.message = len(checked), parity_message(checked)
    different = [asdict(one) for one in checked if one.outcome == "different"]
    say(job.message, as_json, checked=len(checked), different=different)
    if different:
        raise typer.Exit(EXIT_ERROR)


def _move_champion(
    market: str | None,
    version: str | None,
    reason: str,
    decided_by: Literal["person", "rollback"],
    *,
    force: bool = False,
) -> None:
    from candlecast.registry.promotion import move_champion
    from flows.jobs.market import open_market, open_registry

    settings = read_settings(market)
    with open_market(settings) as opened:
        now = opened.time_if_reachable()  # a rollback must not depend on the exchange
        registry, name = open_registry(settings), settings.market.model_name
        moved = move_champion(registry, opened.pool, name, version, reason, decided_by, as_of=now, force=force)
    print(f"champion of {name} is now version {moved}")

"""Commands about models: train, evaluate, walk-forward, search, promote, rollback, history, predict."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from flows.commands.terminal import (
    EXIT_ERROR,
    LATEST,
    TIME_FORMATS,
    Json,
    Time,
    progress,
    read_settings,
    recorded,
    say,
    utc,
)

app = typer.Typer()


class Inputs(StrEnum):
    """What `evaluate` lets a version see."""

    ALL = "all"
    OHLCV = "ohlcv"


Reason = Annotated[str, typer.Option(help="Why; kept with the decision.")]


@app.command()
def train(
    candles: Annotated[Path | None, typer.Option(help="Train on this file instead; needs no database.")] = None,
    until: Annotated[
        datetime | None, typer.Option(formats=TIME_FORMATS, help="With --candles: leave out what opens then or later.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a version on LOOKBACK_DAYS of stored candles and let the gate decide."""
    if candles is not None:
        _train_on_file(candles, until, as_json)
    elif until is not None:
        raise typer.BadParameter("--until goes with --candles; the stored history is used up to now")
    else:
        _train_on_stored_candles(as_json)


def _train_on_stored_candles(as_json: bool) -> None:
    from flows.jobs import loop
    from flows.jobs.messages import train_message

    with recorded("train", timed=True) as (market, job), progress("train") as report:
        version, decision = loop.train(market, job.as_of, report)
        job.message = train_message(version, decision, market.left_out(job.as_of))
    say(
        job.message,
        as_json,
        version=version.number,
        outcome=decision.outcome,
        promoted=decision.promoted,
        metrics=version.metrics,
    )


def _train_on_file(file: Path, until: datetime | None, as_json: bool) -> None:
    from candlecast.candles.files import read_history
    from training.offline import train_offline

    settings = read_settings()
    history = read_history(file, settings.interval)
    with progress("train") as report:
        trained = train_offline(history[history.index < (utc(until) or LATEST)], settings, report)
    say(
        f"version {trained.name}, report: {trained.report}\n"
        f"to judge it on candles that it has not seen: candlecast evaluate --candles FILE --from T",
        as_json,
        version=trained.name,
        report=str(trained.report),
        metrics=trained.metrics,
    )


@app.command()
def evaluate(
    candles: Annotated[Path, typer.Option(help="Parquet or csv with open_time, OHLCV, and order flow if known.")],
    start: Annotated[datetime, typer.Option("--from", formats=TIME_FORMATS, help="open_time of the first target.")],
    end: Annotated[
        datetime | None, typer.Option("--to", formats=TIME_FORMATS, help="Before this; default: the file's end.")
    ] = None,
    inputs: Annotated[Inputs, typer.Option(help="ohlcv hides the order flow.")] = Inputs.ALL,
    model: Annotated[
        str | None,
        typer.Option(
            help="A version trained from a file, or a number or alias of the registry. Default: the version trained "
            "from a file last, else the champion."
        ),
    ] = None,
    forecasts: Annotated[Path | None, typer.Option(help="Write every forecast to this parquet or csv file.")] = None,
    as_json: Json = False,
) -> None:
    """Forecast each candle of a file from those before it, and measure beside the baselines."""
    from candlecast.candles.files import read_history, write_candles
    from flows.commands.chosen_version import chosen_version
    from flows.commands.evaluation_message import evaluation_figures, evaluation_message
    from training.offline import evaluate_offline

    settings = read_settings()
    bundle, version = chosen_version(settings, model)
    history = read_history(candles, bundle.manifest.interval)
    judged = evaluate_offline(
        bundle,
        history,
        start.replace(tzinfo=UTC),
        utc(end),
        with_flow=inputs is Inputs.ALL,
        seed=settings.training.seed,
    )
    if forecasts is not None:
        write_candles(forecasts, judged.forecasts)
    say(
        evaluation_message(judged, version, bundle.manifest),
        as_json,
        **evaluation_figures(judged, version, bundle.manifest),
    )


@app.command("walk-forward")
def walk_forward(
    candles: Annotated[Path, typer.Option(help="Parquet or csv with open_time, OHLCV, and order flow if known.")],
    family: Annotated[str, typer.Option(help="lstm, gru, trees, har, ewma, persistence, repeat_direction.")] = "lstm",
    train_months: Annotated[int, typer.Option(min=1)] = 3,
    validate_months: Annotated[int, typer.Option(min=1)] = 1,
    step_months: Annotated[int, typer.Option(min=1)] = 1,
    start: Time = None,
    end: Time = None,
    as_json: Json = False,
) -> None:
    """Fit and measure a model family anew along a file; the flow of this name does it for stored candles."""
    from candlecast.candles.files import read_history
    from training.splits import FoldLengths
    from training.walk_forward.report import fold_line, fold_table, walk_forward_message
    from training.walk_forward.walk_forward import folds_of, measure_folds, pooled

    settings = read_settings()
    history = read_history(candles, settings.interval)
    lengths = FoldLengths(train_months, validate_months, step_months)
    folds = folds_of(history, settings.market, lengths, utc(start), utc(end))
    with progress("walk-forward") as report:
        reports = measure_folds(history, folds, family, settings, lambda fold: report(fold_line(fold)))
    say(
        walk_forward_message(reports, settings.market, family),
        as_json,
        folds=fold_table(reports),
        pooled=pooled(reports),
    )


@app.command()
def search(
    candles: Annotated[Path | None, typer.Option(help="Search on this file instead of the stored candles.")] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Most trials, those of an earlier start included.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0, help="Most minutes.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Trials at a time; default: by the machine's cores.")] = None,
    as_json: Json = False,
) -> None:
    """Look for better settings of the network; continues where it was stopped."""
    from candlecast.candles.files import read_history
    from candlecast.market import floor_time
    from flows.jobs import loop
    from flows.jobs.market import open_market
    from training.search.search import Budget, search_settings

    settings, budget, registry = read_settings(), Budget(trials, minutes), None
    if candles is not None:
        history = read_history(candles, settings.interval)
    else:
        registry = loop.training_registry(settings)
        with open_market(settings) as market:
            history = market.history(floor_time(market.exchange.server_time(), "1d"))
    with progress("search") as report:
        found = search_settings(history, settings, budget, report, jobs=jobs, registry=registry)
    print(json.dumps(found.as_json(), default=str)) if as_json else print(found.message, *found.environment, sep="\n")


@app.command()
def promote(
    version: str,
    reason: Reason,
    force: Annotated[bool, typer.Option("--force", help="Even one that failed as champion; lifts the mark.")] = False,
) -> None:
    """Make a registered version champion; the service follows within seconds."""
    _move_champion(version, reason, "person", force=force)


@app.command()
def rollback(reason: Reason) -> None:
    """Make the newest version that was champion before, and did not fail, champion again."""
    _move_champion(None, reason, "rollback")


@app.command()
def history(
    at: Annotated[
        datetime | None, typer.Option("--at", formats=TIME_FORMATS, help="Only what was live at this moment.")
    ] = None,
    last: Annotated[int, typer.Option(min=1, help="How many of the newest decisions.")] = 30,
    as_json: Json = False,
) -> None:
    """Tell which version was live at any moment, and why; the moments are those of the exchange's clock."""
    from candlecast.registry.decisions import decision_history as decisions_until
    from flows.commands.history import as_figures, champion_at, history_message, live_message
    from flows.jobs.market import open_market

    with open_market(read_settings()) as market:
        if at is not None:
            live = champion_at(market, at.replace(tzinfo=UTC))
            say(live_message(live, market.market), as_json, **as_figures(live))
            return
        decisions = decisions_until(market.pool, market.market.model_name, limit=last)
    if as_json:
        print(json.dumps([asdict(one) for one in decisions], default=str))
    else:
        print(history_message(decisions))


@app.command()
def predict(file: Path, model: str = "champion") -> None:
    """Forecast the candle after the last one in FILE: parquet or csv with open_time, OHLCV, ...; or json, which is
    what `POST /predict` takes, or a list of klines as Binance returns them."""
    from candlecast.candles.files import read_candles, read_posted
    from flows.jobs.market import open_service

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
    from candlecast.ledger.parity import parity_message
    from candlecast.ledger.parity import verify_forecasts as make_again
    from flows.jobs.market import open_registry

    with recorded("verify-forecasts") as (market, job):
        settings = market.settings
        checked = make_again(market, open_registry(settings), settings.models_dir, last)
        job.rows, job.message = len(checked), parity_message(checked)
    different = [asdict(one) for one in checked if one.outcome == "different"]
    say(job.message, as_json, checked=len(checked), different=different)
    if different:
        raise typer.Exit(EXIT_ERROR)


def _move_champion(
    version: str | None, reason: str, decided_by: Literal["person", "rollback"], *, force: bool = False
) -> None:
    from candlecast.errors import ExchangeError
    from candlecast.registry.promotion import move_champion
    from flows.jobs.market import open_market, open_registry

    settings, now = read_settings(), None
    with open_market(settings) as market:
        with suppress(ExchangeError):  # a way back must not depend on the exchange
            market.exchange.ping()  # once, without the patience of a real request
            now = market.exchange.server_time()
        registry, name = open_registry(settings), settings.market.model_name
        moved = move_champion(registry, market.pool, name, version, reason, decided_by, as_of=now, force=force)
    print(f"champion of {name} is now version {moved}")

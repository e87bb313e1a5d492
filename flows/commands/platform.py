"""Commands about the platform: up, monitor, simulate, status, settings, exchange."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from flows.commands.terminal import EXIT_ERROR, End, Json, MarketName, Start, progress, read_settings, recorded, say

app = typer.Typer()


@app.command()
def up() -> None:
    """Start the whole platform on this machine until Ctrl-C; the next start continues."""
    from rich.console import Console

    from flows.local.up import up as bring_up

    bring_up(Console())


@app.command()
def monitor(market: MarketName = None, as_json: Json = False) -> None:
    """Check champion, challenger and market: roll back, update the trial, alert, and report a due training."""
    from flows.jobs.market import open_registry
    from flows.jobs.messages import monitor_message
    from flows.jobs.watch import watch

    with recorded("monitor", market) as (opened, job):
        outcome = watch(opened, open_registry(opened.settings), opened.exchange.server_time())
        job.message, job.skipped = monitor_message(outcome, opened.settings, started=False), outcome.check is None
        if outcome.trouble is not None:
            raise outcome.trouble
    say(job.message, as_json, **(outcome.check.verdict._asdict() if outcome.check else {}))


@app.command()
def simulate(
    start: Start = None,
    end: End = None,
    scenario: Annotated[str, typer.Option(help="Name of a scenario, see docs/how-to/simulate.md.")] = "calm",
    candles: Annotated[Path | None, typer.Option(help=".parquet or .csv file instead of the recording.")] = None,
    interval: Annotated[
        str | None, typer.Option(help="Interval that the candles are put together to; default: that of the market.")
    ] = None,
    market: Annotated[
        str | None,
        typer.Option(
            "--market", help="Market such as BTCUSDT-5m; default: all of the first one's symbol, on one clock."
        ),
    ] = None,
    serve: Annotated[bool, typer.Option("--serve", help="Keep page and MLflow up until Ctrl-C.")] = False,
    as_json: Json = False,
) -> None:
    """Run a scenario of the whole loop over recorded candles; exit code 1 if a finding does not hold."""
    from flows.local.interruption import wait_until_interrupted
    from flows.simulation.simulation import simulate_scenario

    with ExitStack() as platform:
        found = read_settings(market, interval)
        if market or interval:
            found = found.changed(markets=(found.market.model_name,))
        with progress("simulate") as report_line:
            report, settings = platform.enter_context(
                simulate_scenario(found, start, end, report_line, scenario, candles)
            )
        say(report.message, as_json, **report.figures)
        if serve:
            print(f"page: {settings.service.url}/  MLflow: {settings.mlflow_tracking_uri}", file=sys.stderr, flush=True)
            print("Ctrl-C stops both; the same command shows them again.", file=sys.stderr, flush=True)
            wait_until_interrupted()
    raise typer.Exit(0 if report.passed else EXIT_ERROR)


@app.command()
def status(market: MarketName = None, as_json: Json = False) -> None:
    """Show processes, age of the candles, served versions and their quality on one screen."""
    from flows.commands.status import print_status, read_status
    from flows.local.programs import prefect_access

    settings = read_settings(market)
    found = read_status(settings)
    print(json.dumps(found, default=str, indent=2)) if as_json else print_status(found, prefect_access(settings))


@app.command()
def settings(market: MarketName = None, as_json: Json = False) -> None:
    """Print each setting's value and where it comes from: a variable, a file or the default; secrets are hidden.

    The values are those of --market, or else of the default market. Without --market, those of each other market
    follow.
    """
    from candlecast.settings.sources import unknown_variables
    from flows.commands.setting_rows import setting_rows

    rows = setting_rows(market)
    if as_json:
        print(json.dumps({key: {"value": text, "from": place} for key, text, place in rows}))
    else:
        width = max(len(key) for key, _, _ in rows)
        print("\n".join(f"{key:{width}}  {text or '-'}  ({place})" for key, text, place in rows))
    for name, nearest in unknown_variables().items():
        print(f"Unknown variable {name}; the nearest known one is {nearest}", file=sys.stderr)


@app.command()
def exchange(
    port: Annotated[
        int | None, typer.Option(min=1, max=65_535, help="TCP port; default: CANDLECAST_EXCHANGE_PORT.")
    ] = None,
    speed: Annotated[float | None, typer.Option(help="Seconds per second; default: CANDLECAST_REPLAY_SPEED.")] = None,
    start: Start = None,
    state: Annotated[Path | None, typer.Option(help="File that keeps the clock between restarts.")] = None,
    recordings: Annotated[Path | None, typer.Option(help="Directory of SYMBOL-INTERVAL.parquet files.")] = None,
    faults: Annotated[Path | None, typer.Option(help="JSON file of faults, see candlecast/replay/faults.py.")] = None,
) -> None:
    """Serve recorded candles with Binance's API and a clock of its own.

    A file SYMBOL-quotes.parquet in a directory of recordings is served as quotes.
    The clock covers the time that the recordings of all configured markets cover, or else of all that are served.
    """
    from candlecast.replay.clock import ReplayClock
    from candlecast.replay.faults import load_faults
    from candlecast.replay.quotes import quotes_in
    from candlecast.replay.recordings import recorded_span, recordings_in, served_folders, served_recordings
    from candlecast.replay.server import serve_replay

    settings = read_settings()
    series = recordings_in(recordings) if recordings else served_recordings(settings.exchange.recording)
    forecast = {one[:2] for one in settings.all_markets}
    first, end = recorded_span({name: candles for name, candles in series.items() if name in forecast} or series)
    pace = settings.exchange.replay_speed if speed is None else speed
    clock = ReplayClock(first, end, now=start, speed=pace, path=state)
    serve_replay(
        series,
        clock,
        "127.0.0.1",
        port or settings.exchange.port,
        load_faults(faults) if faults else None,
        quotes_in(*([recordings] if recordings else served_folders(settings.exchange.recording))),
    )

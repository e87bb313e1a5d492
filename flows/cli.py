"""The command line, `candlecast`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

# Everything else is imported where it is used: `candlecast --help` answers at once.

app = typer.Typer(
    help="Continuous, honest forecasting of market candles.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Time = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"])]
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
Reason = Annotated[str, typer.Option(help="Why; kept with the decision.")]

candles = typer.Typer(help="Stored candles to and from files.", no_args_is_help=True)
app.add_typer(candles, name="candles")

EXIT_ERROR = 1


def main() -> None:
    """Run the command line; an error of Candlecast's own becomes one line and exit code 1."""
    from candlecast.errors import CandlecastError

    _reach_this_machine_directly()
    try:
        app()
    except CandlecastError as exc:
        print(f"candlecast: {exc}", file=sys.stderr)
        sys.exit(EXIT_ERROR)


@app.command()
def up() -> None:
    """Start the whole platform on this machine; Ctrl-C stops it, the next start continues."""
    from rich.console import Console

    from flows.up import up as bring_up

    bring_up(Console())


@app.command()
def backfill(
    start: Time = None,
    end: Time = None,
    repair: Annotated[bool, typer.Option(help="Ask for every candle again and correct what differs.")] = False,
    as_json: Json = False,
) -> None:
    """Store every candle opening in [start, end), by default of LOOKBACK_DAYS; safe to re-run."""
    from flows import loop
    from flows.messages import backfill_message

    with _recorded("backfill") as (market, report), _progress("backfill") as tell:
        filled = loop.backfill(
            market, _utc(start), _utc(end), lambda stored: tell(f"stored up to {stored:%F %T}"), repair=repair
        )
        report.rows, report.message = filled.written.inserted, backfill_message(filled, market.market.step)
    missing = [gap._asdict() for gap in filled.missing]
    _say(report.message, as_json, **filled.written._asdict(), missing=missing, **filled.marked._asdict())


@app.command()
def verify(start: Time = None, end: Time = None, as_json: Json = False) -> None:
    """Look for gaps, doubtful candles and broken rules in [start, end); exit code 1 if anything is wrong."""
    from candlecast.verification import verification_message
    from flows import loop

    with _recorded("verify") as (market, report):
        found = loop.verify(market, _utc(start), _utc(end))
        report.rows, report.message = found.candles, verification_message(found, market.market)
    _say(report.message, as_json, sound=found.is_sound, **found.figures)
    if not found.is_sound:
        raise typer.Exit(EXIT_ERROR)


@app.command()
def ingest(as_json: Json = False) -> None:
    """Store newly closed candles, settle outcomes, record the next forecast."""
    from flows import loop
    from flows.messages import ingest_message

    with _recorded("ingest") as (market, report):
        taken_in = loop.sync(market)
        settled = loop.settle(market, taken_in.synced.start)
        issued = loop.issue(market)
        inserted = taken_in.synced.written.inserted
        report.rows, report.message = inserted, ingest_message(taken_in, settled, issued)
    _say(
        report.message,
        as_json,
        inserted=inserted,
        doubtful=taken_in.marked.doubtful,
        settled=settled,
        issued=len(issued.forecasts),
        withheld=issued.withheld,
    )


@app.command()
def train(as_json: Json = False) -> None:
    """Train a version on LOOKBACK_DAYS of stored candles and let the gate decide."""
    from flows import loop
    from flows.messages import train_message
    from training.versions import pass_gate, train_version

    with _recorded("train", timed=True) as (market, report), _progress("train") as tell:
        now = report.as_of
        candles, registry = market.history(now), loop.training_registry(market.settings)
        trained = train_version(candles, market.settings, registry, tell)
        decision = pass_gate(candles, trained.number, market.settings, registry, market.pool)
        report.message = train_message(trained, decision, market.left_out(now))
    _say(report.message, as_json, version=trained.number, promoted=decision.promoted, metrics=trained.metrics)


@app.command()
def monitor(as_json: Json = False) -> None:
    """Check the champion's live error against persistence's; says whether a training is due."""
    from flows.market import open_registry
    from flows.messages import monitor_message
    from monitoring.check import check

    with _recorded("monitor") as (market, report):
        found = check(market.settings, market.pool, open_registry(market.settings), market.exchange.server_time())
        report.message = monitor_message(found, market.settings, started=False)
    _say(report.message, as_json, **found.verdict._asdict())


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
    """Forecast the candle after the last one in FILE (parquet or csv with open_time, OHLCV, ...)."""
    from candlecast.candle_files import read_candles
    from flows.market import open_service

    settings = _settings()
    with open_service(settings) as service:
        answer = service.predict(read_candles(file), settings.symbol, settings.interval, model)
    print(answer.model_dump_json(indent=2))


@app.command()
def simulate(start: Time = None, end: Time = None, as_json: Json = False) -> None:
    """Drive the whole loop over recorded candles in [start, end), as fast as the machine allows."""
    from flows.simulation import simulate_span

    with _progress("simulate") as tell:
        outcome = simulate_span(_settings(), _utc(start), _utc(end), tell)
    _say(outcome.message, as_json, **outcome.figures)


@app.command()
def status(as_json: Json = False) -> None:
    """Tell in one screen what runs, how fresh the data are, what is served, and how good it is."""
    from flows.status import print_status, read_status

    found = read_status(_settings())
    print(json.dumps(found, default=str, indent=2)) if as_json else print_status(found)


@app.command()
def exchange(
    port: Annotated[int | None, typer.Option(help="Default: CANDLECAST_EXCHANGE_PORT.")] = None,
    speed: Annotated[float | None, typer.Option(help="Exchange seconds per real second; 0 steps by hand.")] = None,
    start: Time = None,
    state: Annotated[Path | None, typer.Option(help="File that keeps the clock over restarts.")] = None,
    recordings: Annotated[Path | None, typer.Option(help="Directory of SYMBOL-INTERVAL.parquet files.")] = None,
    faults: Annotated[Path | None, typer.Option(help="JSON file of what goes wrong; see candlecast/faults.py.")] = None,
) -> None:
    """Serve recorded candles as Binance would, with a clock of its own."""
    from candlecast.faults import load_faults
    from candlecast.recordings import bundled_recordings, recorded_span, recordings_in
    from candlecast.replay import serve_replay
    from candlecast.replay_clock import ReplayClock

    settings = _settings()
    series = recordings_in(recordings) if recordings else bundled_recordings()
    first, end = recorded_span(series)
    pace = settings.replay_speed if speed is None else speed
    clock = ReplayClock(first, end, now=_utc(start), speed=pace, path=state)
    serve_replay(series, clock, "127.0.0.1", port or settings.exchange_port, load_faults(faults) if faults else None)


@candles.command("export")
def export_candles(file: Path, start: Time = None, end: Time = None, as_json: Json = False) -> None:
    """Write the stored candles opening in [start, end) to FILE (parquet or csv, by its ending)."""
    from candlecast.candle_files import write_candles
    from flows.market import open_market

    with open_market(_settings()) as market:
        stored = market.store.read(*market.market[:2], _utc(start) or EARLIEST, _utc(end) or LATEST)
    write_candles(file, stored)
    _say(f"{len(stored):,} candles written to {file}", as_json, candles=len(stored))


@candles.command("import")
def import_candles(file: Path, as_json: Json = False) -> None:
    """Store the candles of FILE (parquet or csv, by its ending) as those of SYMBOL and INTERVAL."""
    from candlecast.candle_files import read_candles, require_importable
    from flows import loop
    from flows.messages import import_message

    with _recorded("import") as (market, report):
        sound = require_importable(file, read_candles(file), market.market.interval)
        imported = loop.import_candles(market, sound)
        report.rows, report.message = imported.written.inserted, import_message(imported)
    _say(report.message, as_json, **imported.written._asdict(), **imported.marked._asdict())


def _reach_this_machine_directly() -> None:
    """Keep a proxy of the environment away from the platform's own parts, here and in every process started."""
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1", "localhost"]))


def _settings() -> Any:
    from candlecast.settings import load_settings

    return load_settings()


def _utc(moment: datetime | None) -> datetime | None:
    """Times on the command line are UTC."""
    return None if moment is None else moment.replace(tzinfo=UTC)


@contextmanager
def _recorded(job: str, *, timed: bool = False) -> Iterator[tuple[Any, Any]]:
    """Open the market and run a job alone, recorded in `job_runs`."""
    from candlecast.journal import recorded_job
    from flows.market import open_market

    settings = _settings()
    with (
        open_market(settings) as market,
        recorded_job(market.pool, job, settings.market, clock=market.exchange.server_time if timed else None) as report,
    ):
        yield market, report


@contextmanager
def _progress(title: str) -> Iterator[Any]:
    """Show the newest line of a long job on standard error."""
    from rich.console import Console

    console = Console(stderr=True)
    with console.status(title) as status:
        yield lambda line: status.update(f"{title}: {line}") if console.is_terminal else console.print(line)


def _say(message: str, as_json: bool, **figures: Any) -> None:
    print(json.dumps({"message": message, **figures}, default=str) if as_json else message)


def _move_champion(version: str | None, reason: str, decided_by: Literal["person", "rollback"]) -> None:
    from candlecast.promotion import move_champion
    from flows.market import open_market, open_registry

    settings = _settings()
    with open_market(settings) as market:
        moved = move_champion(
            open_registry(settings), market.pool, settings.market.model_name, version, reason, decided_by
        )
    print(f"champion of {settings.market.model_name} is now version {moved}")


if __name__ == "__main__":
    main()

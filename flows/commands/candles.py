"""Commands about candles: backfill, verify, ingest, candles export and import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.terminal import (
    EARLIEST,
    EXIT_ERROR,
    LATEST,
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
candles = typer.Typer(help="Export and import stored candles.", no_args_is_help=True)
app.add_typer(candles, name="candles")


@app.command()
def backfill(
    start: Start = None,
    end: End = None,
    repair: Annotated[bool, typer.Option(help="Request every candle again and correct differences.")] = False,
    market: MarketName = None,
    as_json: Json = False,
) -> None:
    """Store every candle opening in [start, end); default: the last LOOKBACK_DAYS days. Safe to re-run."""
    from flows.jobs import loop
    from flows.jobs.messages import backfill_message

    with recorded("backfill", market) as (opened, job), progress("backfill") as report:
        filled = loop.backfill(opened, start, end, lambda stored: report(f"stored up to {stored:%F %T}"), repair=repair)
        job.rows, job.message = filled.written.inserted, backfill_message(filled, opened.market.step)
    missing = [gap._asdict() for gap in filled.missing]
    say(job.message, as_json, **filled.written.figures, missing=missing, **filled.marked._asdict())


@app.command()
def verify(start: Start = None, end: End = None, market: MarketName = None, as_json: Json = False) -> None:
    """Find gaps, doubtful candles and broken rules in [start, end); default: all. Exit code 1 if there are any."""
    from candlecast.candles.verification import verification_message, verify_candles

    with recorded("verify", market) as (opened, job):
        found = verify_candles(opened, start, end, opened.time_if_reachable())
        job.rows, job.message = found.candles, verification_message(found, opened.market)
    say(job.message, as_json, sound=found.is_sound, **found.figures)
    if not found.is_sound:
        raise typer.Exit(EXIT_ERROR)


@app.command()
def ingest(market: MarketName = None, as_json: Json = False) -> None:
    """Store closed candles, settle outcomes, record the next forecast."""
    from flows.jobs import loop
    from flows.jobs.messages import ingest_message

    with recorded("ingest", market) as (opened, job):
        intake = loop.sync(opened)
        settled = loop.settle(opened, intake.synced.start)
        issued = loop.issue(opened)
        inserted = intake.synced.written.inserted
        job.rows, job.message = inserted, ingest_message(intake, settled, issued)
    say(
        job.message,
        as_json,
        **intake.synced.written.figures,
        doubtful=intake.marked.doubtful,
        settled=settled,
        issued=len(issued.forecasts),
        withheld=issued.withheld,
        unquoted=issued.unquoted,
    )


@candles.command("export")
def export_candles(
    file: Path, start: Start = None, end: End = None, market: MarketName = None, as_json: Json = False
) -> None:
    """Write the stored candles opening in [start, end) to FILE: .parquet or .csv. Default: all candles."""
    from candlecast.candles.files import write_candles
    from flows.jobs.market import open_market

    with open_market(read_settings(market)) as opened:
        stored = opened.store.read(*opened.market[:2], start or EARLIEST, end or LATEST)
    write_candles(file, stored)
    say(f"{len(stored):,} candles written to {file}", as_json, candles=len(stored))


@candles.command("import")
def import_candles(
    file: Path,
    replace: Annotated[bool, typer.Option(help="Replace candles of the exchange that contradict the file.")] = False,
    market: MarketName = None,
    as_json: Json = False,
) -> None:
    """Store the candles of FILE, .parquet or .csv, as candles of the market's symbol and interval."""
    from candlecast.candles.files import read_history
    from flows.jobs import loop
    from flows.jobs.messages import import_message

    with recorded("import", market) as (opened, job), progress("import") as report:
        report(f"reading {file}")
        sound = read_history(file, opened.market.interval, opened.market.symbol)
        imported = loop.import_candles(
            opened, sound, lambda done: report(f"{done:,} of {len(sound):,} rows stored"), replace=replace
        )
        job.rows, job.message = imported.written.inserted, import_message(imported)
    say(
        job.message,
        as_json,
        read=imported.read,
        unchanged=imported.unchanged,
        refused=0,
        **imported.written.figures,
        **imported.marked._asdict(),
    )

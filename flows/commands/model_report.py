"""`make report`: train on a file up to a time, evaluate after it beside the baselines, write the table."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from flows.commands.terminal import TIME, progress, read_settings


def report(
    candles: Annotated[Path, typer.Option(help=".parquet or .csv with open_time, OHLCV, and order flow if known.")],
    until: Annotated[datetime, typer.Option(**TIME, help="Time in UTC; fit before, evaluate after.")],
    out: Annotated[Path, typer.Option(help="Markdown file to write.")],
) -> None:
    """Write the figures of networks and baselines on candles after the training.

    One network is fitted on all candles before, one on the newest LOOKBACK_DAYS of them.
    """
    from candlecast.bundle.load import load_bundle
    from candlecast.bundle.manifest import Span
    from candlecast.candles.files import read_history
    from training.offline import offline_bundle, train_offline
    from training.reports.model_table import model_table

    settings = read_settings()
    history = read_history(candles, settings.interval, settings.symbol)
    known, lookback = history[history.index < until], settings.limits.lookback
    newest = known[known.index >= until - lookback]
    versions = {}
    with progress("report") as report:
        for title, part in {"all": known, f"{lookback.days} days": newest}.items():
            name = train_offline(part, settings, report).name
            versions[title] = load_bundle(offline_bundle(settings, name))
        span = Span(start=until, end=history.index[-1] + settings.market.step, rows=0)
        out.write_text(model_table(versions, history, until, span, settings, report))
    print(f"written: {out}")


if __name__ == "__main__":
    typer.run(report)

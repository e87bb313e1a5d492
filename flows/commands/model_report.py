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
    """Write the figures of network and baselines on candles after the training."""
    from candlecast.bundle.load import load_bundle
    from candlecast.bundle.manifest import Span
    from candlecast.candles.files import read_history
    from training.offline import offline_bundle, train_offline
    from training.reports.model_table import model_table

    settings, border = read_settings(), until
    history = read_history(candles, settings.interval, settings.symbol)
    with progress("report") as report:
        trained = train_offline(history[history.index < border], settings, report)
        span = Span(start=border, end=history.index[-1] + settings.market.step, rows=0)
        bundle = load_bundle(offline_bundle(settings, trained.name))
        out.write_text(model_table(bundle, history, border, span, settings, report))
    print(f"written: {out}")


if __name__ == "__main__":
    typer.run(report)

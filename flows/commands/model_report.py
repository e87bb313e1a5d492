"""`make report` and `make minutes`: train on a file up to a time, evaluate after it beside the baselines."""

from __future__ import annotations

from datetime import datetime
from itertools import product
from pathlib import Path
from typing import Annotated

import typer

from flows.commands.terminal import TIME, MarketName, progress, read_settings

app = typer.Typer(add_completion=False)


@app.command()
def report(
    candles: Annotated[Path, typer.Option(help=".parquet or .csv with open_time, OHLCV, and order flow if known.")],
    until: Annotated[datetime, typer.Option(**TIME, help="Time in UTC; fit before, evaluate after.")],
    out: Annotated[Path, typer.Option(help="Markdown file to write.")],
    beside: Annotated[
        list[str] | None, typer.Option(help="Rival as FAMILY:FEATURES:SEQUENCE_LENGTH, such as lstm:base:24.")
    ] = None,
    market: MarketName = None,
) -> None:
    """Write the figures of models and baselines on candles after the training.

    The market's model and each rival are fitted on all candles before, and on the newest LOOKBACK_DAYS of them.
    """
    from candlecast.bundle.load import load_bundle
    from candlecast.bundle.manifest import Span
    from candlecast.candles.files import read_history
    from candlecast.settings.sources import load_settings
    from training.offline import offline_bundle, train_offline
    from training.reports.model_table import model_table

    settings = read_settings(market)
    recipes = [settings, *(load_settings(settings.market, **_values(rival)) for rival in beside or ())]
    history = read_history(candles, settings.interval, settings.symbol)
    known, lookback = history[history.index < until], settings.limits.lookback
    histories = {"all": known, f"{lookback.days} days": known[known.index >= until - lookback]}
    versions = {}
    with progress("report") as report:
        for recipe, (length, part) in product(recipes, histories.items()):
            title = f"**{recipe.training.model_family}** on {recipe.training.features}, {length}"
            report(title)
            name = train_offline(part, recipe, report).name
            versions[title] = load_bundle(offline_bundle(recipe, name))
        span = Span(start=until, end=history.index[-1] + settings.market.step, rows=0)
        out.write_text(model_table(versions, history, until, span, settings, report))
    print(f"written: {out}")


def _values(rival: str) -> dict[str, str]:
    parts = rival.split(":")
    if len(parts) != 3:
        raise typer.BadParameter(f"{rival!r} is no rival; write FAMILY:FEATURES:SEQUENCE_LENGTH, as in lstm:base:24")
    return dict(zip(("model_family", "features", "sequence_length"), parts, strict=True))


if __name__ == "__main__":
    app()

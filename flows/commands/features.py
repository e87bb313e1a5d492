"""Commands about model inputs: features export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.terminal import Json, MarketName, read_settings, say

app = typer.Typer()
features = typer.Typer(help="Export model inputs.", no_args_is_help=True)
app.add_typer(features, name="features")


@features.command("export")
def export_features(
    file: Path,
    candles: Annotated[
        Path | None, typer.Option(help=".parquet or .csv file of candles, instead of stored ones.")
    ] = None,
    market: MarketName = None,
    as_json: Json = False,
) -> None:
    """Write the rows of a training to FILE, .parquet or .csv: inputs, targets, and the slice of each row.

    Without --candles they are those of a training on the stored candles that starts now.
    """
    from candlecast.candles.files import read_history, write_candles
    from flows.jobs.market import open_market
    from training.splits import training_data

    settings = read_settings(market)
    if candles is not None:
        history = read_history(candles, settings.interval, settings.symbol)
    else:
        with open_market(settings) as opened:
            history = opened.history(opened.exchange.server_time())
    data = training_data(history, settings)
    table = data.table()
    write_candles(file, table)
    slices = {name: len(ends) for name, ends in data.split._asdict().items()}
    inputs = len(data.dataset.features.names)
    say(
        f"{len(table):,} rows of {settings.market.model_name} with {inputs} inputs written to {file}: "
        + ", ".join(f"{name} {count:,}" for name, count in slices.items()),
        as_json,
        rows=len(table),
        slices=slices,
    )

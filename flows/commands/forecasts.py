"""Commands about recorded forecasts: forecasts export."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from flows.commands.terminal import EARLIEST, LATEST, TIME, Json, MarketName, read_settings, say

app = typer.Typer()
forecasts = typer.Typer(help="Export recorded forecasts.", no_args_is_help=True)
app.add_typer(forecasts, name="forecasts")


class Role(StrEnum):
    """The role of the version that forecast."""

    CHAMPION = "champion"
    CHALLENGER = "challenger"


@forecasts.command("export")
def export_forecasts(
    file: Path,
    market: MarketName = None,
    start: Annotated[datetime | None, typer.Option("--from", **TIME, help="First open_time, in UTC.")] = None,
    end: Annotated[datetime | None, typer.Option("--to", **TIME, help="End, in UTC; not included.")] = None,
    role: Annotated[Role, typer.Option(help="Role of the version that forecast.")] = Role.CHAMPION,
    as_json: Json = False,
) -> None:
    """Write the recorded forecasts of target candles opening in [from, to) to FILE: .parquet or .csv. Default: all.

    The columns are those that `evaluate --forecasts` writes, and model_version, issued_at and abstained.
    """
    from candlecast.candles.files import write_candles
    from flows.jobs.market import open_market

    with open_market(read_settings(market)) as opened:
        found = opened.ledger.table(role.value, start or EARLIEST, end or LATEST)
    write_candles(file, found)
    abstained = int(found["abstained"].sum())
    say(
        f"{len(found):,} forecasts of {opened.market.model_name} written to {file}, {abstained:,} of them abstained",
        as_json,
        forecasts=len(found),
        abstained=abstained,
    )

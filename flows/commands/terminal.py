"""The common parts of all commands: options, settings, progress and output."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

EXIT_ERROR = 1
SPINNER = "line"
"""A spinner of ASCII characters, which every terminal shows."""
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)

Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
MarketName = Annotated[
    str | None,
    typer.Option("--market", help="Market such as BTCUSDT-5m or BTCUSDT-1m-h15; default: that of the settings."),
]


def moment(text: str) -> datetime:
    """Read a time of the command line: ISO-8601, in UTC unless it has an offset.

    Raises:
        typer.BadParameter: It is no time, or outside of the years 1970 to 9998.
    """
    try:
        found = datetime.fromisoformat(text.strip())
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError) as exc:
        raise typer.BadParameter(
            f"{text!r} is no time; write it as 2025-06-01, 2025-06-01T12:30 or 2025-06-01T12:30:00Z"
        ) from exc
    if not EARLIEST <= found < LATEST:
        raise typer.BadParameter(f"{text!r} is outside of the years 1970 to 9998")
    return found


TIME: dict[str, Any] = {"parser": moment, "metavar": "TIME"}
"""Options of an argument that is a time."""
Start = Annotated[datetime | None, typer.Option(**TIME, help="Start, in UTC unless it has an offset.")]
End = Annotated[datetime | None, typer.Option(**TIME, help="End, in UTC unless it has an offset; not included.")]


def read_settings(market: str | None = None, interval: str | None = None) -> Any:
    """Return the settings that apply to a market; options of the command line that are not None win.

    Raises:
        ConfigurationError: The name of the market is malformed, or has another interval.
    """
    from candlecast.settings.sources import load_settings

    settings = load_settings()
    return settings.of(settings.find_market(market, interval=interval))


def recorded(job: str, market: str | None = None, *, timed: bool = False) -> Any:
    """Open the market and run a job alone, with a row in `job_runs`; see `flows.jobs.market.open_job`."""
    from flows.jobs.market import open_job

    return open_job(job, read_settings(market), timed=timed)


@contextmanager
def progress(title: str) -> Iterator[Any]:
    """Show the newest line of a long job on standard error."""
    from rich.console import Console

    console = Console(stderr=True)
    with console.status(title, spinner=SPINNER) as status:
        yield lambda line: status.update(f"{title}: {line}") if console.is_terminal else console.print(line)


def say(message: str, as_json: bool, **figures: Any) -> None:
    """Print the outcome of a command: a line for people, or JSON with the figures."""
    print(json.dumps({"message": message, **figures}, default=str) if as_json else message, flush=True)

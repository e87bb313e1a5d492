"""What commands have in common: options, settings, progress, and how they say what they did."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

EXIT_ERROR = 1
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
TIME_FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]
Time = Annotated[datetime | None, typer.Option(formats=TIME_FORMATS)]


def read_settings() -> Any:
    """The settings of this process."""
    from candlecast.setting_sources import load_settings

    return load_settings()


def utc(moment: datetime | None) -> datetime | None:
    """Times on the command line are UTC."""
    return None if moment is None else moment.replace(tzinfo=UTC)


@contextmanager
def recorded(job: str, *, timed: bool = False) -> Iterator[tuple[Any, Any]]:
    """Open the market and run a job alone, recorded in `job_runs`."""
    from candlecast.job_runs import recorded_job
    from flows.jobs.market import open_market

    settings = read_settings()
    with (
        open_market(settings) as market,
        recorded_job(market.pool, job, settings.market, clock=market.exchange.server_time if timed else None) as report,
    ):
        yield market, report


@contextmanager
def progress(title: str) -> Iterator[Any]:
    """Show the newest line of a long job on standard error."""
    from rich.console import Console

    console = Console(stderr=True)
    with console.status(title) as status:
        yield lambda line: status.update(f"{title}: {line}") if console.is_terminal else console.print(line)


def say(message: str, as_json: bool, **figures: Any) -> None:
    """Print what was done: a line for people, or JSON with the figures."""
    print(json.dumps({"message": message, **figures}, default=str) if as_json else message, flush=True)

"""The common parts of all commands: options, settings, progress and output."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

EXIT_ERROR = 1
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)

Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
TIME_FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]
Start = Annotated[datetime | None, typer.Option(formats=TIME_FORMATS, help="Start, in UTC.")]
End = Annotated[datetime | None, typer.Option(formats=TIME_FORMATS, help="End, in UTC; not included.")]


def read_settings(**options: Any) -> Any:
    """Return the settings of this process; options of the command line that are not None win."""
    from candlecast.settings.sources import load_settings

    return load_settings(**{name: value for name, value in options.items() if value is not None})


def utc(moment: datetime | None) -> datetime | None:
    """Return a time of the command line as UTC; None stays None."""
    return None if moment is None else moment.replace(tzinfo=UTC)


def recorded(job: str, *, timed: bool = False) -> Any:
    """Open the market and run a job alone, with a row in `job_runs`; see `flows.jobs.market.open_job`."""
    from flows.jobs.market import open_job

    return open_job(job, read_settings(), timed=timed)


@contextmanager
def progress(title: str) -> Iterator[Any]:
    """Show the newest line of a long job on standard error."""
    from rich.console import Console

    console = Console(stderr=True)
    with console.status(title) as status:
        yield lambda line: status.update(f"{title}: {line}") if console.is_terminal else console.print(line)


def say(message: str, as_json: bool, **figures: Any) -> None:
    """Print the outcome of a command: a line for people, or JSON with the figures."""
    print(json.dumps({"message": message, **figures}, default=str) if as_json else message, flush=True)

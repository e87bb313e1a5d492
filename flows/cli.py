"""The command line, `candlecast`."""

from __future__ import annotations

import os
import sys

import typer

# Everything else is imported where it is used: `candlecast --help` answers at once.
from flows.commands import candles as candle_commands
from flows.commands import models as model_commands
from flows.commands import operations as operation_commands
from flows.commands import platform as platform_commands
from flows.commands.terminal import EXIT_ERROR

app = typer.Typer(
    help="Continuous, honest forecasting of market candles.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for commands in (platform_commands, candle_commands, model_commands, operation_commands):
    app.add_typer(commands.app)


def main() -> None:
    """Run the command line; an error of Candlecast's own becomes one line and exit code 1."""
    from candlecast.errors import CandlecastError

    _reach_this_machine_directly()
    try:
        app()
    except CandlecastError as exc:
        print(f"candlecast: {exc}", file=sys.stderr)
        sys.exit(EXIT_ERROR)


def _reach_this_machine_directly() -> None:
    """Keep a proxy of the environment away from the platform's own parts, here and in every process started."""
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1", "localhost"]))


if __name__ == "__main__":
    main()

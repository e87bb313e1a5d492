"""The command line, `candlecast`."""

from __future__ import annotations

import os
import sys

import typer

# Other imports stand where they are used, so that `candlecast --help` answers at once.
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
    """Run the command line; an error of Candlecast prints its message and its reference entry, exit code 1."""
    from candlecast.errors import CandlecastError

    _reach_this_machine_directly()
    try:
        app()
    except CandlecastError as exc:
        print(f"candlecast: {exc}\nsee: {_reference_entry(exc)}", file=sys.stderr)
        sys.exit(EXIT_ERROR)


def _reference_entry(error: Exception) -> str:
    """Return the entry of an error's class in the reference."""
    documented = next(kind for kind in type(error).__mro__ if kind.__module__ == "candlecast.errors")
    return f"docs/reference/errors.md#{documented.__name__.lower()}"


def _reach_this_machine_directly() -> None:
    """Exclude this machine from the environment's proxies, also for the processes started from here."""
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1", "localhost"]))


if __name__ == "__main__":
    main()

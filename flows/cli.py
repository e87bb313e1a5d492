"""The command line, `candlecast`."""

from __future__ import annotations

import sys
from typing import NoReturn

import typer

# Other imports stand where they are used, so that `candlecast --help` answers at once.
from flows.commands import candles as candle_commands
from flows.commands import features as feature_commands
from flows.commands import forecasts as forecast_commands
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
for commands in (
    platform_commands,
    candle_commands,
    feature_commands,
    forecast_commands,
    model_commands,
    operation_commands,
):
    app.add_typer(commands.app)


def main() -> None:
    """Run the command line; an error of Candlecast prints its message and its reference entry, exit code 1."""
    from candlecast.errors import CandlecastError
    from flows.commands.surroundings import (
        fault_of_machine,
        print_in_any_terminal,
        reach_this_machine_directly,
        require_directory,
    )

    print_in_any_terminal()
    try:
        require_directory()
        reach_this_machine_directly()
        app()
    except CandlecastError as exc:
        _end_with(exc)
    except OSError as exc:
        fault = fault_of_machine(exc)
        if fault is None:
            raise
        _end_with(fault)


def _end_with(error: Exception) -> NoReturn:
    print(f"candlecast: {error}\nsee: {_reference_entry(error)}", file=sys.stderr)
    sys.exit(EXIT_ERROR)


def _reference_entry(error: Exception) -> str:
    """Return the entry of an error's class in the reference."""
    documented = next(kind for kind in type(error).__mro__ if kind.__module__ == "candlecast.errors")
    return f"docs/reference/errors.md#{documented.__name__.lower()}"


if __name__ == "__main__":
    main()

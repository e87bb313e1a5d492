"""Sources of settings: arguments, the environment, candlecast.toml, and what `candlecast up` left."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from candlecast.errors import ConfigurationError
from candlecast.market import LONGEST_HORIZON, Market
from candlecast.settings.file import CORRECT_KEY, MARKETS, File, Origin, Values, read_file
from candlecast.settings.recipes import Recipes
from candlecast.settings.rules import absolute, separated
from candlecast.settings.settings import PREFIX, Settings, groups, known_settings, nested

STACK_FILE = "stack.json"


def load_settings(market: Market | None = None, **overrides: Any) -> Settings:
    """Read the settings of this process.

    Args:
        market: Market that the settings apply to; None for the default one.
        overrides: Values that win over every source, by name of setting, such as `epochs` or `service_port`.

    Raises:
        ConfigurationError: A value or a file is malformed, a key of candlecast.toml is unknown, or two programs have
            one port.
    """
    return load_with_origins(market, **overrides)[0]


def load_with_origins(market: Market | None = None, **overrides: Any) -> tuple[Settings, dict[str, str]]:
    """Read the settings of this process, and where each value comes from.

    Args:
        market, overrides: As `load_settings`.

    Returns:
        The settings, and the variable or file of each by name; "argument" or "default".

    Raises:
        ConfigurationError: As `load_settings`.
    """
    file = read_file()
    winning = _environment_values() | {name: (value, _argument(name)) for name, value in overrides.items()}
    given = file.values | winning
    values = _stack_values(_home_of(given)) | given
    _complete_markets(values, file)
    settings = _checked(values)
    _require_different_ports(settings, values)
    settings = settings.with_recipes(_recipes(settings, values, file, winning))
    applied = values
    if market is not None:
        settings = settings.of(market)
        applied = values | {name: (value, _argument(name)) for name, value in market._asdict().items()}
    own = file.own.get(settings.market, {})
    applied = applied | {name: one for name, one in own.items() if name not in winning}
    return settings, {name: applied[name][1].place if name in applied else "default" for name in known_settings()}


def home_directory() -> Path:
    """Return HOME before any other setting is read."""
    return _home_of(read_file().values | _environment_values())


def unknown_variables() -> dict[str, str]:
    """Return each variable that resembles a setting and is none, with the nearest known one."""
    known = {variable.removeprefix(PREFIX) for setting in known_settings().values() for variable in setting.variables}
    others = sorted(name.removeprefix(PREFIX) for name in os.environ if name.startswith(PREFIX))
    near = {name: get_close_matches(name, known, 1, cutoff=0.8) for name in others if name not in known}
    return {PREFIX + name: PREFIX + found[0] for name, found in near.items() if found}


def _checked(values: Values) -> Settings:
    """Build settings; a refusal names the origin of the value."""
    try:
        return Settings(**nested({name: value for name, (value, _) in values.items()}))
    except ValidationError as exc:
        fault = exc.errors()[0]
        # Not "from exc": its text quotes values, and a value may be a password.
        raise ConfigurationError(_refusal(fault["loc"], fault["msg"], values)) from None


def _recipes(settings: Settings, values: Values, file: File, winning: Values) -> Recipes:
    """Check the values of single markets, and return those that no argument and no variable overrides."""
    own = {}
    for market, theirs in file.own.items():
        checked = _checked(values | theirs)
        own[market] = {name: checked.value(name) for name in theirs if name not in winning}
    names = {name for theirs in own.values() for name in theirs}
    return Recipes({name: settings.value(name) for name in names}, own)


def _complete_markets(values: Values, file: File) -> None:
    """Put every table of a market into MARKETS if it is unset; without tables, add HORIZON to names without one."""
    named: Any = separated(values[MARKETS][0]) if MARKETS in values else ()
    if not named and file.own:
        origin = Origin(str(file.path), f"{file.path}: [{MARKETS}]", CORRECT_KEY)
        values[MARKETS] = tuple(market.model_name for market in file.own), origin
    elif named and not file.own and "horizon" in values:
        with suppress(ConfigurationError, ValueError, TypeError):  # `Settings` refuses the value
            horizon = int(values["horizon"][0])
            if 1 <= horizon <= LONGEST_HORIZON:
                full = tuple(Market.named(name, horizon).model_name for name in named)
                values[MARKETS] = full, values[MARKETS][1]


def _home_of(values: Values) -> Path:
    home = values["home"][0] if "home" in values else Settings.model_fields["home"].default
    return absolute(Path(str(home)))


def _environment_values() -> Values:
    values: Values = {}
    for name, setting in known_settings().items():
        for variable in setting.variables:
            # An empty secret is unset: compose passes each on, and the file may set it.
            if os.environ.get(variable) or (variable in os.environ and not setting.secret):
                origin = Origin(variable, variable, "Correct the variable, or unset it.")
                values[name] = os.environ[variable], origin
                break
    return values


def _stack_values(home: Path) -> Values:
    """Read what `candlecast up` left; names that are not settings of this version are skipped."""
    path, remedy = home / STACK_FILE, "`candlecast up` writes it again."
    if not path.is_file():
        return {}
    try:
        stored = json.loads(path.read_bytes())
    except ValueError as exc:
        raise ConfigurationError(f"{path} is damaged: {exc}. {remedy}") from exc
    known = {name: value for name, value in stored.items() if name in known_settings()}
    return {name: (value, Origin(str(path), f"{path}: {name}", remedy)) for name, value in known.items()}


def _argument(name: str) -> Origin:
    return Origin("argument", f"argument {name}", "Correct the argument.")


def _require_different_ports(settings: Settings, values: Values) -> None:
    users: dict[int, str] = {}
    for name in known_settings():
        if name.endswith("_port"):
            port = settings.value(name)
            if port in users:
                first, second = (_origin(one, values).subject for one in (users[port], name))
                raise ConfigurationError(
                    f"{first} and {second}: Both are port {port}. Set one of them to another port."
                )
            users[port] = name


def _refusal(location: tuple[int | str, ...], message: str, values: Values) -> str:
    key = ".".join(map(str, location[: 2 if location[0] in groups() else 1]))
    origin = _origin(next(name for name, one in known_settings().items() if one.key == key), values)
    return f"{origin.subject}: {message}. {origin.remedy}"


def _origin(name: str, values: Values) -> Origin:
    if name in values:
        return values[name][1]
    return Origin("default", known_settings()[name].variable, "Set the variable.")

"""The file candlecast.toml: its values for all markets, and those of single markets."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from candlecast.errors import ConfigurationError
from candlecast.market import Market
from candlecast.settings.groups import MonitoringSettings, TrainingSettings
from candlecast.settings.rules import absolute
from candlecast.settings.settings import PREFIX, Setting, Settings, groups, known_settings

CONFIG_FILE = "candlecast.toml"
CONFIG_VARIABLE = f"{PREFIX}CONFIG"
MARKETS = "markets"
"""Setting that names the markets, and table of candlecast.toml that has a table for each of them."""
_OF_THE_PLATFORM = {"heartbeat_url", "backup_heartbeat_url"}
"""Settings of monitoring that concern runs for several markets."""
_FAMILY = "family"

CORRECT_KEY = "Correct the key, or delete it."


class Origin(NamedTuple):
    """Variable or file that a value comes from, and what a refusal of the value begins and ends with."""

    place: str
    subject: str
    remedy: str


Values = dict[str, tuple[Any, Origin]]
"""Values and their origins by name of setting."""


class File(NamedTuple):
    """Values of candlecast.toml: for all markets, and for each market that has a table."""

    path: Path
    values: Values
    own: dict[Market, Values]


@cache
def market_settings() -> Mapping[str, str]:
    """Return the settings that a market's table may give: the name of each by its key there."""
    of_market = (*TrainingSettings.model_fields, *MonitoringSettings.model_fields, *Settings().limits.by_setting)
    named = {name: name for name in of_market if name not in _OF_THE_PLATFORM}
    return {_FAMILY: "model_family", **named}


def config_file() -> Path | None:
    """Return the file of settings: the one that CANDLECAST_CONFIG names, or candlecast.toml in the working directory.

    Returns:
        None if there is no such file, or if CANDLECAST_CONFIG is empty.

    Raises:
        ConfigurationError: CANDLECAST_CONFIG names a file that does not exist.
    """
    named = os.environ.get(CONFIG_VARIABLE)
    if named is None:
        found = Path(CONFIG_FILE).absolute()
        return found if found.is_file() else None
    if named and not Path(named).expanduser().is_file():
        raise ConfigurationError(
            f"{CONFIG_VARIABLE}: the file {named} does not exist. Correct the variable, or unset it."
        )
    return absolute(Path(named)) if named else None


def read_file() -> File:
    """Read candlecast.toml, if there is one."""
    import tomllib

    path = config_file()
    if path is None:
        return File(Path(CONFIG_FILE), {}, {})
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:  # malformed TOML names its line
        raise ConfigurationError(f"{path}: {exc}. Correct the file.") from exc
    of_markets = tables.pop(MARKETS) if isinstance(tables.get(MARKETS), dict) else {}
    by_key = {setting.key: name for name, setting in known_settings().items()}
    values: Values = {}
    for key, value in _flat(tables, path).items():
        if key not in by_key:
            raise ConfigurationError(f"{path}: Unknown key {key}{_nearest(key)}.")
        values[by_key[key]] = value, Origin(str(path), f"{path}: {key}", CORRECT_KEY)
    return File(path, values, _market_tables(of_markets, path))


def market_table(market: Market, values: Mapping[str, Any]) -> list[str]:
    """Return the lines of a market's table of candlecast.toml, as it is now but with these values.

    Args:
        values: Values by name of setting.
    """
    own = {name: value for name, (value, _) in read_file().own.get(market, {}).items()}
    return _table_lines(market.model_name, {**own, **values})


def market_tables(settings: Settings) -> str:
    """Return the tables of candlecast.toml that give each market its values; empty if all markets have the same."""
    given = {
        name: {setting: value for setting, value in values.items() if value is not None}
        for name, values in settings.own_values.items()
    }
    return "".join(f"{line}\n" for name, values in given.items() for line in _table_lines(name, values))


def _table_lines(name: str, values: Mapping[str, Any]) -> list[str]:
    keys = {setting: key for key, setting in [*market_settings().items()][::-1]}  # the first key wins
    title = name if name.isascii() else json.dumps(name)
    return [f"[{MARKETS}.{title}]", *(f"{keys[setting]} = {json.dumps(value)}" for setting, value in values.items())]


def _market_tables(tables: Mapping[str, Any], path: Path) -> dict[Market, Values]:
    """Read the tables of single markets; refuse unknown keys, malformed names, and two tables of one market."""
    own: dict[Market, Values] = {}
    names: dict[Market, str] = {}
    for name, table in tables.items():
        place = f"{MARKETS}.{name}"
        try:
            market = Market.named(name)
        except ConfigurationError as exc:
            raise ConfigurationError(f"{path}: [{place}]: {exc}. Correct the name of the table.") from exc
        if not isinstance(table, dict):
            raise ConfigurationError(f"{path}: {place} is a table. Write its keys below a line with [{place}].")
        if market in names:
            raise ConfigurationError(
                f"{path}: [{MARKETS}.{names[market]}] and [{place}] are the same market. Write one table."
            )
        names[market], own[market] = name, {}
        for key, value in table.items():
            setting = market_settings().get(key)
            if setting is None:
                raise ConfigurationError(f"{path}: Unknown key {place}.{key}{_nearest_of_market(key, place)}.")
            if setting in own[market]:
                raise ConfigurationError(f"{path}: {place}.{key} sets {setting} twice. Delete one of the keys.")
            own[market][setting] = value, Origin(f"{path} [{place}]", f"{path}: {place}.{key}", CORRECT_KEY)
    return own


def _nearest_of_market(key: str, place: str) -> str:
    """Return an ending that names the remedy for an unknown key of a market's table; empty if there is none."""
    near = get_close_matches(key, market_settings(), 1)
    if near:
        return f"; the nearest known key is {place}.{near[0]}"
    platform = next((one.key for name, one in known_settings().items() if key in (one.field, name)), None)
    return f"; it applies to all markets: write {platform}" if platform else ""


def _flat(tables: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return values by key, such as `training.epochs`; refuse what is no table of settings."""
    values: dict[str, Any] = {}
    for name, value in tables.items():
        if name in groups():
            if not isinstance(value, dict):
                raise ConfigurationError(f"{path}: {name} is a table. Write its keys below a line with [{name}].")
            values |= {f"{name}.{field}": one for field, one in value.items()}
        elif isinstance(value, dict):
            known = ", ".join(f"[{group}]" for group in (*groups(), f"{MARKETS}.NAME"))
            raise ConfigurationError(f"{path}: Unknown table [{name}]. The tables are {known}.")
        else:
            values[name] = value
    return values


def _nearest(key: str) -> str:
    """Return an ending that names the known key nearest to `key`; empty if none is near."""
    named: dict[str, Setting] = {}
    for name, setting in known_settings().items():
        named |= {setting.field: setting, name: setting, setting.key: setting}
    near = get_close_matches(key, named, 1) or get_close_matches(key.rpartition(".")[2], named, 1)
    return f"; the nearest known key is {named[near[0]].key}" if near else ""

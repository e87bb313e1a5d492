"""Sources of settings: arguments, the environment, candlecast.toml, and what `candlecast up` left."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from candlecast.errors import ConfigurationError
from candlecast.settings.rules import absolute
from candlecast.settings.settings import PREFIX, Setting, Settings, groups, known_settings, nested

STACK_FILE = "stack.json"
CONFIG_FILE = "candlecast.toml"
CONFIG_VARIABLE = f"{PREFIX}CONFIG"


class _Origin(NamedTuple):
    """Variable or file that a value comes from, and what a refusal of the value begins and ends with."""

    place: str
    subject: str
    remedy: str


_Values = dict[str, tuple[Any, _Origin]]
"""Values and their origins by name of setting."""


def load_settings(**overrides: Any) -> Settings:
    """Read the settings of this process.

    Args:
        overrides: Values that win over every source, by name of setting, such as `epochs` or `service_port`.

    Raises:
        ConfigurationError: A value or a file is malformed, a key of candlecast.toml is unknown, or two programs have
            one port.
    """
    return load_with_origins(**overrides)[0]


def load_with_origins(**overrides: Any) -> tuple[Settings, dict[str, str]]:
    """Read the settings of this process, and where each value comes from.

    Returns:
        The settings, and the variable or file of each by name; "argument" or "default".

    Raises:
        ConfigurationError: As `load_settings`.
    """
    given = _configured() | {name: (value, _argument(name)) for name, value in overrides.items()}
    values = _stack_values(_home_of(given)) | given
    try:
        settings = Settings(**nested({name: value for name, (value, _) in values.items()}))
    except ValidationError as exc:
        fault = exc.errors()[0]
        # Not "from exc": its text quotes values, and a value may be a password.
        raise ConfigurationError(_refusal(fault["loc"], fault["msg"], values)) from None
    _require_different_ports(settings, values)
    return settings, {name: values[name][1].place if name in values else "default" for name in known_settings()}


def home_directory() -> Path:
    """Return HOME before any other setting is read."""
    return _home_of(_configured())


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


def unknown_variables() -> dict[str, str]:
    """Return each variable that resembles a setting and is none, with the nearest known one."""
    known = {variable.removeprefix(PREFIX) for setting in known_settings().values() for variable in setting.variables}
    others = sorted(name.removeprefix(PREFIX) for name in os.environ if name.startswith(PREFIX))
    near = {name: get_close_matches(name, known, 1, cutoff=0.8) for name in others if name not in known}
    return {PREFIX + name: PREFIX + found[0] for name, found in near.items() if found}


def _configured() -> _Values:
    """Read candlecast.toml and the environment."""
    return _file_values() | _environment_values()


def _home_of(values: _Values) -> Path:
    home = values["home"][0] if "home" in values else Settings.model_fields["home"].default
    return absolute(Path(str(home)))


def _environment_values() -> _Values:
    values: _Values = {}
    for name, setting in known_settings().items():
        for variable in setting.variables:
            if variable in os.environ:
                origin = _Origin(variable, variable, "Correct the variable, or unset it.")
                values[name] = os.environ[variable], origin
                break
    return values


def _file_values() -> _Values:
    """Read candlecast.toml, if there is one."""
    import tomllib

    path = config_file()
    if path is None:
        return {}
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:  # malformed TOML names its line
        raise ConfigurationError(f"{path}: {exc}. Correct the file.") from exc
    by_key = {setting.key: name for name, setting in known_settings().items()}
    values: _Values = {}
    for key, value in _flat(tables, path).items():
        if key not in by_key:
            raise ConfigurationError(f"{path}: Unknown key {key}{_nearest(key)}.")
        values[by_key[key]] = value, _Origin(str(path), f"{path}: {key}", "Correct the key, or delete it.")
    return values


def _flat(tables: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return values by key, such as `training.epochs`; refuse what is no table of settings."""
    values: dict[str, Any] = {}
    for name, value in tables.items():
        if name in groups():
            if not isinstance(value, dict):
                raise ConfigurationError(f"{path}: {name} is a table. Write its keys below a line with [{name}].")
            values |= {f"{name}.{field}": one for field, one in value.items()}
        elif isinstance(value, dict):
            known = ", ".join(f"[{group}]" for group in groups())
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


def _stack_values(home: Path) -> _Values:
    """Read what `candlecast up` left; names that are not settings of this version are skipped."""
    path, remedy = home / STACK_FILE, "`candlecast up` writes it again."
    if not path.is_file():
        return {}
    try:
        stored = json.loads(path.read_bytes())
    except ValueError as exc:
        raise ConfigurationError(f"{path} is damaged: {exc}. {remedy}") from exc
    known = {name: value for name, value in stored.items() if name in known_settings()}
    return {name: (value, _Origin(str(path), f"{path}: {name}", remedy)) for name, value in known.items()}


def _argument(name: str) -> _Origin:
    return _Origin("argument", f"argument {name}", "Correct the argument.")


def _require_different_ports(settings: Settings, values: _Values) -> None:
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


def _refusal(location: tuple[int | str, ...], message: str, values: _Values) -> str:
    key = ".".join(map(str, location[: 2 if location[0] in groups() else 1]))
    origin = _origin(next(name for name, one in known_settings().items() if one.key == key), values)
    return f"{origin.subject}: {message}. {origin.remedy}"


def _origin(name: str, values: _Values) -> _Origin:
    if name in values:
        return values[name][1]
    return _Origin("default", known_settings()[name].variable, "Set the variable.")

"""What the values of some settings must be like. No refusal quotes what may be secret."""

from __future__ import annotations

import re
from pathlib import Path

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict, timeout_from_conninfo
from pydantic import SecretStr

from candlecast.errors import ConfigurationError
from candlecast.market import Market, interval_duration

SHORTEST_KEY = 16


def listed(text: str) -> tuple[str, ...]:
    """What is written in a list with commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def absolute(path: Path) -> Path:
    """The same place, whatever the working directory will be."""
    return path.expanduser().absolute()


def well_named(markets: str) -> str:
    """Markets, separated by commas."""
    try:
        for name in listed(markets):
            Market.named(name)
    except ConfigurationError as exc:
        raise ValueError(str(exc)) from exc
    return markets


def fixed_length(interval: str) -> str:
    """An interval whose candles are all of one length."""
    try:
        interval_duration(interval)
    except ConfigurationError as exc:
        raise ValueError(str(exc)) from exc
    return interval


def postgresql_address(url: SecretStr | None) -> SecretStr | None:
    """The address of a database, if any."""
    if url is not None:
        try:
            timeout_from_conninfo(conninfo_to_dict(url.get_secret_value()))
        except ProgrammingError:  # its text quotes the address, password included
            raise ValueError(
                "not an address of the form postgresql://user:password@host:port/name[?connect_timeout=10]"
            ) from None
    return url


def long_enough(keys: SecretStr | None) -> SecretStr | None:
    """API keys that nobody guesses, separated by commas."""
    wrong = [
        place
        for place, key in enumerate(listed(keys.get_secret_value() if keys else ""), 1)
        if len(key) < SHORTEST_KEY or not key.isascii() or not key.isprintable() or " " in key
    ]
    if wrong:  # the keys themselves are not quoted
        raise ValueError(f"key {wrong[0]} needs {SHORTEST_KEY} or more printable ASCII characters without spaces")
    return keys


def web_address(url: SecretStr | None) -> SecretStr | None:
    """The address of a webhook; None if it is empty."""
    if url is None or not url.get_secret_value():
        return None
    if not re.fullmatch(r"https?://[^\s/]+\S*", url.get_secret_value()):
        raise ValueError("not an address of the form https://host/path")  # it is not quoted: it may hold a token
    return url


def origins(addresses: str) -> str:
    """Origins of web pages, separated by commas."""
    for origin in listed(addresses):
        if origin != "*" and not re.fullmatch(r"https?://[^/\s]+", origin):
            raise ValueError(f"{origin!r} is no origin; write it like https://charts.example.org, without a path")
    return addresses

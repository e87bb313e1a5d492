"""Rules for the values of some settings. No refusal quotes a value that may be secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict, timeout_from_conninfo
from pydantic import SecretStr

from candlecast.errors import ConfigurationError
from candlecast.market import Market, interval_duration, require_symbol

SHORTEST_KEY = 16
LARGEST_PORT = 65_535
LONGEST_DAYS = 36_525  # a century; beyond it times leave the calendar


def separated(value: object) -> object:
    """Split text at its commas; other values stay as they are."""
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if value is None:
        return ()
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def tcp_port(port: int) -> int:
    """Require the number of a TCP port."""
    if not 1 <= port <= LARGEST_PORT:
        raise ValueError(f"{port} is no port; ports are 1 to {LARGEST_PORT}")
    return port


def networks(value: object) -> object:
    """Read addresses and networks of IP that are separated by commas."""
    found = []
    for text in separated(value):  # type: ignore[attr-defined]
        try:
            found.append(ip_network(str(text), strict=False))
        except ValueError:
            raise ValueError(f"{text!r} is no address or network; write it like 10.0.0.0/8 or 192.0.2.7") from None
    return tuple(found)


def folder_or_directory(name: str | None) -> str | None:
    """Make a path absolute, because programs have other working directories; a plain word names a shipped folder."""
    return name if name is None or name.isidentifier() else str(absolute(Path(name)))


def absolute(path: Path) -> Path:
    """Return the same place as an absolute path."""
    return path.expanduser().absolute()


def well_named(markets: tuple[str, ...]) -> tuple[str, ...]:
    """Require names of markets such as BTCUSDT-5m."""
    try:
        for name in markets:
            Market.named(name)
    except ConfigurationError as exc:
        raise ValueError(str(exc)) from exc
    return markets


def first_market(read: Mapping[str, Any]) -> Market:
    """Return the first market of the fields read so far, else BTCUSDT-5m."""
    named = read.get("markets", ())  # missing if it was refused
    return Market.named(named[0]) if named else Market("BTCUSDT", "5m")


def first_horizon(read: Mapping[str, Any]) -> int:
    """Return the horizon of the first market with the symbol and interval read so far, else 1."""
    series = read.get("symbol"), read.get("interval")
    return next((one.horizon for one in map(Market.named, read.get("markets", ())) if one[:2] == series), 1)


def exchange_spelling(text: str) -> str:
    """Require a symbol in the exchange's spelling."""
    try:
        return require_symbol(text)
    except ConfigurationError as exc:
        raise ValueError(str(exc)) from exc


def fixed_length(interval: str) -> str:
    """Require an interval whose candles are all of one length."""
    try:
        interval_duration(interval)
    except ConfigurationError as exc:
        raise ValueError(str(exc)) from exc
    return interval


def postgresql_address(url: SecretStr | None) -> SecretStr | None:
    """Require the address of a database, if there is one."""
    if url is not None:
        try:
            timeout_from_conninfo(conninfo_to_dict(url.get_secret_value()))
        except ProgrammingError:  # its text quotes the address, password included
            raise ValueError(
                "not an address of the form postgresql://user:password@host:port/name[?connect_timeout=10]"
            ) from None
    return url


def long_enough(keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    """Require API keys that are hard to guess and can be sent in a header."""
    for place, secret in enumerate(keys, 1):
        key = secret.get_secret_value()
        if len(key) < SHORTEST_KEY or not key.isascii() or not key.isprintable() or " " in key:
            raise ValueError(f"key {place} needs {SHORTEST_KEY} or more printable ASCII characters without spaces")
    return keys


def web_address(url: SecretStr | None) -> SecretStr | None:
    """Require a web address; return None if it is empty."""
    if url is None or not url.get_secret_value():
        return None
    if not re.fullmatch(r"https?://[^\s/]+\S*", url.get_secret_value()):
        raise ValueError("not an address of the form https://host/path")  # it is not quoted: it may hold a token
    return url


def part_addresses(text: str) -> str:
    """Require web addresses, separated by commas; none of a part that does not run."""
    for address in text.split(",") if text else ():
        try:
            parts = urlsplit(address.strip())
            sound = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            sound = False
        if not sound:
            raise ValueError("not an address of the form http://host:port")  # it is not quoted: it may hold a login
    return text


def origins(addresses: tuple[str, ...]) -> tuple[str, ...]:
    """Require origins of web pages."""
    for origin in addresses:
        if origin != "*" and not re.fullmatch(r"https?://[^/\s]+", origin):
            raise ValueError(f"{origin!r} is no origin; write it like https://charts.example.org, without a path")
    return addresses

"""What surrounds a command: proxies of the environment, the terminal's encoding, disk and file permissions."""

from __future__ import annotations

import errno
import os
import re
import sys
from io import TextIOWrapper
from ipaddress import ip_network
from pathlib import Path
from urllib.parse import urlsplit

from candlecast.errors import ConfigurationError, StackError

_PROXIES = tuple(name for each in ("http", "https", "all") for name in (f"{each}_proxy", f"{each}_proxy".upper()))
_SCHEMES = ("http", "https", "socks5", "socks5h")
_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS)


def print_in_any_terminal() -> None:
    """Print characters that the terminal's encoding lacks as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def reach_this_machine_directly() -> None:
    """Exclude this machine from the environment's proxies, also for the processes started from here.

    Libraries read either NO_PROXY or no_proxy, so both become the union. httpx fails on IPv6 networks and on names
    with invalid ports; no library of ours applies them, so they are left out.

    Raises:
        ConfigurationError: A proxy's address has a form that no library accepts; names the variable.
    """
    for name in _PROXIES:
        _require_proxy(name, os.environ.get(name, ""))
    listed = ",".join(os.environ.get(name, "") for name in ("NO_PROXY", "no_proxy")).split(",")
    direct = dict.fromkeys([*filter(_is_applied, map(str.strip, listed)), *_THIS_MACHINE])
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(direct)


def require_directory() -> None:
    """Check that the working directory exists, which libraries read at their import.

    Raises:
        StackError: It was deleted.
    """
    try:
        Path.cwd()
    except FileNotFoundError as exc:
        raise StackError("the working directory was deleted: change to another one and repeat the command") from exc


def fault_of_machine(fault: OSError) -> StackError | None:
    """Return a full disk or a place that cannot be written as an error with its remedy; None for other faults."""
    place = fault.filename or "a file"
    if fault.errno in _FULL:
        return StackError(f"{place}: {fault.strerror}. The disk is full: free some space, then repeat the command")
    if fault.errno in _CLOSED:
        return StackError(
            f"{place}: {fault.strerror}. Set CANDLECAST_HOME to a directory of your own, or correct its mode"
        )
    return None


def _require_proxy(name: str, address: str) -> None:
    if not address:
        return
    try:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        usable = parts.scheme in _SCHEMES and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable:  # the value is not quoted: it may hold a password
        forms = ", ".join(f"{scheme}://" for scheme in _SCHEMES)
        raise ConfigurationError(f"{name} is no address of a proxy: write it as {forms} and host:port, or unset it")


def _is_applied(entry: str) -> bool:
    if not entry or not entry.isascii():
        return False
    if ":" not in entry:
        return True
    try:
        return ip_network(entry).num_addresses == 1 and "/" not in entry
    except ValueError:
        return bool(re.fullmatch(r"(https?://)?[\w.*-]+(:\d+)?", entry))

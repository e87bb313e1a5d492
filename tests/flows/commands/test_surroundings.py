"""Proxies, terminals, disks and permissions around a command."""

from __future__ import annotations

import errno
import os
import pty
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import requests

from candlecast.errors import ConfigurationError
from flows.cli import main
from flows.commands.surroundings import fault_of_machine, reach_this_machine_directly

OWN = "127.0.0.1,localhost,::1"
NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        for spelled in (name, name.upper()):
            monkeypatch.setenv(spelled, "")  # so that the former value comes back
            monkeypatch.delenv(spelled)


@pytest.mark.parametrize(
    ("upper", "lower", "union"),
    [
        ("", "", OWN),
        ("a.test", "", f"a.test,{OWN}"),
        ("", "b.test", f"b.test,{OWN}"),
        ("a.test, .c.test", "b.test,a.test,", f"a.test,.c.test,b.test,{OWN}"),
        ("*", "", f"*,{OWN}"),
        ("10.0.0.0/8,fd00::/8,fd00::7,[::2],x:y,host:8080", "", f"10.0.0.0/8,fd00::7,host:8080,{OWN}"),
    ],
)
def test_both_names_of_no_proxy_become_their_union(monkeypatch, upper, lower, union):
    monkeypatch.setenv("NO_PROXY", upper)
    monkeypatch.setenv("no_proxy", lower)

    reach_this_machine_directly()

    assert os.environ["NO_PROXY"] == os.environ["no_proxy"] == union
    httpx.Client()  # the library of Prefect's client reads the variables here


@pytest.mark.parametrize(
    "proxy", ["http://127.0.0.1:1", "socks5://127.0.0.1:1", "socks5h://127.0.0.1:1", "127.0.0.1:1"]
)
def test_this_machine_is_reached_whatever_the_proxy(monkeypatch, replay_exchange, proxy):
    url = replay_exchange().url
    monkeypatch.setenv("ALL_PROXY", proxy)
    monkeypatch.setenv("HTTP_PROXY", proxy)

    reach_this_machine_directly()

    assert httpx.get(f"{url}/api/v3/ping").status_code == 200
    assert requests.get(f"{url}/api/v3/ping", timeout=5).status_code == 200


@pytest.mark.parametrize("proxy", ["socks4://h:1", "http://u:secret@h:port", "ftp://x", "http://", "http://[::1"])
def test_a_proxy_that_no_library_accepts_is_one_line_with_the_remedy(monkeypatch, proxy):
    monkeypatch.setenv("https_proxy", proxy)

    with pytest.raises(ConfigurationError, match="^https_proxy is no address of a proxy: write it as http") as refused:
        reach_this_machine_directly()

    assert "\n" not in str(refused.value)
    assert "secret" not in str(refused.value)


SPIN = """
import time
from flows.commands.surroundings import print_in_any_terminal
from flows.commands.terminal import progress
from rich.console import Console
print_in_any_terminal()
with progress("step") as report:
    report("caf\u00e9 \u2713")
    time.sleep(0.3)
Console().rule("up")
print("done \u2713")
"""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_of_any_encoding_shows_steps(encoding):
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "TERM": "xterm"}

    done = subprocess.run(
        [sys.executable, "-c", SPIN], stdout=theirs, stderr=theirs, env=environment, check=False, timeout=60
    )
    shown = os.read(ours, 65536).decode(encoding)

    assert done.returncode == 0, shown
    assert ("done \u2713" if encoding == "utf-8" else r"done \u2713") in shown


def test_a_place_that_cannot_be_written_is_one_line(empty_environment, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["candlecast", "candles", "export", "/proc/candles.csv"])

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/srv/home")

    monkeypatch.setattr("flows.cli.app", refuse)
    with pytest.raises(SystemExit):
        main()

    assert (
        capsys.readouterr().err.splitlines()[0].startswith("candlecast: /srv/home: Permission denied. Set CANDLECAST")
    )


def test_a_full_disk_is_named_with_the_remedy():
    with pytest.raises(OSError, match="No space") as full, Path("/dev/full").open("w") as file:
        file.write("x")
        file.flush()

    assert "The disk is full: free some space" in str(fault_of_machine(full.value))
    assert fault_of_machine(FileNotFoundError(errno.ENOENT, "", "x")) is None


def test_a_command_in_a_deleted_directory_says_so_in_one_line(tmp_path):
    deleted = tmp_path / "deleted"
    deleted.mkdir()

    done = subprocess.run(
        ["/bin/sh", "-c", 'rmdir "$PWD" && exec "$0" -P -m flows.cli settings', sys.executable],
        cwd=deleted,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},  # other tests add to it
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert done.stderr.splitlines()[0].startswith("candlecast: the working directory was deleted: change to another")

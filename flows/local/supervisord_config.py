"""The files that supervisord reads: its configuration, the programs, and the path of its control socket."""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from candlecast.errors import StackError
from flows.local import supervised_program

CONFIGURATION_FILE = "run/supervisord.conf"
SUPERVISORD_LOG = "logs/supervisord.log"

_CONTROL_FILE = "run/control.json"
_SOCKET = "supervisor.sock"
# The kernel allows 107 bytes (103 on macOS), and supervisord binds to this name plus its pid before renaming.
_LONGEST_SOCKET_PATH = 90
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_@+=,./-]+")

_SUPERVISORD = """\
[supervisord]
nodaemon=true
silent=true
{user}
pidfile=run/supervisord.pid
logfile={log}
logfile_maxbytes=5MB
logfile_backups=2

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface

[unix_http_server]
file={socket}
chmod=0600
username=candlecast
password={password}
"""

# Paths are relative to the home, so its name needs no quoting.
_PROGRAM = """
[program:{program.name}]
command={command}
autostart=false
autorestart=true
priority={priority}
startsecs={program.start_seconds}
startretries={program.start_retries}
stopsignal={program.stop_signal}
stopwaitsecs={program.stop_wait_s}
stopasgroup=true
killasgroup=true
redirect_stderr=true
strip_ansi=true
stdout_logfile=logs/{program.name}.log
stdout_logfile_maxbytes=5MB
stdout_logfile_backups=2
"""


@dataclass(frozen=True, slots=True)
class Program:
    """A program that supervisord keeps running.

    Attributes:
        name: Name of the program and of its log; letters, digits, `-` and `_`.
        command: Program and arguments. Every account can read them, so passwords belong into the environment.
        environment: Variables that are added to supervisord's own environment.
        stop_signal: Signal that ends the process group, such as TERM or INT.
        stop_wait_s: Whole seconds between the stop signal and SIGKILL.
        start_seconds: Whole seconds that the program must run to count as started.
        start_retries: Attempts to start it again, until its state is FATAL.
    """

    name: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    stop_signal: str = "TERM"
    stop_wait_s: int = 10
    start_seconds: int = 1
    start_retries: int = 10


@dataclass(frozen=True, slots=True)
class Control:
    """The control socket of a supervisord, and its password."""

    socket: str
    password: str


def write_configuration(home: Path, programs: Sequence[Program]) -> None:
    """Write the files of supervisord into `home`, readable by the owner only.

    Args:
        programs: Programs in the order of their start; they stop in reverse order.
    """
    (home / "run").mkdir(mode=0o700, parents=True, exist_ok=True)
    (home / "logs").mkdir(exist_ok=True)
    remove_control(home)
    control = Control(_socket_path(home), secrets.token_hex(16))
    described = {program.name: {"command": program.command, "environment": program.environment} for program in programs}
    _write_private(home / supervised_program.PROGRAMS_FILE, json.dumps(described, indent=1))
    _write_private(home / _CONTROL_FILE, json.dumps({"socket": control.socket, "password": control.password}))
    _write_private(home / CONFIGURATION_FILE, _configuration(control, programs))


def read_control(home: Path) -> Control:
    """Return the control socket of the last supervisord that was launched in `home`.

    Raises:
        StackError: No supervisord was launched there.
    """
    try:
        return Control(**json.loads((home / _CONTROL_FILE).read_text()))
    except FileNotFoundError as exc:
        raise StackError(f"No platform runs in {home}: start it with `candlecast up`.") from exc


def program_names(home: Path) -> list[str]:
    """Return the names of the programs of supervisord in `home`, in the order of their start.

    Raises:
        StackError: No supervisord was launched there.
    """
    try:
        return list(json.loads((home / supervised_program.PROGRAMS_FILE).read_text()))
    except FileNotFoundError as exc:
        raise StackError(f"No platform was started in {home}: start it with `candlecast up`.") from exc


def remove_control(home: Path) -> None:
    """Remove the control socket of an ended supervisord, and its directory if that lies outside `home`."""
    try:
        socket = Path(read_control(home).socket)
    except StackError:
        return
    if socket.parent == home / "run":
        socket.unlink(missing_ok=True)
    else:
        shutil.rmtree(socket.parent, ignore_errors=True)
    (home / _CONTROL_FILE).unlink()


def _configuration(control: Control, programs: Sequence[Program]) -> str:
    # An explicit user prevents supervisord's warning about root.
    user = "user=root" if os.geteuid() == 0 else ""
    text = _SUPERVISORD.format(user=user, log=SUPERVISORD_LOG, socket=control.socket, password=control.password)
    launcher = [sys.executable, "-I", "-S", str(Path(supervised_program.__file__).resolve())]
    for priority, program in enumerate(programs, start=1):
        command = " ".join(_quoted(word) for word in [*launcher, program.name])
        text += _PROGRAM.format(program=program, command=command, priority=priority)
    return text


def _quoted(word: str) -> str:
    """Quote a word for supervisord, which expands `%` and reads ` #` and ` ;` as comments even in quotes."""
    quoted = shlex.quote(word).replace("#", "'\"#\"'").replace(";", "'\";\"'")
    return quoted.replace("%", "%%")


def _socket_path(home: Path) -> str:
    inside = str(home / "run" / _SOCKET)
    if len(os.fsencode(inside)) <= _LONGEST_SOCKET_PATH and _PLAIN_PATH.fullmatch(inside):
        return inside
    for parent in dict.fromkeys((tempfile.gettempdir(), "/tmp")):  # noqa: S108 - mkdtemp makes a private directory
        directory = tempfile.mkdtemp(prefix="candlecast-", dir=parent)  # mode 0700
        path = f"{directory}/{_SOCKET}"
        if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH and _PLAIN_PATH.fullmatch(path):
            return path
        os.rmdir(directory)
    raise StackError(f"No directory for a control socket: {inside} is too long. Set CANDLECAST_HOME to a shorter path.")


def _write_private(path: Path, text: str) -> None:
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    temporary.replace(path)

"""Run a command as somebody other than root, in place of this process; PostgreSQL refuses to be root.

    python -I -S flows/local/unprivileged.py --directory DIR -- COMMAND...

Called by path, so that it works from every working directory; it imports the standard library only.
An ordinary user's command is executed as it is. For root, the first way that reaches both the command
and the directory is taken:

1. A user namespace in which root goes by the name of an unprivileged account. Outside of it the files
   stay root's own, so any directory root may enter works and no account is created.
2. Where namespaces are refused (most containers): become the owner of the directory's nearest ancestor
   that is not root's, or the account `nobody`.

Files below DIR are handed to whoever the way turns out to be, so one way can follow another.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import pwd
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple, NoReturn

_CLONE_NEWUSER = 0x10000000
_REMEDIES = (
    "PostgreSQL does not run as root, and no other account reaches {directory} and {command}. "
    "Set CANDLECAST_HOME to a directory that the account `nobody` can enter, run as an ordinary user, "
    "or set CANDLECAST_DATABASE_URL to a PostgreSQL server of your own."
)


class _Identity(NamedTuple):
    """A way to stop being root: who then owns the files, and the step that takes it."""

    uid: int
    gid: int
    enter: Callable[[], None]


def run_unprivileged(command: list[str], directory: Path) -> NoReturn:
    """Replace this process by `command`, run as somebody other than root.

    Args:
        command: Program and arguments; the program is looked up in PATH.
        directory: What the command works in; root hands it to the account it becomes.

    Raises:
        PermissionError: Root found no account that reaches the command and the directory.
        OSError: The command cannot be executed.
    """
    if os.geteuid() == 0:
        way = _first_identity_with_access(command[0], directory)
        _hand_over(directory, way)
        way.enter()
    os.execvp(command[0], command)


def _first_identity_with_access(program: str, directory: Path) -> _Identity:
    executable = shutil.which(program) or program
    for way in _identities(directory):
        if _reaches(way, executable, directory.parent):
            return way
    raise PermissionError(_REMEDIES.format(directory=directory, command=executable))


def _identities(directory: Path) -> Iterator[_Identity]:
    account = _unprivileged_account()
    if sys.platform == "linux":
        yield _Identity(0, 0, partial(_enter_user_namespace, account))
    owners = (parent.stat().st_uid for parent in directory.parents)
    owner = next((uid for uid in owners if uid != 0 and _has_account(uid)), account.pw_uid)
    for candidate in dict.fromkeys((owner, account.pw_uid)):
        gid = pwd.getpwuid(candidate).pw_gid
        yield _Identity(candidate, gid, partial(_become, candidate, gid))


def _unprivileged_account() -> pwd.struct_passwd:
    """Return `nobody`, or any account that is not root: initdb wants to know the name it goes by."""
    others = [account for account in pwd.getpwall() if account.pw_uid != 0]
    if not others:
        raise PermissionError("this system has no account but root, and PostgreSQL does not run as root")
    return next((account for account in others if account.pw_name == "nobody"), others[0])


def _has_account(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _reaches(way: _Identity, executable: str, parent: Path) -> bool:
    """Try the way in a forked child: a half-taken one cannot be taken back."""
    child = os.fork()
    if child == 0:
        reached = False
        try:
            way.enter()
            reached = os.access(executable, os.X_OK) and os.access(parent, os.X_OK)
        except OSError:
            reached = False
        finally:
            os._exit(0 if reached else 1)
    return os.waitpid(child, 0)[1] == 0


def _enter_user_namespace(account: pwd.struct_passwd) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "unshare of the user namespace refused")
    Path("/proc/self/setgroups").write_text("deny")  # the kernel accepts a gid_map only after this
    Path("/proc/self/uid_map").write_text(f"{account.pw_uid} 0 1")
    Path("/proc/self/gid_map").write_text(f"{account.pw_gid} 0 1")


def _become(uid: int, gid: int) -> None:
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def _hand_over(directory: Path, way: _Identity) -> None:
    """Make the whole directory the account's; links are changed themselves, never followed."""
    for folder, _, files in os.walk(directory):
        for path in (folder, *(os.path.join(folder, name) for name in files)):
            if os.lstat(path).st_uid != way.uid:
                os.chown(path, way.uid, way.gid, follow_symlinks=False)


def main() -> NoReturn:
    """Run the command line; exits with EX_NOPERM and the remedies when root found no way."""
    parser = argparse.ArgumentParser(description="Run a command as somebody other than root.")
    parser.add_argument("--directory", type=Path, required=True, help="the directory the command works in")
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    try:
        run_unprivileged(arguments.command, arguments.directory.resolve())
    except PermissionError as exc:
        print(exc, file=sys.stderr)
        sys.exit(os.EX_NOPERM)


if __name__ == "__main__":
    main()

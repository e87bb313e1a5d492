"""The launcher that runs a command as another account than root; PostgreSQL refuses to run as root.

    python -I -S flows/local/unprivileged.py --directory DIR -- COMMAND...

Called by path, so it works from every working directory; it imports the standard library only. Without root the
command runs as it is. For root, the first identity that reaches both the command and the directory is taken:

1. A user namespace that maps root to the name of an unprivileged account. Outside it the files stay root's, so every
   directory of root works, and no account is created.
2. Where namespaces are refused (most containers): the owner of the directory's nearest ancestor that is not root's,
   or an unprivileged account of the system.

The files below DIR are given to the chosen identity, so a later start may choose another one.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import pwd
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

_CLONE_NEWUSER = 0x10000000
_REMEDIES = (
    "PostgreSQL does not run as root, and no other account can enter {directory} and run {command}. "
    "Set CANDLECAST_HOME to a directory that other accounts can enter, run as an ordinary user, "
    "or set CANDLECAST_DATABASE_URL to a PostgreSQL server of your own."
)


@dataclass(frozen=True, slots=True)
class _Identity:
    """An identity that replaces root: owner of the files, and the function that enters it."""

    uid: int
    gid: int
    enter: Callable[[], None]


def run_unprivileged(command: list[str], directory: Path) -> NoReturn:
    """Replace this process by `command`, run as another account than root.

    Args:
        command: Program and arguments; the program is looked up in PATH.
        directory: Directory of the command's files; root gives it to the chosen identity.

    Raises:
        PermissionError: No identity reaches the command and the directory.
        OSError: The command cannot be executed.
    """
    if os.geteuid() == 0:
        identity = _first_identity_with_access(command[0], directory)
        _give_directory(directory, identity)
        identity.enter()
    os.execvp(command[0], command)


def _first_identity_with_access(program: str, directory: Path) -> _Identity:
    executable = shutil.which(program) or program
    for identity in _identities(directory):
        if _reaches(identity, executable, directory.parent):
            return identity
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
    """Return the usual account without rights, or else any that is not root's; initdb needs an account name."""
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


def _reaches(identity: _Identity, executable: str, parent: Path) -> bool:
    """Try the identity in a forked child, because a process cannot leave it again."""
    child = os.fork()
    if child == 0:
        reached = False
        try:
            identity.enter()
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


def _give_directory(directory: Path, identity: _Identity) -> None:
    """Give the whole directory to the identity; links are changed themselves, never followed."""
    for folder, _, files in os.walk(directory):
        for path in (folder, *(os.path.join(folder, name) for name in files)):
            if os.lstat(path).st_uid != identity.uid:
                os.chown(path, identity.uid, identity.gid, follow_symlinks=False)


def main() -> NoReturn:
    """Run the command line; exit with EX_NOPERM and the remedies if no identity fits."""
    parser = argparse.ArgumentParser(description="Run a command as another account than root.")
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

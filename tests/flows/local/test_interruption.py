"""Signals end a long run, unless its parent ignores them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from flows.local.interruption import interrupted_by_sigterm

RUN = """
import os, signal
from flows.local.interruption import interrupted_by_sigterm
try:
    with interrupted_by_sigterm():
        os.kill(os.getpid(), signal.SIGHUP)
        print("runs on")
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize(("before", "outcome"), [(["nohup"], "runs on"), ([], "interrupted")])
def test_a_closed_terminal_ends_a_run_unless_nohup_started_it(before, outcome):
    ended = subprocess.run([*before, sys.executable, "-c", RUN], capture_output=True, text=True, check=True)

    assert ended.stdout.splitlines() == [outcome]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_interrupts_and_its_handler_comes_back(number):
    former = signal.getsignal(number)

    with pytest.raises(KeyboardInterrupt), interrupted_by_sigterm():
        os.kill(os.getpid(), number)

    assert signal.getsignal(number) is former

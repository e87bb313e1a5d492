"""supervisord keeps programs alive, and no process of a home survives its shutdown."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from candlecast.errors import AlreadyRunning, StackError
from flows.local.home_processes import single_instance, stop_leftovers
from flows.local.supervision import Supervisor, pause_while_running, wait_until
from flows.local.supervisord_config import Program, read_control

pytestmark = pytest.mark.integration

# Sleeps in a child with its own session, like Prefect's flow runs.
PARENT_OF_SLEEPER = """
    import subprocess, sys, time
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    print("child", child.pid, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Callable[..., Supervisor]]:
    """Launch a supervisor for these programs; it is shut down after the test."""
    with ExitStack() as stack:

        def launch(*programs: Program, home: Path = tmp_path / "home") -> Supervisor:
            supervisor = Supervisor(home, programs)
            stack.callback(supervisor.shutdown)
            supervisor.launch()
            return supervisor

        yield launch


def test_killed_program_comes_back(supervised):
    supervisor = supervised(python("sleeper", "print('up', flush=True); import time; time.sleep(60)"))
    supervisor.start("sleeper")
    killed = supervisor.states()["sleeper"].pid
    first_words(supervisor, "sleeper")

    os.kill(killed, signal.SIGKILL)

    eventually(lambda: supervisor.log_tail("sleeper") == ["up", "up"])
    assert supervisor.states()["sleeper"].state == "RUNNING"
    assert supervisor.states()["sleeper"].pid != killed


def test_programs_start_only_when_told(supervised):
    supervisor = supervised(python("sleeper", "import time; time.sleep(60)"))

    state = supervisor.states()["sleeper"]

    assert (state.state, state.pid) == ("STOPPED", None)


def test_stopped_program_stays_stopped_and_starts_again(supervised):
    supervisor = supervised(python("sleeper", "import time; time.sleep(60)"))
    supervisor.start("sleeper")

    supervisor.stop("sleeper")
    stopped = supervisor.states()["sleeper"].state
    supervisor.start("sleeper")

    assert stopped == "STOPPED"
    assert supervisor.states()["sleeper"].state == "RUNNING"


def test_program_that_ends_at_once_is_reported_with_its_last_words(supervised):
    broken = Program("broken", [sys.executable, "-c", "raise SystemExit('no such port')"])
    supervisor = supervised(broken)

    with pytest.raises(StackError, match="no such port"):
        supervisor.start("broken")


def test_arguments_and_environment_arrive_as_they_were_written(supervised):
    awkward = """%(x)s 100% "a" 'b' #c ;d $HOME, é=\n~"""
    echo = "import os, sys, time; print(ascii([sys.argv[1], os.environ['AWKWARD']]), flush=True); time.sleep(60)"
    program = Program("echo", [sys.executable, "-c", echo, awkward], {"AWKWARD": awkward})
    supervisor = supervised(program)

    supervisor.start("echo")

    assert first_words(supervisor, "echo") == ascii([awkward, awkward])


def test_home_may_have_any_name_and_depth(supervised, tmp_path):
    home = tmp_path / "My 100% project #2; it's" / ("deep" * 30)
    supervisor = supervised(python("sleeper", "print('up', flush=True); import time; time.sleep(60)"), home=home)

    supervisor.start("sleeper")

    assert first_words(supervisor, "sleeper") == "up"
    socket_directory = Path(read_control(home).socket).parent
    assert stat.S_IMODE(socket_directory.stat().st_mode) == 0o700
    supervisor.shutdown()
    assert not socket_directory.exists()


def test_only_the_owner_can_read_what_holds_secrets(supervised):
    supervisor = supervised(Program("sleeper", ["sleep", "60"], {"PASSWORD": "tomato"}))
    supervisor.start("sleeper")

    files = [path for path in supervisor.home.rglob("*") if path.is_file()]
    holders = [path for path in files if b"tomato" in path.read_bytes()]

    assert [stat.S_IMODE(path.stat().st_mode) for path in holders] == [0o600]
    assert stat.S_IMODE((supervisor.home / "run").stat().st_mode) == 0o700


def test_shutdown_ends_programs_in_reverse_order_and_their_grandchildren(supervised):
    farewell = """
        import signal, sys, time
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(print("ended", time.monotonic(), flush=True)))
        print("up", flush=True)
        while True:
            time.sleep(1)
    """
    supervisor = supervised(python("first", farewell), python("second", farewell), python("parent", PARENT_OF_SLEEPER))
    for name in ("first", "second", "parent"):
        supervisor.start(name)
        first_words(supervisor, name)
    grandchild = grandchild_of(supervisor)

    supervisor.shutdown()

    ended = {name: float(supervisor.log_tail(name)[-1].split()[1]) for name in ("first", "second")}
    assert ended["second"] < ended["first"]
    assert not is_alive(grandchild)
    assert not supervisor.alive()


def test_leftovers_of_a_killed_supervisord_are_found_and_stopped(supervised):
    supervisor = supervised(python("parent", PARENT_OF_SLEEPER))
    supervisor.start("parent")
    family = {supervisor.states()["parent"].pid, grandchild_of(supervisor)}
    os.kill(supervisord_pid(supervisor), signal.SIGKILL)

    stopped = stop_leftovers(supervisor.home)

    assert family <= set(stopped)
    assert not [pid for pid in family if is_alive(pid)]


def test_leftover_supervisord_is_stopped_with_its_programs(supervised):
    supervisor = supervised(python("sleeper", "import time; time.sleep(60)"))
    supervisor.start("sleeper")
    pid = supervisor.states()["sleeper"].pid

    stop_leftovers(supervisor.home)

    assert not is_alive(pid)
    assert not supervisor.alive()


def test_programs_run_and_come_back_while_no_log_can_be_written(supervised, tmp_path):
    logs = tmp_path / "home" / "logs"
    logs.mkdir(parents=True)
    for name in ("supervisord", "talker"):
        (logs / f"{name}.log").symlink_to("/dev/full")
    talk = "import time\nwhile True: print('talk' * 5000, flush=True); time.sleep(0.01)"
    supervisor = supervised(python("talker", talk))
    supervisor.start("talker")
    killed = supervisor.states()["talker"].pid

    (logs / "talker.log").unlink()  # the disk has space again
    os.kill(killed, signal.SIGKILL)

    eventually(lambda: supervisor.states()["talker"].state == "RUNNING" and supervisor.states()["talker"].pid != killed)
    eventually(lambda: "talk" in (logs / "talker.log").read_text())


def test_a_program_that_failed_for_good_runs_when_its_cause_is_gone(supervised, tmp_path):
    cause = tmp_path / "cause"
    cause.touch()
    fails = f"import os, sys, time\nif os.path.exists({str(cause)!r}): sys.exit(1)\ntime.sleep(60)"
    supervisor = supervised(replace(python("once", fails), start_seconds=1, start_retries=0))
    with pytest.raises(StackError):
        supervisor.start("once")
    eventually(lambda: supervisor.states()["once"].state == "FATAL")

    cause.unlink()

    assert supervisor.retry_failed() == {"once"}
    eventually(lambda: supervisor.states()["once"].state == "RUNNING")
    assert supervisor.retry_failed() == set()


def test_a_wait_ends_when_its_program_keeps_failing(supervised):
    supervisor = supervised(replace(python("failing", "raise SystemExit('no place')"), start_seconds=0))
    supervisor.start("failing")
    pause = pause_while_running(supervisor, "failing", pause_s=0.05)

    with pytest.raises(StackError, match="(?s)failing keeps failing.*no place"):
        wait_until(pause, 60)


def test_processes_of_another_home_are_left_alone(supervised, tmp_path):
    supervisor = supervised(python("sleeper", "import time; time.sleep(60)"))
    supervisor.start("sleeper")

    stopped = stop_leftovers(tmp_path / "another home")

    assert stopped == []
    assert supervisor.states()["sleeper"].state == "RUNNING"


def test_second_supervisor_of_a_home_is_refused(supervised):
    supervisor = supervised()

    with pytest.raises(AlreadyRunning):
        Supervisor(supervisor.home).launch()


def test_second_instance_is_refused_and_told_who_holds_the_home(tmp_path):
    hold = """
        import sys
        from pathlib import Path
        from flows.local.home_processes import single_instance
        with single_instance(Path(sys.argv[1])):
            print("held", flush=True)
            sys.stdin.read()
    """
    command = [sys.executable, "-c", textwrap.dedent(hold), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()

        with pytest.raises(AlreadyRunning, match=f"process {holder.pid}"), single_instance(tmp_path):
            pass

        holder.kill()

    with single_instance(tmp_path):
        pass  # the kernel released the lock


def test_what_a_platform_writes_is_closed_to_other_accounts(tmp_path):
    home = tmp_path / "home"

    with single_instance(home):
        (home / "logs").mkdir()
        subprocess.run(["sh", "-c", "echo secret > logs/program.log"], cwd=home, check=True)

    assert home.stat().st_mode & 0o066 == 0
    assert (home / "logs" / "program.log").stat().st_mode & 0o077 == 0


def test_a_home_that_cannot_be_made_is_named_with_the_setting(tmp_path):
    (tmp_path / "home").write_text("a file")

    with pytest.raises(StackError, match=r"home cannot be the home of a platform: .*Set CANDLECAST_HOME"):
        with single_instance(tmp_path / "home"):
            pytest.fail("it was taken")


def python(name: str, source: str) -> Program:
    return Program(name, [sys.executable, "-c", textwrap.dedent(source)], stop_wait_s=5, start_seconds=0)


def grandchild_of(supervisor: Supervisor) -> int:
    return int(first_words(supervisor, "parent").split()[1])


def first_words(supervisor: Supervisor, name: str) -> str:
    eventually(lambda: supervisor.log_tail(name) != [])
    return supervisor.log_tail(name)[0]


def supervisord_pid(supervisor: Supervisor) -> int:
    return int((supervisor.home / "run" / "supervisord.pid").read_text())


def eventually(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.1)


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False

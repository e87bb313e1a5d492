"""Every part restarted under constant load, and the database stopped for a minute; by hand, in about ten minutes:

    python -m tests.bench.rolling_proof [PART ...]

What the pods would run, each in processes of its own: the bento served from its build folder in two replicas behind
Caddy (Debian's package `caddy`), MLflow on PostgreSQL, Prefect on a PostgreSQL of its own (Debian's `postgresql`),
the worker apart, the replay exchange at six times the speed of the market. Four connections always post.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pandas as pd
import psycopg
import requests

from candlecast.client import ForecastClient
from candlecast.market import floor_time
from candlecast.replay.control import ReplayControl
from candlecast.replay.recordings import bundled_recordings
from candlecast.settings.settings import Settings
from flows.deploy.schedules import start_schedules
from flows.jobs import loop
from flows.jobs.market import open_market
from flows.local.stack import LocalStack, free_ports
from tests.support.bundles import sound_candles
from tests.support.load import Answers, keep_posting, predict_request
from tests.support.manifests import ROOT
from tests.support.markets import MARKET
from tests.support.platforms import make_champions, platform_settings, running, write_recordings
from tests.support.processes import suspended_postgres

CONNECTIONS = 4
SPEED = 6
CANDLE_S = MARKET.step.total_seconds() / SPEED
WITHOUT_DATABASE_S = 60
_DRAIN_S = 3

_CADDYFILE = """\
{{
	admin off
}}
:{port} {{
	reverse_proxy {replicas} {{
		health_uri /readyz
		health_interval 500ms
		health_timeout 2s
		lb_try_duration 5s
		lb_retry_match method GET POST
	}}
}}
"""


def main() -> None:
    """Print what became of the requests and forecasts during each restart; exit code 1 if one was lost."""
    caddy = shutil.which("caddy")
    if caddy is None:
        sys.exit("this needs Caddy: apt-get install caddy")
    with tempfile.TemporaryDirectory(prefix="rolling-") as directory, ExitStack() as opened:
        home = Path(directory)
        recorded = bundled_recordings()["BTCUSDT", "5m"].iloc[: 3 * 288]
        begin = recorded.index[400].to_pydatetime()
        write_recordings(home / "recordings", recorded, [MARKET])
        prefect_port, *ports = free_ports(3)
        settings = platform_settings(home / "home", [MARKET], replay_speed=SPEED)
        prefect_database = _PrefectDatabase(home / "prefect-database", prefect_port)
        prefect_database.start()
        opened.callback(prefect_database.stop)
        os.environ["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = prefect_database.address.replace("://", "+asyncpg://")
        stack = opened.enter_context(running(settings, begin, home / "recordings"))
        make_champions(stack.settings, [MARKET], home / "bundles")
        bento = _build(home)
        replicas = [_Replica(bento, home / f"replica{port}", port) for port in ports]
        for replica in replicas:
            replica.start()
            opened.callback(replica.stop)
        opened.enter_context(_proxy(caddy, home, settings.service.port, ports))
        lost = _prove(stack, replicas, prefect_database)
    sys.exit(f"lost: {lost}" if lost else 0)


class _Replica:
    """One pod of the service: a home of its own, the bento's folder, a port."""

    def __init__(self, bento: Path, home: Path, port: int) -> None:
        self._bento, self._home, self._port = bento, home, port
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        self._home.mkdir(exist_ok=True)
        environment = {
            **os.environ,
            "CANDLECAST_HOME": str(self._home),
            "CANDLECAST_DRAIN_S": str(_DRAIN_S),
            "BENTOML_HOME": str(self._home / "bentoml"),
            "PYTHONSAFEPATH": "1",
        }
        command = [sys.executable, "-m", "bentoml", "serve", str(self._bento), "--host", "127.0.0.1"]
        with (self._home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--port", str(self._port), "--timeout-graceful-shutdown", "10"],
                cwd=self._bento,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        ForecastClient(f"http://127.0.0.1:{self._port}").wait_ready(120)

    def stop(self) -> None:
        """Ask it to end, as Kubernetes does, and wait until it has."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(60)
            self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()


class _Load:
    """Requests to the proxy without a pause, in a thread of their own."""

    def __init__(self, port: int) -> None:
        self.answers = Answers()
        self._port = port
        self._enough = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._post()))

    def __enter__(self) -> _Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join()

    @property
    def failed(self) -> int:
        """Requests that did not get a forecast."""
        answers = self.answers
        return answers.total - answers.statuses[200] + answers.lost + answers.refused

    async def _post(self) -> None:
        enough, request = asyncio.Event(), predict_request(sound_candles(150))
        posting = [
            asyncio.create_task(keep_posting(self._port, request, self.answers, enough)) for _ in range(CONNECTIONS)
        ]
        while not self._enough.is_set():
            await asyncio.sleep(0.1)
        enough.set()
        await asyncio.gather(*posting)


def _prove(stack: LocalStack, replicas: list[_Replica], prefect_database: _PrefectDatabase) -> list[str]:
    """Restart part after part under load; what was lost. While there is no database nothing can be forecast."""
    settings, supervisor = stack.settings, stack.supervisor
    lost: list[str] = []

    def restart(name: str) -> None:
        supervisor.stop(name)
        supervisor.start(name)

    def without(stop: Callable[[], None], start: Callable[[], None]) -> None:
        stop()
        time.sleep(WITHOUT_DATABASE_S)
        start()

    restarts: dict[str, Callable[[], None]] = {
        "nothing": lambda: None,
        "first replica": replicas[0].restart,
        "second replica": replicas[1].restart,
        "MLflow": partial(restart, "mlflow"),
        "Prefect": partial(restart, "prefect"),
        "worker": partial(restart, "worker"),
        "database": partial(without, partial(supervisor.stop, "postgres"), stack.start_database),
        "database silent": partial(_silence, settings),
        "database of Prefect": partial(without, prefect_database.stop, prefect_database.start),
    }
    with open_market(settings) as market, _Load(settings.service.port) as load:
        loop.sync(market)
        stack.start("worker")
        start_schedules(market)
        clock = ReplayControl(settings.exchange.binance_url)
        _wait_for_forecast(settings, after=clock.state().now)
        chosen = sys.argv[1:] or list(restarts)
        for what, do in ((what, restarts[what]) for what in chosen):
            began, answered, failed = clock.state().now, load.answers.total, load.failed
            started = time.monotonic()
            do()
            took_s = time.monotonic() - started
            time.sleep(2 * CANDLE_S)  # of which one candle at least opens after the restart
            forecasts = _forecasts(settings, began, clock.state().now - MARKET.step * 0.8)
            missing = [f"{open_time:%H:%M}" for open_time, count in forecasts.items() if count != 1]
            print(
                f"{what:<28} took {took_s:5.1f} s, {load.answers.total - answered:6,} answers, {load.failed - failed} "
                f"failed; of {len(forecasts)} forecasts {len(missing)} missing {' '.join(missing)}",
                flush=True,
            )
            lost += [f"{load.failed - failed} requests during {what}"] if load.failed > failed else []
            lost += [f"forecast of {one} during {what}" for one in missing if not what.startswith("database")]
    return lost


def _silence(settings: Settings) -> None:
    """Stop PostgreSQL's processes for a minute, and print how reading routes answer in that time and after it."""
    address = f"http://127.0.0.1:{settings.service.port}/price/latest"
    slowest, statuses = 0.0, set()
    with suspended_postgres(settings.home / "postgres"):
        until = time.monotonic() + WITHOUT_DATABASE_S
        while time.monotonic() < until:
            asked = time.monotonic()
            statuses.add(requests.get(address, timeout=30).status_code)
            slowest = max(slowest, time.monotonic() - asked)
    resumed = time.monotonic()
    while requests.get(address, timeout=30).status_code != requests.codes.ok:
        time.sleep(0.2)
    print(
        f"reading routes of a silent database: {sorted(statuses)} within {slowest:.1f} s; "
        f"right {time.monotonic() - resumed:.1f} s after it resumed"
    )


def _forecasts(settings: Settings, start: datetime, end: datetime) -> dict[datetime, int]:
    """How many forecasts of the champion there are of each candle that opened in [start, end)."""
    assert settings.database.url is not None
    query = "select open_time, count(*) from forecasts where open_time >= %s and open_time < %s group by 1"
    with psycopg.connect(settings.database.url.get_secret_value()) as connection:
        found: dict[datetime, int] = dict(connection.execute(query, [start, end]).fetchall())
    first = floor_time(start - timedelta(microseconds=1), MARKET.interval) + MARKET.step
    due = pd.date_range(first, end, freq=MARKET.step, inclusive="left").to_pydatetime()
    return {open_time: found.get(open_time, 0) for open_time in due}


def _wait_for_forecast(settings: Settings, after: datetime) -> None:
    deadline = time.monotonic() + 6 * CANDLE_S
    while not any(_forecasts(settings, after, after + timedelta(hours=1)).values()):
        if time.monotonic() > deadline:
            sys.exit("nothing is forecast")
        time.sleep(1)


def _build(home: Path) -> Path:
    environment = {**os.environ, "BENTOML_HOME": str(home / "bentoml")}
    command = [sys.executable, "-m", "bentoml", "build", str(ROOT), "--version", "proof", "--output", "tag"]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return home / "bentoml" / "bentos" / "candlecast" / "proof"


@contextmanager
def _proxy(caddy: str, home: Path, port: int, ports: list[int]) -> Iterator[None]:
    file = home / "Caddyfile"
    file.write_text(_CADDYFILE.format(port=port, replicas=" ".join(f"127.0.0.1:{one}" for one in ports)))
    with (home / "caddy.log").open("wb") as log:
        process = subprocess.Popen(
            [caddy, "run", "--config", str(file), "--adapter", "caddyfile"],
            env={**os.environ, "HOME": str(home)},
            stdout=log,
            stderr=log,
        )
    try:
        ForecastClient(f"http://127.0.0.1:{port}").wait_ready(30)
        yield
    finally:
        process.terminate()
        process.wait(30)


class _PrefectDatabase:
    """A PostgreSQL of Debian's for Prefect's server: it needs `pg_trgm`, which the package that `up` uses lacks."""

    def __init__(self, directory: Path, port: int) -> None:
        self.address = f"postgresql://prefect@127.0.0.1:{port}/postgres"
        self._log = directory.parent / "prefect-database.log"
        programs = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)
        if programs is None:
            sys.exit("this needs Debian's PostgreSQL for Prefect: apt-get install postgresql")
        data = directory / "data"
        as_user: list[str | Path] = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        directory.mkdir()
        directory.parent.chmod(0o755)
        if as_user:
            shutil.chown(directory, "postgres")
        subprocess.run(
            [*as_user, programs / "initdb", "-D", data, "-U", "prefect", "--auth=trust", "--no-sync"],
            check=True,
            capture_output=True,
        )
        options = [f"-c listen_addresses=127.0.0.1 -c unix_socket_directories={directory} -p {port}"]
        self._control = [*as_user, programs / "pg_ctl", "-D", data, "-w", "-o", *options]

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with self._log.open("ab") as log:
            subprocess.run([*self._control, "start"], check=True, stdout=log, stderr=log)

    def stop(self) -> None:
        """Stop it in the middle of whatever its clients do."""
        subprocess.run([*self._control, "-m", "fast", "stop"], check=True, capture_output=True)


if __name__ == "__main__":
    main()

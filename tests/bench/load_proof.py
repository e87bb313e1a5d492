"""Promotions, rollbacks, restarts and a kill under constant load; by hand, for as long as you like:

python -m tests.bench.load_proof --minutes 5
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

import psutil
import requests
from pydantic import SecretStr

from candlecast.bundle.load import load_bundle
from candlecast.database import migrate, open_database
from candlecast.registry.registry import CHAMPION, Registry
from flows.local.postgres import LocalPostgres
from flows.local.stack import free_ports
from tests.support.bundles import sound_candles, write_tiny_bundle
from tests.support.load import Answers, keep_posting, predict_request
from tests.support.markets import MARKET
from tests.support.processes import end_group
from tests.support.serving import service_workers

CONNECTIONS = 8
_CANDLES = sound_candles(150)
_NAME = MARKET.model_name
_BALLAST_MB = 6
LEAK_MB = _BALLAST_MB / 3
"""What every promotion would add to the memory of the worker, if no version were ever let go of."""


@dataclass
class Proof:
    """What came of it.

    Attributes:
        answers: Of `POST /predict`, over 8 connections.
        reads: Answers of `GET /forecasts/latest`, which needs the database, by status; 0 is none within 10 s.
        promotions: How often the champion moved and was followed.
        mixed: Answers whose close is not that of the version they name.
        in_kill: Answers by status while the worker was killed and replaced; its successor refuses, and fast, until it
            has loaded the bundle.
        lost_in_kill: Requests without an answer in that time.
        memory_mb: Of the first worker, after every promotion.
    """

    answers: Answers = field(default_factory=Answers)
    reads: Counter[int] = field(default_factory=Counter)
    promotions: int = 0
    mixed: int = 0
    in_kill: Counter[int] = field(default_factory=Counter)
    lost_in_kill: int = 0
    memory_mb: list[float] = field(default_factory=list)

    @property
    def growth_mb(self) -> float:
        """What a promotion adds to the memory: from one half to the other of all but the first third, by medians."""
        settled = self.memory_mb[len(self.memory_mb) // 3 :]
        half = len(settled) // 2
        return (median(settled[-half:]) - median(settled[:half])) / half


def prove(directory: Path, promotions: int, pause_s: float = 0.0) -> Proof:
    """Run everything real: PostgreSQL, MLflow, the service. Of three promotions the third is a rollback."""
    bundles = {
        number: write_tiny_bundle(directory / number, version_bias=int(number) / 10, ballast_mb=_BALLAST_MB)
        for number in map(str, range(1, promotions // 3 + 4))
    }
    expected = {number: float(load_bundle(path).forecast(_CANDLES).targets[0, 3]) for number, path in bundles.items()}
    proof = Proof()
    with ExitStack() as running:
        postgres = Restartable(lambda: LocalPostgres(directory / "postgres", database_port).running())
        mlflow_port, service_port, database_port = free_ports(3)
        mlflow = Restartable(lambda: _mlflow(directory, mlflow_port))
        registry = Registry(f"http://127.0.0.1:{mlflow_port}", retries=5)
        running.callback(postgres.stop)
        postgres.start()
        reader = _migrated(directory, database_port)
        head = running.enter_context(_service(directory, service_port, registry.tracking_uri, reader))
        running.callback(mlflow.stop)
        mlflow.start()
        for path in bundles.values():
            register_bundle(registry, path)
        registry.set_alias(_NAME, CHAMPION, "1")
        url = f"http://127.0.0.1:{service_port}"
        _wait(lambda: _ready(url))
        first_worker = service_workers(head.pid)[0]
        load = running.enter_context(_load(service_port, url, proof, expected))

        def promote(times: int) -> None:
            for _ in range(times):
                proof.promotions += 1
                version = str(1 + proof.promotions // 3 + proof.promotions % 3)  # 2, 3, back to 2, 3, 4, back to 3
                registry.set_alias(_NAME, CHAMPION, version)
                _wait(partial(load.has, version))
                if first_worker.is_running():
                    proof.memory_mb.append(first_worker.memory_info().rss / 1e6)
                time.sleep(pause_s)

        promote(promotions // 4)
        for part in (mlflow, postgres):
            part.stop()
            time.sleep(1)
            part.start()
            promote(promotions // 4)
        before, lost_before = Counter(proof.answers.statuses), proof.answers.lost
        first_worker.kill()
        _wait(lambda: not first_worker.is_running() and _ready(url))
        proof.in_kill = Counter(proof.answers.statuses) - before
        proof.lost_in_kill = proof.answers.lost - lost_before
        promote(promotions - proof.promotions)
        time.sleep(1)
    return proof


class Restartable:
    """A part that is started and stopped as often as one likes."""

    def __init__(self, run: Callable[[], object]) -> None:
        self._run = run
        self._running = ExitStack()

    def start(self) -> None:
        self._running.enter_context(self._run())  # type: ignore[arg-type]

    def stop(self) -> None:
        self._running.close()


@dataclass
class Load:
    """The load that goes on; `newest` is the version of the newest answer."""

    newest: str = ""

    def has(self, version: str) -> bool:
        """Whether a version answers."""
        return self.newest == version


@contextmanager
def _load(port: int, url: str, proof: Proof, expected: dict[str, float]) -> Iterator[Load]:
    load, enough = Load(), threading.Event()
    request = predict_request(_CANDLES)

    def look_at(answer: dict[str, object]) -> None:
        version = answer["model"]["version"]  # type: ignore[index]
        if abs(answer["close"] - expected[version]) > 1e-6 * expected[version]:  # type: ignore[operator]
            proof.mixed += 1
        load.newest = version

    async def post() -> None:
        stop = asyncio.Event()
        posting = [
            asyncio.create_task(keep_posting(port, request, proof.answers, stop, look_at)) for _ in range(CONNECTIONS)
        ]
        while not enough.is_set():
            await asyncio.sleep(0.05)
        stop.set()
        await asyncio.gather(*posting)

    def read() -> None:
        while not enough.wait(0.05):
            try:
                proof.reads[requests.get(f"{url}/forecasts/latest", timeout=10).status_code] += 1
            except (requests.ConnectionError, requests.Timeout):
                proof.reads[0] += 1

    threads = [threading.Thread(target=lambda: asyncio.run(post())), threading.Thread(target=read)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        enough.set()
        for thread in threads:
            thread.join()


@contextmanager
def _mlflow(directory: Path, port: int) -> Iterator[None]:
    command = ["server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{directory / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(directory / "artifacts")]
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with _process(["mlflow", *command], environment, directory / "mlflow.log"):
        _wait(lambda: _ok(f"http://127.0.0.1:{port}/health"))
        yield


@contextmanager
def _service(directory: Path, port: int, tracking_uri: str, reader: SecretStr) -> Iterator[psutil.Process]:
    environment = {
        "CANDLECAST_HOME": str(directory / "home"),
        "CANDLECAST_DATABASE_READER_URL": reader.get_secret_value(),
        "CANDLECAST_MODEL_POLL_S": "0.1",
        "CANDLECAST_ACCESS_LOG": "false",
        "MLFLOW_TRACKING_URI": tracking_uri,
        "BENTOML_HOME": str(directory / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
    }
    command = ["bentoml", "serve", "service.service:Candlecast", "--host", "127.0.0.1", "--port", str(port)]
    with _process(command, environment, directory / "service.log") as head:
        yield head


@contextmanager
def _process(command: list[str], environment: dict[str, str], log_path: Path) -> Iterator[psutil.Process]:
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=Path(__file__).parents[2],
            env={**os.environ, **environment},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield psutil.Process(process.pid)
    finally:
        end_group(process)


def _migrated(directory: Path, port: int) -> SecretStr:
    """The database's address as a reader."""
    postgres = LocalPostgres(directory / "postgres", port)
    with open_database(SecretStr(postgres.url("candlecast_owner"))) as pool:
        migrate(pool)
    return SecretStr(postgres.url("candlecast_reader"))


def register_bundle(registry: Registry, bundle: Path) -> None:
    """Make it the next version of its model."""
    from mlflow import MlflowClient

    client = MlflowClient(registry.tracking_uri)
    run = client.create_run("0")
    client.log_artifacts(run.info.run_id, str(bundle), "bundle")
    registry.register(_NAME, run.info.run_id, {})


def _ready(url: str) -> bool:
    return _ok(f"{url}/readyz")


def _ok(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).ok
    except requests.RequestException:
        return False


def _wait(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def main() -> None:
    """Say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--promotions", type=int, default=52)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        proof = prove(Path(directory), chosen.promotions, 60 * chosen.minutes / chosen.promotions)
    print(f"{proof.answers.total:,} forecasts answered: {dict(proof.answers.statuses)}, versions mixed: {proof.mixed}")
    print(f"lost: {proof.answers.lost}, of them {proof.lost_in_kill} while the worker was killed and replaced")
    print(f"reads from the database: {dict(proof.reads)}; champion moved {proof.promotions} times")
    print(f"memory of the first worker, MB: {[round(megabytes) for megabytes in proof.memory_mb]}")
    print(f"that is {proof.growth_mb:.2f} MB for each promotion; it would be {LEAK_MB:.1f} if none were let go of")


if __name__ == "__main__":
    main()

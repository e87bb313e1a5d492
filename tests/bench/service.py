"""The forecast service under load beside what most projects do; part of `make bench`, and alone:

python -m tests.bench.service
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import psutil
import requests
import uvloop

from candlecast.features.base import BASE
from candlecast.market import epoch_ms
from candlecast.replay.recordings import bundled_recordings
from flows.local.stack import free_ports
from tests.bench.servers import BUNDLE, KERAS
from tests.support.bundles import write_tiny_bundle
from tests.support.markets import MARKET

CONNECTIONS = 8
_SECONDS = 5.0
_START_S = 120.0
_SETTLE_S = 6.0  # a server that answers may still be importing: ours its MLflow client, in the thread that follows it
_SEQUENCE_LENGTH = 24
_FIELDS = ["open", "high", "low", "close", "volume", "trades", "taker_buy_base"]
_ROOT = Path(__file__).parents[2]


class Measured(NamedTuple):
    """One server: requests a second, milliseconds, seconds until the first answer, MB of all its processes."""

    rate: float
    p50_ms: float
    p99_ms: float
    start_s: float
    memory_mb: float
    worker_mb: float


def service() -> None:
    """Print a line for each server: the same candles, 8 connections, one after the other on an else idle machine."""
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        history = make_models(home)
        candles = bundled_recordings()["BTCUSDT", "5m"].iloc[-history:]
        body = json.dumps({"candles": rows(candles)}).encode()
        split = {
            "dataframe_split": {"columns": ["open_time", *_FIELDS], "data": [[*r.values()] for r in rows(candles)]}
        }
        serve = ["bentoml", "serve", "--host", "127.0.0.1"]
        mlflow = ["mlflow", "models", "serve", "--env-manager", "local", "-h", "127.0.0.1", "-m"]
        # Of a network alone its clients make the features themselves: that is all the work left out for them.
        window = {"inputs": np.random.default_rng(0).normal(size=(1, _SEQUENCE_LENGTH, len(BASE.names))).tolist()}
        servers = {
            "this service": ([*serve, "service.service:Candlecast", "--port"], "/predict", body),
            "FastAPI, Keras predict": (["uvicorn", "tests.bench.servers:app", "--port"], "/predict", body),
            "mlflow models serve, Keras flavour": (
                [*mlflow, str(home / "flavour"), "--port"], "/invocations", json.dumps(window).encode()
            ),
            "mlflow models serve, our bundle": (
                [*mlflow, str(home / "pyfunc"), "--port"], "/invocations", json.dumps(split).encode()
            ),
            "BentoML endpoint that only parses": (
                [*serve, "tests.bench.servers:Parsing", "--port"], "/predict", body
            ),
            "the same without BentoML's timer": (
                [*serve, "tests.bench.servers:ParsingWithoutTimer", "--port"], "/predict", body
            ),
            "mounted route that only parses": ([*serve, "tests.bench.servers:Mounted", "--port"], "/predict", body),
        }  # fmt: skip
        columns = ("per s", "p50", "p99", "start", "memory", "worker", "ours")
        print(f"{f'{CONNECTIONS} connections, {len(body):,} bytes':<36}" + "".join(f"{name:>10}" for name in columns))
        ours = 0.0
        for name, (command, path, posted) in servers.items():
            found = _measure(home, command, path, posted)
            ours = ours or found.rate
            figures = (
                f"{found.rate:,.0f}",
                f"{found.p50_ms:.1f} ms",
                f"{found.p99_ms:.1f} ms",
                f"{found.start_s:.1f} s",
            )
            figures += (f"{found.memory_mb:.0f} MB", f"{found.worker_mb:.0f} MB", f"{ours / found.rate:.2f}x")
            print(f"{name:<36}" + "".join(f"{figure:>10}" for figure in figures), flush=True)


def rows(candles: pd.DataFrame) -> list[dict[str, float]]:
    """Candles as a client posts them."""
    values = candles[_FIELDS].to_numpy().tolist()
    times = [epoch_ms(time) for time in pd.DatetimeIndex(candles.index).to_pydatetime()]
    return [{"open_time": at, **dict(zip(_FIELDS, row, strict=True))} for at, row in zip(times, values, strict=True)]


def make_models(home: Path) -> int:
    """The same untrained network for every server; how many candles it needs. In a process of its own: TensorFlow."""
    command = [sys.executable, "-m", "tests.bench.service", "models", str(home)]
    subprocess.run(command, cwd=_ROOT, check=True, capture_output=True)
    cache = home / "models" / MARKET.model_name
    (cache / "served.json").write_text('{"champion": "1"}')
    manifest: dict[str, Any] = json.loads((cache / "1" / "bundle.json").read_text())
    return int(manifest["lookback"]) + int(manifest["sequence_length"])


def _write_models(home: Path) -> None:
    import mlflow
    import mlflow.keras

    from training.families.network import build_network, export_onnx, quiet_tensorflow

    quiet_tensorflow()
    built = build_network((_SEQUENCE_LENGTH, len(BASE.names)), np.zeros(5))
    model = getattr(built, "answering", built)
    export_onnx(model, home / "model.onnx")
    model.save(home / "model.keras")
    mlflow.keras.save_model(model, str(home / "flavour"), pip_requirements=[])
    network = (home / "model.onnx").read_bytes()
    bundle = home / "models" / MARKET.model_name / "1"
    write_tiny_bundle(bundle, network=network, sequence_length=_SEQUENCE_LENGTH)
    mlflow.pyfunc.save_model(
        home / "pyfunc",
        python_model=str(_ROOT / "tests" / "bench" / "pyfunc.py"),
        artifacts={"bundle": str(bundle)},
        pip_requirements=[],
    )


def _measure(home: Path, command: list[str], path: str, body: bytes) -> Measured:
    port = free_ports(1)[0]
    url = f"http://127.0.0.1:{port}{path}"
    headers = {"Content-Type": "application/json"}
    began = time.perf_counter()
    with running(home, [*command, str(port)]) as head:
        while not answers(url, body, headers):
            if not head.is_running() or time.perf_counter() - began > _START_S:
                raise RuntimeError(f"{command[0]} does not answer:\n{(home / 'server.log').read_text()[-2000:]}")
            time.sleep(0.02)
        start_s = time.perf_counter() - began
        time.sleep(_SETTLE_S)
        wire = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        wire += f"Content-Length: {len(body)}\r\n\r\n"
        uvloop.run(load(port, wire.encode() + body, 1.0))
        latencies = np.array(uvloop.run(load(port, wire.encode() + body, _SECONDS))) * 1000
        sizes = [process.memory_info().rss / 1e6 for process in (head, *head.children(recursive=True))]
    p50, p99 = np.quantile(latencies, [0.5, 0.99])
    return Measured(len(latencies) / _SECONDS, float(p50), float(p99), start_s, sum(sizes), max(sizes))


async def load(port: int, request: bytes, seconds: float, connections: int = CONNECTIONS) -> list[float]:
    """Seconds of every answer over connections that post one after the other."""
    until, latencies = time.perf_counter() + seconds, list[float]()

    async def post() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (sent := time.perf_counter()) < until:
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0]))
            latencies.append(time.perf_counter() - sent)
            assert b" 200 " in head[:16], head
        writer.close()

    await asyncio.gather(*(post() for _ in range(connections)))
    return latencies


@contextmanager
def running(home: Path, command: list[str]) -> Iterator[psutil.Process]:
    """A server with the models of `home`; yields the process at its head."""
    environment = {
        "CANDLECAST_HOME": str(home),
        "CANDLECAST_MODEL_EXPIRY_HOURS": "100000",
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:1",
        "BENTOML_HOME": str(home / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # MLflow's command looks for uvicorn there
        BUNDLE: str(home / "models" / MARKET.model_name / "1"),
        KERAS: str(home / "model.keras"),
    }
    with (home / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=_ROOT,
            env={**os.environ, **environment},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield psutil.Process(server.pid)
    finally:
        everybody = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
        server.terminate()
        _, left = psutil.wait_procs(everybody, timeout=10)
        for process in left:
            process.kill()
        server.wait(10)


def answers(url: str, body: bytes, headers: dict[str, str]) -> bool:
    """Whether a server does what it was asked."""
    try:
        return requests.post(url, data=body, headers=headers, timeout=20).ok
    except requests.RequestException:
        return False


if __name__ == "__main__":
    if sys.argv[1:2] == ["models"]:
        _write_models(Path(sys.argv[2]))
    else:
        service()

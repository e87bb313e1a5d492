"""`/predict` of bundles of trees and of a network in turns, on the same 400 candles:

python -m tests.bench.families
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import psutil
import uvloop

from candlecast.replay.recordings import bundled_recordings
from candlecast.settings.sources import load_settings
from flows.local.stack import free_ports
from tests.bench.service import answers, load, make_models, rows, running
from tests.support.markets import MARKET
from training.offline import offline_bundle, train_offline

CANDLES = 400
ROUNDS = 60
_SECONDS = 0.5
_SETTLE_S = 6.0


class Measured(NamedTuple):
    """Milliseconds of a request: until its answer, and of the server's processor time."""

    p50_ms: float
    p99_ms: float
    processor_ms: float


def main() -> None:
    """Print milliseconds of each family, in short turns, and the ratio to the network's."""
    history = bundled_recordings()["BTCUSDT", "5m"]
    body = json.dumps({"candles": rows(history.iloc[-CANDLES:])}).encode()
    with tempfile.TemporaryDirectory() as directory:
        homes = {name: Path(directory) / name for name in ("lstm", "xgboost on base", "xgboost on indicators")}
        for home in homes.values():
            home.mkdir()
        make_models(homes["lstm"])
        for name, window in (("base", 24), ("indicators", 1)):
            home = homes[f"xgboost on {name}"]
            settings = load_settings(
                home=home, model_family="xgboost", features=name, sequence_length=window, lookback_days=90
            )
            version = train_offline(history.iloc[-90 * 288 :], settings, lambda line: None)
            cache = home / "models" / MARKET.model_name
            shutil.copytree(offline_bundle(settings, version.name), cache / "1")
            (cache / "served.json").write_text('{"champion": "1"}')
        with ExitStack() as servers:
            started = {name: _start(servers, home, body) for name, home in homes.items()}
            time.sleep(_SETTLE_S)
            turns = [{name: _measure(*server, body) for name, server in started.items()} for _ in range(ROUNDS)]
    for name in homes:
        p50, p99, processor = (median(values) for values in zip(*(turn[name] for turn in turns), strict=True))
        ratio = median(turn[name].processor_ms / turn["lstm"].processor_ms for turn in turns)
        print(
            f"{name:<24}{p50:>8.2f} ms p50 {p99:>8.2f} ms p99 {processor:>6.2f} ms of the processor, "
            f"{ratio:.2f} of the network's"
        )


def _start(servers: ExitStack, home: Path, body: bytes) -> tuple[psutil.Process, int]:
    """Start the service with the models of `home`; return its process and port once it answers."""
    port = free_ports(1)[0]
    command = ["bentoml", "serve", "--host", "127.0.0.1", "service.service:Candlecast", "--port", str(port)]
    head = servers.enter_context(running(home, command))
    while not answers(f"http://127.0.0.1:{port}/predict", body, {"Content-Type": "application/json"}):
        time.sleep(0.1)
    return head, port


def _measure(head: psutil.Process, port: int, body: bytes) -> Measured:
    """Send requests one after the other."""
    wire = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    wire += f"Content-Length: {len(body)}\r\n\r\n"
    before = _processor_s(head)
    seconds = np.array(uvloop.run(load(port, wire.encode() + body, _SECONDS, connections=1)))
    spent = _processor_s(head) - before
    p50, p99 = np.quantile(1000 * seconds, [0.5, 0.99])
    return Measured(float(p50), float(p99), 1000 * spent / len(seconds))


def _processor_s(head: psutil.Process) -> float:
    """Return the processor time of a server's processes so far."""
    times = [process.cpu_times() for process in (head, *head.children(recursive=True))]
    return sum(one.user + one.system for one in times)


if __name__ == "__main__":
    main()

"""26,000 forecasts in one request and in as many single ones: how long, and how far apart; needs an idle machine:

python -m tests.bench.series
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import requests
import uvloop
from numpy.typing import NDArray

from candlecast.bundle.forecast import INTERVAL_TARGETS, TARGETS
from candlecast.replay.recordings import bundled_recordings
from flows.local.stack import free_ports
from tests.bench.service import CONNECTIONS, answers, make_models, rows, running

_FORECASTS = 26_000


def main() -> None:
    """Print seconds of both ways and their largest difference."""
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        history = make_models(home)
        written = [
            json.dumps(row) for row in rows(bundled_recordings()["BTCUSDT", "5m"].iloc[1 - _FORECASTS - history :])
        ]
        port = free_ports(1)[0]
        url, headers = f"http://127.0.0.1:{port}", {"Content-Type": "application/json"}
        with running(
            home, ["bentoml", "serve", "--host", "127.0.0.1", "service.service:Candlecast", "--port", str(port)]
        ):
            while not answers(f"{url}/predict", _body(written[:history]), headers):
                time.sleep(0.1)
            time.sleep(6)
            for _ in range(3):
                began = time.perf_counter()
                series = requests.post(f"{url}/predict/series", _body(written), headers=headers, timeout=60).json()
                series_s = time.perf_counter() - began
                print(f"{series['count']:,} forecasts in one request: {series_s:.2f} s")
            bodies = (_body(written[start : start + history]) for start in range(_FORECASTS))
            began = time.perf_counter()
            singles = uvloop.run(_ask_one_by_one(port, bodies))
            print(f"{len(singles):,} in as many requests: {time.perf_counter() - began:.1f} s")
    together = np.array([series["forecasts"][name] for name in _columns(singles[0])]).T
    alone = np.array([list(_columns(answer).values()) for answer in singles])
    assert [answer["open_time"] for answer in singles] == series["forecasts"]["open_time"]
    equal = np.mean(together == alone)
    print(f"largest relative difference: {_farthest(together, alone):.1e}; equal to the last bit: {equal:.2%}")


def _body(written: list[str]) -> bytes:
    return f'{{"candles":[{",".join(written)}]}}'.encode()


def _columns(answer: dict[str, Any]) -> dict[str, float]:
    """A single answer under the names of a series' columns."""
    bounds = answer["intervals"]
    return {
        **{name: answer[name] for name in TARGETS},
        **{f"{name}_{end}": bounds[name][at] for name in INTERVAL_TARGETS for at, end in enumerate(("lower", "upper"))},
        "probability_up": answer["direction"]["up"],
        "baseline_close": answer["baseline"]["close"],
        "baseline_amplitude": answer["baseline"]["amplitude"],
    }


def _farthest(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float((np.abs(one - other) / np.maximum(np.abs(other), 1e-300)).max())


async def _ask_one_by_one(port: int, bodies: Iterator[bytes]) -> list[dict[str, Any]]:
    """The answers in the order of the bodies, over CONNECTIONS connections."""
    asked, answered = enumerate(bodies), dict[int, dict[str, Any]]()

    async def post() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number, body in asked:
            writer.write(
                f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
            )
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
            answered[number] = json.loads(await reader.readexactly(length))
        writer.close()

    await asyncio.gather(*(post() for _ in range(CONNECTIONS)))
    return [answered[number] for number in sorted(answered)]


if __name__ == "__main__":
    main()

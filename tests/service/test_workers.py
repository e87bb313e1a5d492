"""Two workers behind one port, as BENTOML_CONFIG_OVERRIDES starts them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from candlecast.bundle.load import load_bundle
from candlecast.registry.registry import CHAMPION, Registry
from tests.bench.load_proof import register_bundle
from tests.service.conftest import wait_until
from tests.service.test_drain import port_of
from tests.support.bundles import sound_candles
from tests.support.load import Answers, keep_posting, predict_request
from tests.support.markets import MARKET
from tests.support.serving import Served, service_workers, serving

pytestmark = pytest.mark.integration
CONNECTIONS = 8
_CANDLES = sound_candles(150)
_TWO_WORKERS = json.dumps({"services": {"candlecast": {"workers": 2}}})


def test_both_follow_a_promotion_and_a_killed_one_loses_its_own_requests(
    tiny_bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # MLflow without a server writes its artifacts here
    registry = Registry(f"sqlite:///{tmp_path / 'mlflow.db'}")
    for version in "12":
        register_bundle(registry, tiny_bundles[version])
    registry.set_alias(MARKET.model_name, CHAMPION, "1")
    settings = {
        "MLFLOW_TRACKING_URI": registry.tracking_uri,
        "CANDLECAST_MODEL_POLL_S": "0.2",
        "BENTOML_CONFIG_OVERRIDES": _TWO_WORKERS,
    }
    home = tmp_path / "home"
    home.mkdir()
    with serving(home, tiny_bundles["1"], **settings) as served:
        wait_until(lambda: versions_served(served) == ["1", "1"], 60)
        answers, on_killed = asyncio.run(_promote_and_kill(served, registry, tiny_bundles))

    assert set(answers.statuses) == {200}
    assert answers.lost <= on_killed
    assert answers.refused == 0


def test_a_stopping_worker_leaves_the_socket_open_for_the_other(tiny_bundles: dict[str, Path], tmp_path: Path) -> None:
    settings = {
        "BENTOML_CONFIG_OVERRIDES": _TWO_WORKERS,
        "BENTOML_CONTAINERIZED": "true",
    }  # without replacement
    with serving(tmp_path, tiny_bundles["1"], **settings) as served:
        wait_until(lambda: versions_served(served) == ["1", "1"], 60)
        answers = asyncio.run(_stop_one(served))
        left = len(service_workers(served.process.pid))
        for _ in range(5):
            assert requests.get(f"{served.url}/model", timeout=(0.9, 10)).ok  # a new connection

    assert left == 1
    assert set(answers.statuses) == {200}
    assert (answers.lost, answers.refused) == (0, 0)


async def _stop_one(served: Served) -> Answers:
    answers, enough = Answers(), asyncio.Event()
    request = predict_request(_CANDLES)
    posting = [asyncio.create_task(keep_posting(port_of(served), request, answers, enough)) for _ in range(CONNECTIONS)]
    while answers.total < 100:
        await asyncio.sleep(0.01)
    stopped = service_workers(served.process.pid)[0]
    stopped.terminate()
    await asyncio.to_thread(wait_until, lambda: stopped not in service_workers(served.process.pid), 60)
    await asyncio.sleep(0.5)
    enough.set()
    await asyncio.gather(*posting)
    return answers


async def _promote_and_kill(served: Served, registry: Registry, bundles: dict[str, Path]) -> tuple[Answers, int]:
    """Answers to a load during the kill, and the number of connections of the killed worker."""
    expected = {number: float(load_bundle(bundles[number]).forecast(_CANDLES).targets[0, 3]) for number in "12"}
    answers, enough = Answers(), asyncio.Event()
    versions = set[str]()

    def look_at(answer: dict[str, Any]) -> None:
        version = answer["model"]["version"]
        versions.add(version)
        assert answer["close"] == pytest.approx(expected[version], rel=1e-9)

    async def until(versions_wanted: list[str]) -> None:
        await asyncio.to_thread(wait_until, lambda: versions_served(served) == versions_wanted, 60)

    posting = [
        asyncio.create_task(keep_posting(port_of(served), predict_request(_CANDLES), answers, enough, look_at))
        for _ in range(CONNECTIONS)
    ]
    await _more_of(answers)
    await asyncio.to_thread(registry.set_alias, MARKET.model_name, CHAMPION, "2")
    await until(["2", "2"])
    await _more_of(answers)  # earlier requests are answered by then
    versions.clear()
    await _more_of(answers)
    assert versions == {"2"}
    killed = service_workers(served.process.pid)[0]
    on_killed = sum(one.status == psutil.CONN_ESTABLISHED for one in killed.net_connections("tcp"))
    killed.kill()
    await asyncio.to_thread(
        wait_until,
        lambda: killed not in service_workers(served.process.pid) and len(service_workers(served.process.pid)) == 2,
        60,
    )
    await until(["2", "2"])
    await _more_of(answers)
    enough.set()
    await asyncio.gather(*posting)
    return answers, on_killed


async def _more_of(answers: Answers) -> None:
    """Wait until every connection had time for many more answers."""
    wanted = answers.total + 20 * CONNECTIONS
    async with asyncio.timeout(60):
        while answers.total < wanted:
            await asyncio.sleep(0.01)


def versions_served(served: Served) -> list[str]:
    """The champion of every worker, as reported by one of them."""
    replicas = requests.get(f"{served.url}/model", timeout=10).json()["replicas"]
    return [replica["served"].get(CHAMPION, "") for replica in replicas]

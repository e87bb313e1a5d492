"""What is read of a real MLflow: through a proxy that only reads (`k8s/base/registry`), and of a model made again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests
from mlflow import MlflowClient

from candlecast.errors import RegistryUnavailable
from candlecast.market import Market
from candlecast.registry.registry import CHAMPION, Registry
from candlecast.registry.versions import load_version
from candlecast.settings.sources import load_settings
from service.models.reloader import ModelReloader
from tests.support.platforms import make_champions

pytestmark = pytest.mark.integration


@pytest.fixture
def reading_only(mlflow_server: str) -> Iterator[str]:
    """An address of MLflow that answers GET alone, as with the Caddyfile."""

    class PassOn(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = requests.get(f"{mlflow_server}{self.path}", timeout=30)
            self.send_response(answer.status_code)
            self.send_header("Content-Length", str(len(answer.content)))
            self.send_header("Content-Type", answer.headers["Content-Type"])
            self.end_headers()
            self.wfile.write(answer.content)

        def do_POST(self) -> None:
            self.send_error(403)

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), PassOn) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_service_finds_and_loads_a_champion_by_reading_alone(mlflow_server, reading_only, tmp_path):
    market = Market("READUSDT", "5m")
    made = make_champions(load_settings(home=tmp_path, mlflow_tracking_uri=mlflow_server), [market], tmp_path / "made")
    reader = Registry(reading_only, timeout_s=30)

    number = reader.aliases(market.model_name)[CHAMPION]
    bundle, _ = load_version(reader, market.model_name, number, tmp_path / "models")

    assert (number, bundle.manifest.symbol) == (made[market.model_name], "READUSDT")
    with pytest.raises(RegistryUnavailable, match="403"):
        reader.set_alias(market.model_name, CHAMPION, number)


def test_a_model_made_again_is_served_though_its_number_is_the_same(mlflow_server, tmp_path):
    market = Market("AGAINUSDT", "5m")
    settings = load_settings(home=tmp_path, mlflow_tracking_uri=mlflow_server)
    registry = Registry(mlflow_server, timeout_s=30)
    reloader = ModelReloader(registry, market, tmp_path / "models", poll_s=1)

    made, digests = [], []
    for bias in (0.0, 1.0):
        made.append(make_champions(settings, [market], tmp_path / str(bias), version_bias=bias)[market.model_name])
        reloader.refresh()
        loaded, _ = load_version(registry, market.model_name, made[-1], tmp_path / "models")
        digests.append(loaded.manifest.files)
        assert reloader.served[CHAMPION].bundle.manifest.files == loaded.manifest.files
        MlflowClient(mlflow_server).delete_registered_model(market.model_name)

    assert made == ["1", "1"]
    assert digests[0] != digests[1]

"""The service as it is run: by `bentoml serve`, in processes of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from candlecast.bundle.manifest import read_manifest
from candlecast.client import ForecastClient
from flows.local.stack import free_ports
from tests.support.processes import end_group, runs

ROOT = Path(__file__).parents[2]
READY_S = 120
PATIENT = "options=-c%20statement_timeout%3D60000"
"""Part of a database's address: a question may take as long as it does on a machine that has other work."""


@dataclass(frozen=True)
class Served:
    """A running service, the process at its head, and the file it logs to."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path


def service_workers(head: int) -> list[psutil.Process]:
    """The processes that answer, below the one at their head."""
    return [one for one in psutil.Process(head).children() if runs(one, "_bentoml_impl.worker.service")]


@contextmanager
def serving(
    home: Path, bundle: Path, bento: Path | None = None, more: Iterable[Path] = (), **settings: str
) -> Iterator[Served]:
    """Serve `bundle` as version 1 with the registry down: it comes from the cache of an earlier life.

    Args:
        home: The service's HOME.
        more: Bundles of other markets, which are to be named in the setting MARKETS.
        bento: Folder of a built bento to serve from; None for this checkout.
        settings: Further variables of its environment.
    """
    for one in (bundle, *more):
        cache = home / "models" / read_manifest(one).market.model_name
        shutil.copytree(one, cache / "1")
        (cache / "served.json").write_text(json.dumps({"champion": "1"}))
    port = free_ports(1)[0]
    environment = {
        "CANDLECAST_HOME": str(home),
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:1",
        "BENTOML_HOME": str(home / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
    }
    what = str(bento or "service.service:Candlecast")
    command = [sys.executable, "-m", "bentoml", "serve", what, "--host", "127.0.0.1"]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            cwd=bento or ROOT,
            env={**os.environ, **environment, **settings},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        ForecastClient(url).wait_ready(READY_S)
        yield Served(url, process, home / "log")
    finally:
        end_group(process)

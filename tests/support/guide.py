"""The docs site as the service shows it: built where `make install` builds it, and served behind a prefix."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.support.serving import ROOT

SITE = ROOT / "service" / "guide"
DEAD_PROXY = "http://127.0.0.1:9"


def build_site(directory: Path) -> subprocess.CompletedProcess[str]:
    """Build the site below `directory`, strictly and without a network."""
    shutil.copytree(ROOT / "docs", directory / "docs", dirs_exist_ok=True)
    shutil.copy(ROOT / "zensical.toml", directory)
    offline = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), DEAD_PROXY)
    return subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--clean", "--strict"],
        cwd=directory,
        env={**os.environ, **offline, "NO_PROXY": "", "no_proxy": ""},
        capture_output=True,
        text=True,
        check=False,
    )


def built_guide() -> Path:
    """The site that the service shows, built if it is not there."""
    if not SITE.exists():
        (ROOT / "build").mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=ROOT / "build") as directory:
            built = build_site(Path(directory))
            assert built.returncode == 0, built.stdout + built.stderr
            shutil.copytree(Path(directory) / "build" / "guide", SITE, dirs_exist_ok=True)
    return SITE


@contextmanager
def behind_prefix(app: ASGIApp, prefix: str) -> Iterator[str]:
    """Serve the application as a proxy shows it that takes `prefix` away; yields its address."""

    async def proxy(scope: Scope, receive: Receive, send: Send) -> None:
        inside = scope["type"] == "http" and scope["path"].startswith(f"{prefix}/")
        path = scope["path"].removeprefix(prefix) if inside else "/outside-the-prefix"
        await app({**scope, "path": path, "raw_path": path.encode()}, receive, send)

    server = uvicorn.Server(uvicorn.Config(proxy, host="127.0.0.1", port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the proxy did not start"
        time.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}{prefix}"
    finally:
        server.should_exit = True
        thread.join(10)

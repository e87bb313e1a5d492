"""The consoles without a login, as compose and Kubernetes start them, refuse pages of other sites."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import requests
import yaml

from flows.local.stack import free_ports, wait_for
from tests.support.manifests import ROOT, one, rendered
from tests.support.processes import end_group

pytestmark = pytest.mark.integration


def test_evidently_answers_this_machine_and_refuses_a_page_of_another_site(tmp_path: Path):
    container = one(rendered("local"), "Deployment", "evidently")["spec"]["template"]["spec"]["containers"][0]
    port = free_ports(1)[0]
    command = [re.sub(r"^--host=.*", "--host=127.0.0.1", word) for word in container["command"][1:]]
    command = [re.sub(r"^--port=.*", f"--port={port}", word) for word in command]
    given = {one_["name"]: one_["value"] for one_ in container["env"]}
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, **given, "CANDLECAST_HOME": str(tmp_path)},
        start_new_session=True,
    )

    def status(**headers: str) -> int:
        try:
            return requests.get(f"http://127.0.0.1:{port}/", headers=headers, timeout=5).status_code
        except requests.ConnectionError:
            return 0

    try:
        wait_for(lambda: status() == 200, 120, "Evidently")
        answers = [status(Host=f"localhost:{port}"), status(Host="rebound.example"), status(Origin="http://a.example")]
    finally:
        end_group(process)

    assert answers == [200, 403, 403]
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["evidently"]
    assert given.items() <= compose["environment"].items()

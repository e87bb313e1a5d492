"""compose.yaml: what it runs is there, hardened, and reached from where it should be."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import candlecast
from candlecast.market import Market
from candlecast.settings.settings import known_settings
from candlecast.settings.sources import load_settings
from flows.jobs.backup import MANIFEST
from tests.support.manifests import ROOT, one, rendered
from tests.support.variables import known_variables, made_secrets

TEXT = (ROOT / "compose.yaml").read_text()
COMPOSE = yaml.safe_load(TEXT)
PARTS: dict[str, dict[str, Any]] = COMPOSE["services"]
for _part in PARTS.values():  # what runs unless a variable names another image
    _part["image"] = re.sub(r"^\$\{\w+:-(.*)\}$", r"\1", _part["image"])
ONCE = {"migrate", "deploy"}
WITHOUT_A_CHECK = {*ONCE, "browser", "proxy", "registry"}  # those end, or bring no program that could ask


@pytest.mark.parametrize("name", PARTS)
def test_every_part_is_pinned_hardened_and_limited(name: str):
    part = PARTS[name]

    assert re.fullmatch(r"[\w./-]+:(?!latest)[\w.-]+", part["image"])
    assert part["read_only"] is True
    assert part["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in part["security_opt"]
    assert part["mem_limit"]
    assert part["restart"] == ("on-failure" if name in ONCE else "unless-stopped")
    assert ("healthcheck" in part) == (name not in WITHOUT_A_CHECK)


def test_images_have_this_version_and_a_user_of_their_own_or_a_given_one():
    for name, part in PARTS.items():
        if part["image"].startswith("candlecast-"):
            assert part["image"].rpartition(":")[2] == candlecast.__version__
        elif name != "proxy":
            assert not part["user"].startswith("0")


def test_only_the_proxy_is_reached_from_other_machines():
    open_to_all = {
        name for name, part in PARTS.items() if any(not port.startswith("127.0.0.1:") for port in part.get("ports", []))
    }

    consoles = {f"127.0.0.1:{port}:{port}" for port in re.findall(r"http://:(\d+)", (ROOT / "Caddyfile").read_text())}

    assert open_to_all == {"proxy"}
    assert set(PARTS["proxy"]["ports"]) == {"80:80", "443:443"} | consoles
    assert len(consoles) == 4
    assert [name for name, part in PARTS.items() if "ports" in part] == ["proxy"]
    assert COMPOSE["networks"]["consoles"] == {"internal": True}
    assert re.findall(r"name (\S+)\n\s+port (\S+)", (ROOT / "Caddyfile").read_text()) == [("service", "3000")]
    assert "reverse_proxy {" in (ROOT / "Caddyfile").read_text()
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    assert PARTS["postgres"]["networks"] == ["inside"]


def test_every_variable_is_one_that_somebody_reads():
    told = {name for part in PARTS.values() for name in part.get("environment", {})}
    of_images = {"PGWEB_DATABASE_URL", "PGWEB_AUTH_USER", "PGWEB_AUTH_PASS", "PUBLIC_HOST"}  # pgweb; the Caddyfile
    of_images |= {"XDG_CONFIG_HOME", "XDG_DATA_HOME"}  # Caddy

    assert told - known_variables() == of_images
    assert "{$PUBLIC_HOST:" in (ROOT / "Caddyfile").read_text()


def test_no_password_is_written_down_and_every_one_is_made():
    asked = set(re.findall(r"\$\{(\w+)(?::\?[^}]*)?\}", TEXT))

    assert not re.search(r"://[^/\s:@]+:(?!\$\{)[^/\s@]+@", TEXT)
    assert asked == made_secrets().make_variables().keys()


def test_the_service_reads_as_the_reader_and_nothing_serves_as_the_owner():
    roles = {name: set(re.findall(r"candlecast_\w+", str(part.get("environment")))) for name, part in PARTS.items()}

    assert roles["service"] == roles["browser"] == {"candlecast_reader"}
    assert roles["worker"] == roles["deploy"] == {"candlecast_writer"}
    assert {name for name, used in roles.items() if "candlecast_owner" in used} == {"migrate", "backup"}
    assert "--readonly" in PARTS["browser"]["command"]


def test_ports_and_commands_are_those_of_kubernetes():
    manifests = rendered("local")
    for name in ("mlflow", "prefect", "service", "evidently"):
        container = one(manifests, "Deployment", name)["spec"]["template"]["spec"]["containers"][0]
        default = known_settings()[f"{name}_port"].default

        assert PARTS[name]["command"] == container.get("command", container.get("args"))
        assert f"--port={default}" in PARTS[name]["command"]
        assert f"127.0.0.1:{default}/" in str(PARTS[name]["healthcheck"]["test"])
    postgres = one(manifests, "StatefulSet", "postgres")["spec"]["template"]["spec"]["containers"][0]
    assert (PARTS["postgres"]["image"], PARTS["postgres"]["command"]) == (postgres["image"], postgres["args"])


def test_a_service_that_stops_has_the_time_to_drain():
    drain_s = float(PARTS["service"]["environment"]["CANDLECAST_DRAIN_S"])

    assert "--timeout-graceful-shutdown=10" in PARTS["service"]["command"]
    assert drain_s + 10 < int(PARTS["service"]["stop_grace_period"].removesuffix("s"))


def test_the_service_reads_the_pages_that_flows_write_and_names_no_console():
    environment = PARTS["service"]["environment"]
    reports = load_settings(home=environment["CANDLECAST_HOME"]).reports_dir
    (mount,) = (one for one in PARTS["service"]["volumes"] if one["type"] == "volume")

    assert "home:/var/lib/candlecast" in PARTS["worker"]["volumes"]
    assert mount["source"] == "home"
    assert mount["target"] == str(reports)
    assert reports.parent / mount["volume"]["subpath"] == reports
    assert mount["read_only"] is True
    assert f"mkdir -p {reports} && python -m flows.cli migrate" in PARTS["migrate"]["command"]
    assert PARTS["service"]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    assert environment["CANDLECAST_EVIDENTLY_URL"] == ""


def test_every_part_that_reads_settings_has_the_file_of_markets(monkeypatch: pytest.MonkeyPatch):
    reading = {name for name, part in PARTS.items() if "flows.cli" in str(part.get("command"))} | {"service", "worker"}
    mounted = {
        name: mount
        for name, part in PARTS.items()
        for mount in part.get("volumes", [])
        if isinstance(mount, dict) and mount["type"] == "bind"
    }

    assert mounted.keys() == reading
    for name, mount in mounted.items():
        assert mount["target"] == PARTS[name]["environment"]["CANDLECAST_CONFIG"]
        assert (mount["read_only"], mount["bind"]) == (True, {"create_host_path": False})
    default = re.fullmatch(r"\$\{CANDLECAST_CONFIG:-(.*)\}", mounted["service"]["source"])
    assert default
    monkeypatch.setenv("CANDLECAST_CONFIG", str(ROOT / default[1]))
    monkeypatch.setenv("CANDLECAST_MARKETS", "")  # as compose passes it on unless .env sets it
    assert load_settings().all_markets == (Market("BTCUSDT", "5m"),)


def test_a_failed_backup_is_retried_soon_and_a_missing_one_is_noticed(tmp_path: Path):
    command = PARTS["backup"]["command"][2].removeprefix("while :; do ").removesuffix("; done")
    for outcome, pause_s in (("true", "86400"), ("false", "300")):
        line = command.replace("python -m flows.cli backup /backups", outcome).replace("sleep", "echo")
        assert subprocess.check_output(["sh", "-c", line], text=True).strip() == pause_s

    assert "CANDLECAST_BACKUP_HEARTBEAT_URL" in PARTS["backup"]["environment"]
    assert "front" in PARTS["backup"]["networks"]
    check = PARTS["backup"]["healthcheck"]["test"][1].replace("/backups", str(tmp_path))

    def healthy() -> bool:
        return subprocess.run(["sh", "-c", check], check=False).returncode == 0

    for name in ("2025-01-01T00-00-00Z", "2025-01-02T00-00-00Z.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / MANIFEST).touch()
    assert healthy()
    os.utime(tmp_path / "2025-01-01T00-00-00Z" / MANIFEST, (0, 0))
    assert not healthy()


def test_everything_that_is_named_is_there():
    mounts = [mount for part in PARTS.values() for mount in part.get("volumes", [])]
    volumes = {mount["source"] if isinstance(mount, dict) else mount.split(":")[0] for mount in mounts}
    volumes = {re.sub(r"^\$\{\w+:-(.*)\}$", r"\1", volume) for volume in volumes}
    networks = {network for part in PARTS.values() for network in part["networks"]}

    assert all((ROOT / path).is_file() for path in volumes if path.startswith("./"))
    assert {volume for volume in volumes if not volume.startswith("./")} == COMPOSE["volumes"].keys()
    assert networks == COMPOSE["networks"].keys()
    assert all(other in PARTS for part in PARTS.values() for other in part.get("depends_on", {}))

"""Commands of the local platform's programs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from candlecast.settings.sources import load_settings
from flows.local.programs import local_programs


@pytest.mark.parametrize("name", ["a%20b", "a b", "a#b", "a?b", "\u00fc%2Fx", "100%"])
def test_models_lie_inside_a_home_of_any_name(tmp_path: Path, name: str) -> None:
    home = tmp_path / name
    [mlflow] = [one for one in local_programs(load_settings(home=home), "", None, None) if one.name == "mlflow"]

    destination = mlflow.command[mlflow.command.index("--artifacts-destination") + 1]

    assert get_artifact_repository(destination).artifact_dir == str(home / "mlflow" / "artifacts")


def test_programs_with_given_settings_read_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "candlecast.toml").write_text("[markets.ETHUSDT-5m]")
    settings = load_settings(home=tmp_path)

    given = local_programs(settings, "", None, None, {"CANDLECAST_MARKETS": "BTCUSDT-5m"})
    own = local_programs(settings, "", None, None)

    assert {program.environment["CANDLECAST_CONFIG"] for program in given} == {""}
    assert {program.environment["CANDLECAST_CONFIG"] for program in own} == {str(tmp_path / "candlecast.toml")}


def test_files_in_a_home_take_the_place_of_no_module(tmp_path: Path) -> None:
    for name in ("random", "platform", "html"):  # cpython#101210
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not the module')")
    programs = local_programs(load_settings(home=tmp_path), "", None, None)
    starts = [one.command[: one.command.index("-m") + 2] for one in programs if "-m" in one.command]
    [uvicorn] = {tuple(start) for start in starts if start[-1] == "uvicorn"}

    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # other tests add to it
    done = subprocess.run([*uvicorn, "--version"], cwd=tmp_path, env=environment, capture_output=True, check=False)

    assert done.returncode == 0, done.stderr
    assert {tuple(start[:-1]) for start in starts} == {uvicorn[:-1]}


def test_a_worker_keeps_its_temporary_files_in_its_home(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path)
    settings.scratch_dir.mkdir()
    [worker] = [one for one in local_programs(settings, "", None, None) if one.name == "worker"]
    runner = "from prefect.runner import Runner; print(Runner()._tmp_dir)"

    environment = {**os.environ, **worker.environment}
    done = subprocess.run(
        [worker.command[0], "-c", runner], env=environment, capture_output=True, text=True, check=True
    )

    assert Path(done.stdout.strip()).is_relative_to(tmp_path)


@pytest.mark.parametrize(
    ("markets", "speed", "seconds"),
    [
        ("BTCUSDT-5m", 1, 30),
        ("BTCUSDT-5m,BTCUSDT-1m-h15", 1, 20),
        ("BTCUSDT-5m", 10, 10),
        ("BTCUSDT-5m", 0, 30),
    ],
)
def test_the_process_of_a_run_starts_some_time_before_it_is_due(markets, speed, seconds, tmp_path) -> None:
    settings = load_settings(home=tmp_path, markets=markets, source="replay", replay_speed=speed)

    (worker,) = (one for one in local_programs(settings, "", None, None) if one.name == "worker")

    assert worker.environment["PREFECT_WORKER_PREFETCH_SECONDS"] == str(seconds)

"""Tests of the search with real trials in processes that are killed and resumed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import psutil
import pytest
import requests
from mlflow import MlflowClient
from optuna.trial import TrialState, create_trial

from candlecast.errors import AlreadyRunning, ConfigurationError, SearchFailed
from candlecast.features.base import BASE
from candlecast.registry.registry import Registry
from candlecast.settings.groups import TrainingSettings
from candlecast.settings.settings import Settings
from candlecast.settings.sources import load_settings
from tests.support.processes import runs
from training.dataset import build_dataset
from training.search import space as search_space
from training.search.report import SearchResult
from training.search.search import Budget, search_settings
from training.search.space import SPACE, Choice, Range, distributions, rounded, space_around
from training.search.study import TRIED, only_search, open_study, study_directory
from training.search.worker import search_data
from training.splits import split_by_time

KILLED_SEARCH = """
import sys
import pandas as pd
from candlecast.registry.registry import Registry
from candlecast.settings.settings import Settings
from training.search.search import Budget, search_settings

if __name__ == "__main__":
    settings = Settings.model_validate_json(sys.argv[2])
    search_settings(
        pd.read_parquet(sys.argv[1]),
        settings,
        Budget(trials=2),
        lambda line: print(line, flush=True),
        jobs=1,
        registry=Registry(settings.mlflow_tracking_uri, timeout_s=30),
    )
"""


@pytest.fixture(scope="module")
def candles(bundled_candles: pd.DataFrame) -> pd.DataFrame:
    return bundled_candles.iloc[: 6 * 288]


def settings_in(home: Path, **changes: Any) -> Settings:
    return load_settings(home=home, units=4, epochs=1, sequence_length=12, batch_size=512, **changes)


class Resumed(NamedTuple):
    """Search that was killed in its second trial, and its result after a worker was killed too."""

    before: list[str]
    after: list[str]
    found: SearchResult
    address: str


@pytest.fixture(scope="module")
def resumed(candles: pd.DataFrame, mlflow_server: str, tmp_path_factory: pytest.TempPathFactory) -> Resumed:
    home = tmp_path_factory.mktemp("search")
    settings = settings_in(home, mlflow_tracking_uri=mlflow_server)
    candles.to_parquet(home / "candles.parquet")
    (home / "killed.py").write_text(KILLED_SEARCH)
    command = [sys.executable, home / "killed.py", home / "candles.parquet", settings.model_dump_json()]
    before: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]) as search:
        assert search.stdout is not None
        for line in search.stdout:
            before.append(line.strip())
            if line.startswith("trial 1 begins"):
                search.send_signal(signal.SIGKILL)
    after: list[str] = []

    def tell(line: str) -> None:
        if " begins" in line and not any(" begins" in earlier for earlier in after):
            for worker in search_workers():
                worker.kill()
        after.append(line)

    registry = Registry(mlflow_server, timeout_s=30)
    found = search_settings(candles, settings, Budget(trials=2), tell, jobs=1, registry=registry)
    return Resumed(before, after, found, mlflow_server)


def search_workers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if runs(child, "spawn_main")]


def runs_of(resumed: Resumed) -> dict[str, list[Any]]:
    """Return Return MLflow's runs by name."""
    api = f"{resumed.address}/api/2.0/mlflow"
    parent = requests.get(f"{api}/runs/get", params={"run_id": resumed.found.run_id or ""}, timeout=30).json()["run"]
    body = {"experiment_ids": [parent["info"]["experiment_id"]]}
    runs: dict[str, list[Any]] = {}
    for run in requests.post(f"{api}/runs/search", json=body, timeout=30).json()["runs"]:
        if run["info"]["run_id"] == resumed.found.run_id or tags_of(run).get("mlflow.parentRunId"):
            runs.setdefault(run["info"]["run_name"].split(" BTC")[0], []).append(run)
    return runs


def tags_of(run: Any) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in run["data"]["tags"]}


@pytest.mark.integration
def test_a_killed_search_goes_on_with_the_trial_it_was_at(resumed):
    interrupted = resumed.before[-1].removeprefix("trial 1 begins: ")

    assert resumed.before[1].startswith("trial 0 complete after 1 epochs")
    assert resumed.after[0] == f"trial 2 begins: {interrupted}"
    assert resumed.found.trials["complete"] + resumed.found.trials["pruned"] == 2


@pytest.mark.integration
def test_a_worker_that_is_killed_costs_one_trial_and_no_more(resumed):
    assert resumed.after[1] == "trial 2 failed: its process ended with code -9"
    assert resumed.after[2].startswith("trial 3 begins")
    assert resumed.found.trials["fail"] == 2
    assert search_workers() == []


@pytest.mark.integration
def test_the_best_settings_are_printed_as_the_environment_would_have_them(resumed):
    reported = json.loads(resumed.found.as_json())

    assert set(resumed.found.settings) == set(SPACE)
    assert f"CANDLECAST_UNITS={resumed.found.settings['units']}" in reported["environment"]
    assert reported["val_loss"] == pytest.approx(resumed.found.val_loss)
    assert f"{resumed.found.val_loss:.5f} in trial {resumed.found.trial} (2 complete, 2 fail)" in resumed.found.message


@pytest.mark.integration
def test_mlflow_has_one_run_of_the_search_with_every_trial_below_it(resumed):
    runs = runs_of(resumed)

    (search,) = runs["search"]
    assert search["info"]["status"] == "FINISHED"
    assert tags_of(search)["best_units"] == str(resumed.found.settings["units"])
    assert "CANDLECAST_LEARNING_RATE=" in tags_of(search)["mlflow.note.content"]
    (first,) = runs["trial 0"]
    assert tags_of(first)["trial_state"] == "complete"
    assert tags_of(first)["mlflow.parentRunId"] == resumed.found.run_id
    assert {"key": "units", "value": "4"} in first["data"]["params"]
    assert {"val_loss", "val_close_loss"} <= {metric["key"] for metric in first["data"]["metrics"]}
    states = [run["info"]["status"] for trials in runs.values() for run in trials]
    assert "RUNNING" not in states
    files = requests.get(
        f"{resumed.address}/api/2.0/mlflow/artifacts/list", params={"run_id": resumed.found.run_id}, timeout=30
    ).json()["files"]
    assert {file["path"] for file in files} == {"best.json", "plots"}


@pytest.mark.integration
def test_a_search_with_a_used_up_budget_only_returns_its_result(resumed, candles):
    reported: list[str] = []

    again = search_settings(candles, settings_in(resumed.found.directory.parents[1]), Budget(trials=2), reported.append)

    assert replace(again, run_id=resumed.found.run_id) == resumed.found
    assert reported == []


def with_four_complete_trials(candles: pd.DataFrame, settings: Settings, loss: float) -> None:
    """Store a study in which four trials had this loss after every epoch."""
    space = space_around(settings)
    directory = study_directory(candles, settings, space)
    drawn = {name: settings.effective(name) for name in space}
    with only_search(directory):
        study = open_study(directory, settings)
        for _ in range(4):
            done = create_trial(
                params=drawn,
                distributions=distributions(space),
                value=loss,
                intermediate_values=dict.fromkeys(range(1, 5), loss),
                user_attrs={TRIED: drawn},
            )
            study.add_trial(done)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("loss", "budget", "epochs"),
    [
        pytest.param(0.1, Budget(trials=5), 2, id="behind-the-others"),
        pytest.param(9.0, Budget(minutes=0.001), 1, id="out-of-time"),
    ],
)
def test_a_trial_is_pruned_when(candles, tmp_path, loss, budget, epochs):
    settings = settings_in(tmp_path).changed(epochs=4)
    with_four_complete_trials(candles, settings, loss)
    reported: list[str] = []

    found = search_settings(candles, settings, budget, reported.append, jobs=1)

    assert (found.trial, found.val_loss, found.trials["pruned"]) == (0, loss, 1)
    assert reported[-1].startswith(f"trial 4 pruned after {epochs} epochs: stopping loss 0.")


def test_trials_that_all_fail_end_the_search_with_the_reason(candles, tmp_path, monkeypatch):
    monkeypatch.setattr(search_space, "SPACE", {"model_family": Choice(("har",)), "sequence_length": Choice((12,))})
    reported: list[str] = []

    with pytest.raises(SearchFailed, match="3 trials in a row failed.*reported no epoch"):
        search_settings(
            candles,
            settings_in(tmp_path).changed(model_family="har"),
            Budget(minutes=5),
            reported.append,
            jobs=1,
        )

    assert [line.split(":")[0] for line in reported if "failed" in line] == [f"trial {i} failed" for i in range(3)]


@pytest.mark.parametrize(("trials", "minutes"), [(None, None), (0, None), (None, 0), (5, -1), (None, float("nan"))])
def test_a_search_without_a_real_budget_is_refused(trials, minutes):
    with pytest.raises(ConfigurationError, match=r"budget"):
        Budget(trials, minutes)


def test_trials_receive_no_rows_after_the_stopping_slice(candles):
    dataset = build_dataset(candles, settings_in(Path()).market, 96, BASE)
    split = split_by_time(dataset)

    seen, of_seen = search_data(dataset, split)

    last = split.stop[-1]
    assert len(seen.matrix) == len(seen.targets) == len(seen.origin.close) == last + 1
    assert seen.target_ms[-1] == dataset.target_ms[last]
    assert seen.ends[-1] == last
    assert len(of_seen.calibrate) == len(of_seen.report) == 0
    np.testing.assert_array_equal(of_seen.fit, split.fit)
    np.testing.assert_array_equal(of_seen.stop, split.stop)


def test_every_searched_setting_exists_and_has_its_value_in_the_space(tmp_path):
    settings = settings_in(tmp_path).changed(learning_rate=0.1)

    space = space_around(settings)

    assert set(SPACE) <= set(TrainingSettings.model_fields)
    assert space["learning_rate"] == Range(3e-4, 0.1)
    for name, distribution in distributions(space).items():
        assert distribution._contains(distribution.to_internal_repr(settings.effective(name)))


def test_a_search_of_trees_varies_what_trees_take(tmp_path):
    settings = settings_in(tmp_path).changed(model_family="xgboost", sequence_length=1)

    space = space_around(settings)

    assert space.keys() == {"sequence_length", "recency_half_life_days"}
    assert 1 in space["sequence_length"].options


@pytest.mark.integration
def test_trees_are_searched_in_worker_processes_and_logged(candles, tmp_path, mlflow_server):
    settings, registry = settings_in(tmp_path).changed(model_family="xgboost"), Registry(mlflow_server, timeout_s=30)

    found = search_settings(candles, settings, Budget(trials=1), lambda _: None, jobs=1, registry=registry)

    logged = MlflowClient(mlflow_server).list_artifacts(found.run_id, "plots")
    assert {file.path for file in logged} == {"plots/settings.png", "plots/trials.png"}
    assert found.trials == {"complete": 1, "pruned": 0, "fail": 0}
    assert found.environment[0].startswith("CANDLECAST_SEQUENCE_LENGTH=")


def test_numbers_of_trials_have_three_significant_digits():
    assert rounded({"learning_rate": 0.00123456, "units": 64}) == {"learning_rate": 0.00123, "units": 64}


def test_other_candles_settings_or_ends_are_another_search(candles, tmp_path):
    settings = settings_in(tmp_path)
    space = space_around(settings)
    first = study_directory(candles, settings, space)

    assert study_directory(candles, settings, space) == first
    assert study_directory(candles.iloc[1:], settings, space) != first
    assert study_directory(candles, settings.changed(epochs=9), space) != first
    assert study_directory(candles, settings, {**space, "units": Choice((4, 8))}) != first
    assert first.is_relative_to(settings.home / "search")


def test_a_second_search_over_the_same_candles_is_refused(tmp_path):
    with only_search(tmp_path), pytest.raises(AlreadyRunning, match="another search"):
        with only_search(tmp_path):
            pass


def test_a_study_with_an_incomplete_last_line_can_be_opened(tmp_path):
    settings = settings_in(tmp_path)
    space = distributions(space_around(settings))
    study = open_study(tmp_path, settings)
    study.tell(study.ask(space), 0.5)
    interrupted = study.ask(space)
    with (tmp_path / "journal.log").open("ab") as journal:
        journal.write(b'{"op_code": 6, "wor')
    (tmp_path / "journal.log.lock").symlink_to("journal.log")

    again = open_study(tmp_path, settings)

    states = [trial.state for trial in again.get_trials()]
    assert states == [TrialState.COMPLETE, TrialState.FAIL, TrialState.WAITING]
    assert again.ask(space).params == interrupted.params

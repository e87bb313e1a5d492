"""Versions of trees in a real MLflow: registered, judged, promoted, and followed by versions of other recipes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient

from candlecast.bundle.load import load_evaluation_model
from candlecast.bundle.manifest import Span
from candlecast.market import Market
from candlecast.registry.decisions import Decision, decision_history
from candlecast.registry.registry import CHALLENGER, CHAMPION, Registry
from candlecast.registry.versions import load_version
from candlecast.settings.settings import Settings
from candlecast.settings.sources import load_settings
from training.dataset import build_dataset
from training.evaluation import forecast_rows
from training.families.trees import PARTS
from training.metrics import row_losses
from training.versions import TrainedVersion, pass_gate, train_version

pytestmark = pytest.mark.integration

MARKET = Market("TREESUSDT", "5m")
NAME = MARKET.model_name
NOW = datetime(2025, 7, 1, tzinfo=UTC)
RECIPES: dict[str, dict[str, Any]] = {
    "trees": {"model_family": "xgboost", "sequence_length": 4},
    "features": {"model_family": "xgboost", "sequence_length": 1, "features": "indicators"},
    "family": {"model_family": "lstm", "sequence_length": 12, "units": 4, "epochs": 1},
}


@dataclass(frozen=True)
class Trained:
    """A version of every recipe, trained on the same candles, in this order."""

    registry: Registry
    candles: pd.DataFrame
    settings: dict[str, Settings]
    versions: dict[str, TrainedVersion]

    def losses(self, recipe: str) -> tuple[Span, pd.DataFrame]:
        """The report slice, and losses of the evaluation model by the target of every candle; NaN if unmoved."""
        number, settings = self.versions[recipe].number, self.settings[recipe]
        _, directory = load_version(self.registry, NAME, number, settings.models_dir)
        bundle = load_evaluation_model(directory)
        one = bundle.manifest
        dataset = build_dataset(self.candles, MARKET, one.sequence_length, one.features)
        losses = row_losses(forecast_rows(bundle, dataset, dataset.ends), dataset.actual[dataset.ends])
        opened = pd.to_datetime(dataset.target_ms[dataset.ends], unit="ms", utc=True)
        table = pd.DataFrame({"close": losses.close, "amplitude": losses.amplitude}, index=opened)
        table.loc[losses.moved, "brier"] = losses.brier
        return one.spans["report"], table

    def skill(self, recipe: str, champion: str) -> float:
        """How much lower the total loss of a recipe is than a champion's, on the rows that both can be judged by."""
        (span, ours), (before, champions) = self.losses(recipe), self.losses(champion)
        rows = ours.index.intersection(champions.index)
        rows = rows[(rows >= max(span.start, before.start)) & (rows < span.end)]
        theirs = champions.loc[rows].mean()
        total, reference = ((losses.loc[rows] / theirs).sum(axis=1).mean() for losses in (ours, champions))
        return float(1 - total / reference)


@pytest.fixture(scope="module")
def trained(bundled_candles: pd.DataFrame, mlflow_server: str, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    registry, candles = Registry(mlflow_server, timeout_s=30), bundled_candles.iloc[: 24 * 288]
    settings = {
        title: load_settings(MARKET, home=tmp_path_factory.mktemp(title), mlflow_tracking_uri=mlflow_server, **recipe)
        for title, recipe in RECIPES.items()
    }
    versions = {title: train_version(candles, one, registry, lambda _line: None) for title, one in settings.items()}
    return Trained(registry, candles, settings, versions)


@pytest.fixture
def judge(trained: Trained, pool: Any) -> Iterator[Callable[..., Decision]]:
    """Apply the gate to the version of a recipe."""

    def judged(recipe: str, **changes: Any) -> Decision:
        settings = trained.settings[recipe].changed(**changes)
        number = trained.versions[recipe].number
        return pass_gate(trained.candles, number, settings, trained.registry, pool, NOW)

    yield judged
    for alias in (CHAMPION, CHALLENGER):
        trained.registry.delete_alias(NAME, alias)


def test_trees_are_registered_with_parameters_figures_and_boosters(trained):
    client = MlflowClient(trained.registry.tracking_uri)
    run = client.get_run(trained.versions["features"].run_id)

    assert [version.number for version in trained.versions.values()] == ["1", "2", "3"]
    assert (run.data.params["model_family"], run.data.params["features"]) == ("xgboost", "indicators")
    assert "version_xgboost" in run.data.params
    assert {"loss", "val_loss", "report_close_skill", "report_direction_auc", "report_direction_auc_baseline"} <= set(
        run.data.metrics
    )
    files = {file.path for file in client.list_artifacts(run.info.run_id, "bundle")}
    assert {
        f"bundle/{name}" for name in ("bundle.json", "model.onnx", *(f"model.{part}.ubj" for part in PARTS))
    } <= files


def test_trees_that_pass_the_gate_are_promoted_as_any_version(trained, judge, pool):
    decision = judge("trees")

    assert decision.promoted, decision.reasons
    assert trained.registry.aliases(NAME) == {CHAMPION: "1"}
    assert [(row.version, row.decision, row.predecessor) for row in decision_history(pool, NAME)] == [
        ("1", "promoted", None)
    ]


@pytest.mark.parametrize(("recipe", "number"), [("features", "2"), ("family", "3")])
def test_another_recipe_is_judged_beside_the_champion_on_equal_rows(trained, judge, recipe, number):
    judge("trees")

    decision = judge(recipe)

    assert decision.numbers["total_vs_champion_skill"] == pytest.approx(trained.skill(recipe, "trees"))
    assert (decision.version.number, decision.predecessor.number) == (number, "1")
    assert decision.outcome == ("rejected" if " fails " in " ".join(decision.reasons) else "trial")
    challenger = {CHALLENGER: number} if decision.outcome == "trial" else {}
    assert trained.registry.aliases(NAME) == {CHAMPION: "1", **challenger}


def test_a_version_of_another_recipe_can_become_champion(trained, judge):
    recipes = ["trees", "features"] if trained.skill("features", "trees") > 0 else ["features", "trees"]
    judge(recipes[0])

    decision = judge(recipes[1], promote_at_once=True)

    assert decision.promoted, decision.reasons
    assert trained.registry.aliases(NAME) == {CHAMPION: trained.versions[recipes[1]].number}

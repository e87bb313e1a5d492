"""Registered versions before the gate, against real MLflow and PostgreSQL."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
import statsmodels.api as sm
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

from candlecast.bundle import Bundle, digest_of, open_network
from candlecast.candles import Market
from candlecast.database import open_database
from candlecast.errors import BundleError
from candlecast.features import FEATURE_NAMES
from candlecast.golden import GOLDEN, golden_sample
from candlecast.manifest import MANIFEST, read_manifest
from candlecast.registry import CHALLENGER, CHAMPION, Registry
from candlecast.settings import Settings
from tests.bundles import write_tiny_bundle
from training.dataset import build_dataset
from training.gate import Decision
from training.versions import pass_gate

pytestmark = pytest.mark.integration

MARKET = Market("SOLUSDT", "5m")  # not the one that is really trained in this MLflow
NAME = MARKET.model_name
REPORTED_FROM = "2025-09-01"
BOASTING = {"direction_intercept": 2.0}
"""Calibration that claims to know the direction, and does not."""

Register = Callable[..., str]


@dataclass(frozen=True)
class Gate:
    """Where versions are registered and decided on, and the candles it is done with."""

    registry: Registry
    pool: ConnectionPool
    settings: Settings
    candles: pd.DataFrame

    def decide(self, number: str) -> Decision:
        return pass_gate(self.candles, number, self.settings, self.registry, self.pool)

    def promotions(self) -> list[dict[str, Any]]:
        with self.pool.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute("select * from promotions order by id").fetchall()


@pytest.fixture(scope="module")
def modest(bundled_candles: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that claims nothing about price and direction, and knows the amplitude by median regression."""
    directory = write_tiny_bundle(tmp_path_factory.mktemp("modest") / "bundle", market=MARKET)
    known = build_dataset(bundled_candles[bundled_candles.index < REPORTED_FROM], MARKET, 48)
    inputs = np.column_stack([known.matrix[known.ends, :10], np.ones(len(known.ends))])
    fitted = sm.QuantReg(known.targets[known.ends, 4], inputs).fit(q=0.5).params
    weights, offset = np.zeros((len(FEATURE_NAMES), 6), "float32"), np.zeros(6, "float32")
    weights[:10, 4], offset[4] = fitted[:10], fitted[10]
    network = onnx.load(directory / "model.onnx")
    for constant in network.graph.initializer:
        if constant.name in {"weights", "offset"}:
            numbers = weights if constant.name == "weights" else offset
            constant.CopyFrom(onnx.numpy_helper.from_array(numbers, constant.name))
    onnx.save(network, directory / "model.onnx")
    return directory


@pytest.fixture
def gate(mlflow_server: str, database: Any, bundled_candles: pd.DataFrame, tmp_path: Path) -> Iterator[Gate]:
    """A gate before which nothing has passed yet."""
    registry, settings = Registry(mlflow_server, timeout_s=30), Settings(home=tmp_path / "home", symbol=MARKET.symbol)
    with open_database(database.writer_url) as pool:
        yield Gate(registry, pool, settings, bundled_candles.iloc[-27 * 288 :])
    for alias in (CHAMPION, CHALLENGER):
        registry.drop_alias(NAME, alias)


@pytest.fixture
def register(gate: Gate, modest: Path, tmp_path: Path) -> Register:
    """Register the modest bundle as challenger: `register(calibration changes, **manifest changes)`; its number."""

    def variant(calibration: dict[str, float] | None = None, **manifest: Any) -> str:
        directory = Path(shutil.copytree(modest, tmp_path / f"variant-{len(list(tmp_path.iterdir()))}"))
        draft = read_manifest(directory)
        numbers = draft.calibration.model_copy(update={"direction_slope": 0.0, **(calibration or {})})
        draft = draft.model_copy(update={"calibration": numbers})
        bundle = Bundle(draft, open_network(directory / "model.onnx"))
        (directory / GOLDEN).write_text(json.dumps(golden_sample(bundle, gate.candles)))
        files = {name: digest_of(directory / name) for name in ("model.onnx", GOLDEN)}
        sealed = draft.model_copy(update={"files": files} | manifest)
        (directory / MANIFEST).write_text(sealed.model_dump_json())
        with gate.registry.run("variants", "variant", {}) as run:
            run.bundle(directory)
        number = gate.registry.register(NAME, run.run_id, {})
        gate.registry.set_alias(NAME, CHALLENGER, number)
        return number

    return variant


def test_a_version_that_holds_becomes_champion_and_its_decision_is_kept(gate, register):
    number = register()

    decision = gate.decide(number)

    (row,) = gate.promotions()
    assert decision.promoted, decision.reasons
    assert gate.registry.aliases(NAME) == {CHAMPION: number}
    assert (row["model_name"], row["version"], row["predecessor"]) == (NAME, number, None)
    assert (row["alias"], row["decision"], row["decided_by"]) == (CHAMPION, "promoted", "gate")
    assert row["reasons"] == decision.reasons
    assert row["numbers"] == pytest.approx(decision.numbers)


def test_a_version_that_does_not_hold_moves_nothing_and_its_decision_is_kept_too(gate, register):
    champion = register()
    gate.decide(champion)
    overconfident = register(BOASTING)

    decision = gate.decide(overconfident)

    row = gate.promotions()[-1]
    assert not decision.promoted
    assert gate.registry.aliases(NAME) == {CHAMPION: champion, CHALLENGER: overconfident}
    assert (row["version"], row["predecessor"], row["decision"]) == (overconfident, champion, "rejected")
    failed = {reason.split(":")[0] for reason in decision.reasons if "fails" in reason}
    assert failed == {"brier fails against the base rate", "brier fails against the champion"}


def test_the_version_says_how_the_gate_decided(gate, register):
    good, bad = register(), register(BOASTING)

    reasons = {number: gate.decide(number).reasons for number in (good, bad)}

    tags = {number: gate.registry.version(NAME, number).tags for number in (good, bad)}
    assert (tags[good]["gate"], tags[bad]["gate"]) == ("promoted", "rejected")
    assert tags[bad]["gate_reasons"] == "; ".join(reasons[bad])


def test_a_version_as_good_as_the_champion_takes_its_place(gate, register):
    first, second = register(), register()
    gate.decide(first)

    decision = gate.decide(second)

    assert decision.promoted
    assert len(decision.reasons) == 6
    assert gate.registry.aliases(NAME)[CHAMPION] == second
    assert [row["predecessor"] for row in gate.promotions()] == [None, first]


def test_a_challenger_that_came_meanwhile_keeps_its_alias(gate, register):
    first, second = register(), register()

    gate.decide(first)

    assert gate.registry.aliases(NAME) == {CHAMPION: first, CHALLENGER: second}


def test_a_champion_that_this_build_cannot_answer_with_is_nothing_to_compare_with(gate, register):
    unloadable = register(feature_hash="of another build")
    gate.registry.set_alias(NAME, CHAMPION, unloadable)

    decision = gate.decide(register())

    assert decision.promoted
    assert [reason for reason in decision.reasons if "the champion" in reason] == []
    assert f"not compared with version {unloadable}" in decision.reasons[-1]
    assert gate.promotions()[0]["predecessor"] == unloadable


def test_a_damaged_challenger_is_refused_before_anything_is_decided(gate, register):
    champion, damaged = register(), register(feature_hash="of another build")
    gate.registry.set_alias(NAME, CHAMPION, champion)

    with pytest.raises(BundleError, match="of another build"):
        gate.decide(damaged)

    assert gate.registry.aliases(NAME)[CHAMPION] == champion
    assert gate.promotions() == []

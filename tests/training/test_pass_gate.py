"""Tests of the gate on registered versions, with real MLflow and PostgreSQL."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
import statsmodels.api as sm
from mlflow import MlflowClient
from psycopg_pool import ConnectionPool

from candlecast.bundle.bundle import Bundle
from candlecast.bundle.golden import GOLDEN, golden_sample
from candlecast.bundle.load import digest_of
from candlecast.bundle.manifest import MANIFEST, Span, read_manifest
from candlecast.bundle.network import open_network
from candlecast.database import open_database
from candlecast.errors import BundleError
from candlecast.features.base import BASE
from candlecast.job_runs import record_check
from candlecast.market import Market
from candlecast.registry.cache import delete_cached_bundle
from candlecast.registry.decisions import Decision, DecisionRecord, decision_history, has_failed
from candlecast.registry.identity import ModelVersion
from candlecast.registry.lifetime import TRAINED_UNTIL
from candlecast.registry.promotion import mark_failed
from candlecast.registry.registry import CHALLENGER, CHAMPION, Registry
from candlecast.registry.run_log import BUNDLE_PATH
from candlecast.settings.settings import Settings
from candlecast.settings.sources import load_settings
from tests.support.bundles import sound_candles, write_tiny_bundle
from training.dataset import build_dataset
from training.splits import split_by_time
from training.versions import pass_gate

pytestmark = pytest.mark.integration

MARKET = Market("SOLUSDT", "5m")  # MLflow holds a trained version of BTCUSDT-5m
NAME = MARKET.model_name
REPORTED_FROM = "2025-09-01"
NOW = datetime(2025, 10, 1, 12, tzinfo=UTC)
BOASTING = {"direction_intercept": 2.0}
"""Calibration with overconfident directions."""

Register = Callable[..., str]


@dataclass(frozen=True)
class Gate:
    """Registry, database, settings and candles of a gate."""

    registry: Registry
    pool: ConnectionPool
    settings: Settings
    candles: pd.DataFrame

    def decide(self, number: str) -> Decision:
        return pass_gate(self.candles, number, self.settings, self.registry, self.pool, NOW)

    def version(self, number: str) -> ModelVersion:
        return self.registry.version(NAME, number).identity

    def trial(self, challenger: str, champion: str) -> dict[str, Any]:
        """A trial as a check records it, without figures."""
        runs = [self.version(number).run_id for number in (challenger, champion)]
        return {"challenger": challenger, "champion": champion, "runs": runs}

    def promotions(self) -> list[DecisionRecord]:
        return decision_history(self.pool, NAME)[::-1]


@pytest.fixture(scope="module")
def modest(bundled_candles: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundle with persistence, the base rate, and an amplitude by median regression."""
    directory = write_tiny_bundle(tmp_path_factory.mktemp("modest") / "bundle", market=MARKET)
    known = build_dataset(bundled_candles[bundled_candles.index < REPORTED_FROM], MARKET, 48, BASE)
    inputs = np.column_stack([known.matrix[known.ends, :10], np.ones(len(known.ends))])
    fitted = sm.QuantReg(known.targets[known.ends, 4], inputs).fit(q=0.5).params
    weights, offset = np.zeros((len(BASE.names), 6), "float32"), np.zeros(6, "float32")
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
    """Gate of a market without versions."""
    registry, settings = (
        Registry(mlflow_server, timeout_s=30),
        load_settings(home=tmp_path / "home", symbol=MARKET.symbol),
    )
    with open_database(database.writer_url) as pool:
        yield Gate(registry, pool, settings, bundled_candles.iloc[-27 * 288 :])
    for alias in (CHAMPION, CHALLENGER):
        registry.delete_alias(NAME, alias)


@pytest.fixture
def register(gate: Gate, modest: Path, tmp_path: Path) -> Register:
    """Register the modest bundle by `register(calibration changes, **manifest changes)`, which returns its number."""

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
        return gate.registry.register(NAME, run.run_id, {})

    return variant


def test_the_first_version_that_passes_is_promoted_and_recorded(gate, register):
    number = register()

    decision = gate.decide(number)

    (row,) = gate.promotions()
    assert decision.promoted, decision.reasons
    assert gate.registry.aliases(NAME) == {CHAMPION: number}
    assert (row.version, row.predecessor, row.alias) == (number, None, CHAMPION)
    assert (row.decision, row.decided_by, row.as_of) == ("promoted", "gate", NOW)
    assert row.reasons == decision.reasons
    assert row.numbers == pytest.approx(decision.numbers)


def test_a_version_as_good_as_the_champion_gets_a_trial(gate, register):
    first, second, third = register(), register(), register()
    gate.decide(first)

    decision, next_one = gate.decide(second), gate.decide(third)

    assert (decision.outcome, next_one.outcome) == ("trial", "trial")
    assert len(decision.reasons) == 4
    assert gate.registry.aliases(NAME) == {CHAMPION: first, CHALLENGER: third}
    assert [(row.version, row.decision, row.predecessor) for row in gate.promotions()[1:]] == [
        (second, "trial", first),
        (second, "undecided", first),
        (third, "trial", first),
    ]


def test_promote_at_once_makes_a_version_champion(gate, register):
    first, second = register(), register()
    gate.decide(first)

    decision = replace(gate, settings=gate.settings.changed(promote_at_once=True)).decide(second)

    assert decision.promoted
    assert gate.registry.aliases(NAME) == {CHAMPION: second}
    assert [row.predecessor for row in gate.promotions()] == [None, first]


def test_a_version_that_does_not_hold_moves_nothing_and_says_so(gate, register):
    champion, overconfident = register(), register(BOASTING)
    gate.decide(champion)

    decision = gate.decide(overconfident)

    row = gate.promotions()[-1]
    tags = gate.registry.version(NAME, overconfident).tags
    assert gate.registry.aliases(NAME) == {CHAMPION: champion}
    assert (row.version, row.predecessor, row.decision) == (overconfident, champion, "rejected")
    failed = {reason.split(":")[0] for reason in decision.reasons if "fails" in reason}
    assert failed == {"brier fails against the base rate", "total fails against the champion"}
    assert (tags["gate"], tags["gate_reasons"]) == ("rejected", "; ".join(decision.reasons))


@pytest.mark.parametrize(
    ("figures", "outcome"),
    [({"excess": -0.01, "pairs": 100}, "undecided"), ({"excess": 0.01, "pairs": 100}, "trial"), ({}, "trial")],
    ids=["ahead", "behind", "not compared"],
)
def test_a_challenger_ahead_of_the_champion_keeps_its_trial(gate, register, figures, outcome):
    champion, challenger, newer = register(), register(), register()
    gate.decide(champion)
    gate.decide(challenger)
    trial = {**gate.trial(challenger, champion), **figures}
    record = {"model_version": champion, "verdict": "healthy", "action": "none", "reasons": [], "reports": []}
    record_check(gate.pool, MARKET, NOW, run_id=None, numbers={"trial": trial}, **record)

    decision = gate.decide(newer)

    assert decision.outcome == outcome
    assert gate.registry.aliases(NAME)[CHALLENGER] == (challenger if outcome == "undecided" else newer)


def test_a_champion_that_failed_is_replaced_without_a_trial(gate, register):
    first, second = register(), register()
    gate.decide(first)
    mark_failed(gate.registry, gate.pool, NAME, Decision(gate.version(first), "failed", "monitor", ["bad"]))

    decision = gate.decide(second)

    assert decision.promoted
    assert gate.registry.aliases(NAME) == {CHAMPION: second}
    assert has_failed(gate.pool, NAME, gate.version(first))


def trained(gate: Gate, number: str, days_ago: float) -> None:
    gate.registry.tag(NAME, number, {TRAINED_UNTIL: (NOW - timedelta(days=days_ago)).isoformat()})


@pytest.mark.parametrize(("age", "outcome"), [(58, "trial"), (59.5, "promoted"), (70, "promoted")])
def test_a_champion_that_expires_before_a_trial_ends_is_no_rival(gate, register, age, outcome):
    first, second = register(), register()
    gate.decide(first)
    trained(gate, first, age)
    trained(gate, second, 0)

    decision = gate.decide(second)

    assert decision.outcome == outcome
    assert any("before a trial could end" in reason for reason in decision.reasons) == (outcome == "promoted")
    assert gate.registry.aliases(NAME)[CHAMPION] == (second if outcome == "promoted" else first)


def test_an_expired_champion_is_not_replaced_by_a_version_that_fails(gate, register):
    champion, overconfident = register(), register(BOASTING)
    gate.decide(champion)
    trained(gate, champion, 70)
    trained(gate, overconfident, 0)

    assert gate.decide(overconfident).outcome == "rejected"


def test_a_trial_without_figures_does_not_stop_the_gate(gate, register):
    champion, challenger, newer = register(), register(), register()
    gate.decide(champion)
    gate.decide(challenger)
    trial = gate.trial(challenger, champion)
    record = {"model_version": champion, "verdict": "healthy", "action": "none", "reasons": [], "reports": []}
    record_check(gate.pool, MARKET, NOW, run_id=None, numbers={"trial": trial}, **record)

    assert gate.decide(newer).outcome == "trial"


def spans_of(days: int, until: pd.Timestamp) -> dict[str, Span]:
    """Return the spans of a training on `days` days that ends at `until`."""
    dataset = build_dataset(sound_candles(288 * days, end=until.to_pydatetime()), MARKET, 48, BASE)
    return {name: dataset.span(ends) for name, ends in split_by_time(dataset)._asdict().items()}


def rising_until(candles: pd.DataFrame, border: datetime) -> pd.DataFrame:
    """Turn falls into rises, so that seven of ten candles rise before `border`."""
    turned = (candles["close"] < candles["open"]) & (np.random.default_rng(6).random(len(candles)) < 0.4)
    turned &= candles.index < border
    logs = np.log(candles[["open", "high", "low", "close"]].div(candles["open"], axis=0))
    logs.loc[turned, ["high", "low"]] = logs.loc[turned, ["low", "high"]].to_numpy()
    logs[turned] *= -1
    opened = candles["open"].iloc[0] * np.exp(logs["close"].cumsum().shift(fill_value=0.0))
    return candles.assign(**{name: opened * np.exp(logs[name]) for name in logs})


@pytest.fixture
def grown(gate, bundled_candles, register) -> tuple[Gate, dict[str, Span], str]:
    """Gate with the candles of a version trained on 365 days, the spans of 90 days, and the version's number.

    Closes rise more often in what a champion of 90 days was calibrated on, and not after it.
    """
    until = bundled_candles.index[-1] + MARKET.step
    champions = spans_of(90, until - timedelta(days=1))
    candles = rising_until(bundled_candles, champions["report"].start)
    return replace(gate, candles=candles), champions, register(spans=spans_of(365, until))


SEEN_RISES = {"direction_intercept": float(np.log(0.7 / 0.3))}
"""Calibration of a version that has seen seven of ten candles rise."""


def test_versions_are_compared_after_both_calibrations(grown, register):
    gate, champions, number = grown
    champion = register(SEEN_RISES, spans=champions)
    gate.registry.set_alias(NAME, CHAMPION, champion)

    decision = gate.decide(number)

    assert decision.outcome == "trial", decision.reasons
    assert decision.numbers["total_vs_champion_skill"] > 0.03


def test_the_champions_calibration_would_have_decided_for_it(grown, register):
    gate, champions, number = grown
    early = champions | {"report": champions["report"].model_copy(update={"start": champions["fit"].start})}
    gate.registry.set_alias(NAME, CHAMPION, register(SEEN_RISES, spans=early))

    decision = gate.decide(number)

    assert decision.outcome == "rejected"
    assert "total fails against the champion" in decision.reasons[-1]


@pytest.mark.parametrize("at_once", [False, True])
def test_with_too_few_candles_that_neither_version_saw_the_trial_decides(grown, register, at_once):
    gate, champions, number = grown
    gate = replace(gate, settings=gate.settings.changed(promote_at_once=at_once))
    late = champions["report"].model_copy(update={"start": gate.candles.index[-47].to_pydatetime()})
    champion = register(SEEN_RISES, spans=champions | {"report": late})
    gate.registry.set_alias(NAME, CHAMPION, champion)

    decision = gate.decide(number)

    assert decision.outcome == "trial"
    assert gate.registry.aliases(NAME) == {CHAMPION: champion, CHALLENGER: number}
    assert decision.reasons[-1] == (
        f"not compared with version {champion}: 47 forecasts are of candles after both calibration slices, 48 are "
        "needed; the trial decides"
    )


def test_a_decision_that_was_taken_is_not_taken_again(gate, register):
    number = register()
    gate.decide(number)
    mark_failed(gate.registry, gate.pool, NAME, Decision(gate.version(number), "failed", "monitor", ["bad"]))
    gate.registry.delete_alias(NAME, CHAMPION)

    again = gate.decide(number)

    assert again.outcome == "failed"
    assert gate.registry.aliases(NAME) == {}


FOREIGN = [{"feature_hash": "of another build"}, {"horizon": 3}]
"""What makes the manifest of a version that nothing can be compared with."""


@pytest.mark.parametrize("foreign", FOREIGN, ids=["build", "market"])
def test_a_champion_of_another_build_or_market_is_not_compared(gate, register, foreign):
    unloadable = register(**foreign)
    gate.registry.set_alias(NAME, CHAMPION, unloadable)

    decision = gate.decide(register())

    by_hand, by_gate = gate.promotions()
    assert decision.promoted
    assert [reason for reason in decision.reasons if "the champion" in reason] == []
    assert f"not compared with version {unloadable}" in decision.reasons[-1]
    assert (by_hand.version, by_hand.decided_by) == (unloadable, "person")
    assert (by_gate.decided_by, by_gate.predecessor) == ("gate", unloadable)


def test_a_champion_whose_files_were_replaced_is_met_in_a_trial(gate, register, modest):
    champion, newer = register(), register()
    gate.decide(champion)
    run_id = gate.registry.version(NAME, champion).run_id
    MlflowClient(gate.registry.tracking_uri).log_artifact(run_id, str(modest / MANIFEST), BUNDLE_PATH)
    delete_cached_bundle(gate.settings.models_dir, NAME, champion)

    decision = gate.decide(newer)

    assert decision.outcome == "trial"
    assert "its files were replaced" in decision.reasons[-1]


@pytest.mark.parametrize("foreign", FOREIGN, ids=["build", "market"])
def test_a_foreign_version_is_refused_before_anything_is_decided(gate, register, foreign):
    champion, damaged = register(), register(**foreign)
    gate.decide(champion)

    with pytest.raises(BundleError, match=r"of another build|is a model of .*-h3, not of"):
        gate.decide(damaged)

    assert gate.registry.aliases(NAME) == {CHAMPION: champion}
    assert [row.version for row in gate.promotions()] == [champion]

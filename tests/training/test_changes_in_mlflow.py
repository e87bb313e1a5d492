"""Changes by hand in MLflow's UI: what is served, said and recorded afterwards (docs/how-to/what-happens-when.md).

Each row begins with version 2 as champion in place of version 1, both trained and judged by the gate, and with settled
forecasts of version 2. It does what the UI does, by MLflow's client, and looks at the platform.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from candlecast.candles.schema import CANDLE_COLUMNS
from candlecast.errors import ModelNotFound, RegistryUnavailable
from candlecast.market import Market
from candlecast.registry.decisions import Decision, decision_history
from candlecast.registry.identity import BUNDLE_SHA256
from candlecast.registry.lifetime import TRAINED_UNTIL
from candlecast.registry.promotion import move_champion
from candlecast.registry.registry import CHALLENGER, CHAMPION, Registry, experiment_name
from candlecast.registry.run_log import BUNDLE_PATH
from candlecast.settings.sources import load_settings
from flows.jobs.market import OpenMarket, open_market
from flows.jobs.watch import watch
from service.models.readiness import Readiness
from service.models.reloader import ModelReloader
from service.models.reloaders import ModelReloaders
from service.predict.model_card import describe_models
from tests.support.bundles import write_tiny_bundle
from tests.support.made_up_market import MadeUpMarket, after, time_of
from tests.support.receivers import Receiver, receiving
from training.gate import GateResult
from training.versions import apply_gate, unjudged_version

pytestmark = pytest.mark.integration

MARKET = Market("HANDUSDT", "5m")
NAME = MARKET.model_name
CANDLES = 200
NOW = after(CANDLES - 1)


@dataclass
class Platform:
    """A market with real MLflow, PostgreSQL and reloader.

    Attributes:
        runs: Run of each version that was trained, in order.
        snapshot: MLflow's database as it was when version 1 was champion.
        moment: Time by the exchange's clock; each look is a minute after the one before.
    """

    opened: OpenMarket
    registry: Registry
    reloader: ModelReloader
    service: Receiver
    scratch: Path
    database: Path
    snapshot: Path
    runs: list[str] = field(default_factory=list)
    moment: datetime = NOW

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.registry.tracking_uri)

    def log(self, market: Market = MARKET) -> str:
        """Log a bundle, as a training does, and return its run."""
        with self.registry.run(experiment_name(market), "made", {}) as run:
            bias = float(len(self.runs))
            run.bundle(write_tiny_bundle(self.scratch / run.run_id, market=market, version_bias=bias))
        self.runs.append(run.run_id)
        return run.run_id

    def train(self) -> Decision:
        """Register a version and apply a gate that it passes."""
        number = self.registry.register(NAME, self.log(), {TRAINED_UNTIL: NOW.isoformat()})
        pool, settings = self.opened.pool, self.opened.settings
        return apply_gate(
            lambda rival: (GateResult(True, ["held"], {}), "here" if rival else "nowhere"),
            *(number, settings, self.registry, pool, self.moment),
        )

    def serve(self, reloader: ModelReloader | None = None) -> tuple[str, str] | None:
        """Poll as the service does; return number and run of the served champion, and note the answer of `/model`."""
        reloader = reloader or self.reloader
        reloader.refresh()
        answer = describe_models(Readiness(ModelReloaders([reloader])), timedelta(days=60), reloader)
        self.service.answer = answer.model_dump_json().encode()
        served = reloader.served.get(CHAMPION)
        return served and (served.version, served.run_id)

    def look(self) -> Any:
        self.moment += timedelta(minutes=1)
        return watch(self.opened, self.registry, self.moment, with_report=False)

    def recorded(self) -> list[tuple[str, str, str, str]]:
        """Decisions about versions since the platform began: number, name of the run, outcome, decider."""
        return [
            (one.version, self.name_of(one.run_id), one.decision, one.decided_by)
            for one in decision_history(self.opened.pool, NAME)[::-1]
        ][3:]

    def name_of(self, run_id: str | None) -> str:
        """Name a run by its place among the trainings."""
        return f"run {self.runs.index(run_id) + 1}" if run_id in self.runs else str(run_id)

    def restore(self, kept: Path) -> None:
        """Put an older database in the place of MLflow's, with its files."""
        with sqlite3.connect(kept) as older, sqlite3.connect(self.database) as newer:
            older.backup(newer)

    def keep(self) -> None:
        with sqlite3.connect(self.database) as now, sqlite3.connect(self.snapshot) as kept:
            now.backup(kept)


@pytest.fixture
def platform(database: Any, mlflow_server: str, mlflow_database: Path, tmp_path: Path) -> Iterator[Platform]:
    with receiving() as service:
        settings = load_settings(
            home=tmp_path,
            source="replay",
            symbol=MARKET.symbol,
            database_url=database.writer_url,
            mlflow_tracking_uri=mlflow_server,
            service_url=service.url,
        )
        registry = Registry(mlflow_server, timeout_s=30)
        with open_market(settings) as opened:
            reloader = ModelReloader(registry, MARKET, tmp_path / "service", poll_s=1)
            made = Platform(
                opened, registry, reloader, service, tmp_path / "made", mlflow_database, tmp_path / "older.db"
            )
            made.train()
            made.keep()
            made.train()
            move_champion(registry, opened.pool, NAME, "2", "looked better", "person", as_of=time_of(0))
            forecast_and_settle(database, opened, made.runs[1])
            assert made.serve() == ("2", made.runs[1])
            yield made
        for name in (NAME, f"{NAME}-renamed"):
            if registry.aliases(name) or registry.versions(name):
                made.client.delete_registered_model(name)


def forecast_and_settle(database: Any, opened: OpenMarket, run_id: str) -> None:
    """Settled forecasts of version 2, and the newest candles."""
    made_up = MadeUpMarket(database, CANDLES, MARKET.symbol)
    made_up.forecast("2", 0, CANDLES, run_id=run_id)
    newest = pd.date_range(end=time_of(CANDLES - 1), periods=5, freq=MARKET.step, name="open_time", unit="us")
    candles = pd.DataFrame([[100.0, 101, 99, 100, 10, 1000, 50, 5, 500]], newest, list(CANDLE_COLUMNS))
    opened.store.upsert(MARKET.symbol, MARKET.interval, candles, "rest")


class Row(NamedTuple):
    """What follows a change.

    Attributes:
        served: Number and run of the champion that is served.
        verdict: Verdict of the next check.
        alert: Part of an alert or notice of the next look; None if there is none.
        recorded: Decisions that the next look records.
    """

    served: tuple[str, str]
    verdict: str
    alert: str | None = None
    recorded: tuple[tuple[str, str, str, str], ...] = ()


def delete_model(platform: Platform) -> None:
    platform.client.delete_registered_model(NAME)


def delete_model_and_train(platform: Platform) -> None:
    delete_model(platform)
    assert platform.train().outcome == "promoted"


def drop_alias(platform: Platform) -> None:
    platform.client.delete_registered_model_alias(NAME, CHAMPION)


def move_alias(platform: Platform) -> None:
    platform.client.set_registered_model_alias(NAME, CHAMPION, "1")


def name_challenger(platform: Platform) -> None:
    platform.client.set_registered_model_alias(NAME, CHALLENGER, "1")


def delete_version(platform: Platform) -> None:
    platform.client.delete_model_version(NAME, "2")


def delete_run(platform: Platform) -> None:
    platform.client.delete_run(platform.runs[1])


def restore_older_database(platform: Platform) -> None:
    platform.restore(platform.snapshot)


def register_without_bundle(platform: Platform) -> None:
    with platform.registry.run("notebook", "by hand", {}) as run:
        run.text("no bundle", "notes.txt")
    platform.runs.append(run.run_id)
    source = platform.client.get_run(run.run_id).info.artifact_uri
    platform.client.create_model_version(NAME, source, run.run_id, await_creation_for=0)


def make_that_champion(platform: Platform) -> None:
    register_without_bundle(platform)
    platform.client.set_registered_model_alias(NAME, CHAMPION, "3")


def make_a_run_champion_again(platform: Platform) -> None:
    source = platform.client.get_run(platform.runs[0]).info.artifact_uri
    platform.client.create_model_version(NAME, f"{source}/bundle", platform.runs[0], await_creation_for=0)
    platform.client.set_registered_model_alias(NAME, CHAMPION, "3")


def copy_champion_of_another_horizon(platform: Platform) -> None:
    """Promote a version of another market, as MLflow's page copies it: with its run and its tags."""
    run = platform.log(MARKET._replace(horizon=3))
    number = platform.registry.register(NAME, run, {TRAINED_UNTIL: NOW.isoformat()})
    platform.client.set_registered_model_alias(NAME, CHAMPION, number)


def replace_bundle(platform: Platform) -> None:
    """Write another bundle over the files of the champion's run."""
    other = write_tiny_bundle(platform.scratch / "other", market=MARKET, version_bias=7.0)
    platform.client.log_artifacts(platform.runs[1], str(other), BUNDLE_PATH)


def replace_bundle_and_its_tags(platform: Platform) -> None:
    replace_bundle(platform)
    platform.client.delete_tag(platform.runs[1], BUNDLE_SHA256)
    platform.client.delete_model_version_tag(NAME, "2", BUNDLE_SHA256)


def delete_bundle_files(platform: Platform) -> None:
    """Delete the files of the champion's run from the artifact store."""
    artifacts = get_artifact_repository(
        platform.client.get_run(platform.runs[1]).info.artifact_uri, tracking_uri=platform.registry.tracking_uri
    )
    artifacts.delete_artifacts(BUNDLE_PATH)


def rename_model(platform: Platform) -> None:
    platform.client.rename_registered_model(NAME, f"{NAME}-renamed")


TABLE: dict[Callable[[Platform], None], Row] = {
    delete_model: Row(("2", "run 2"), "no champion", "is no longer in MLflow"),
    delete_model_and_train: Row(
        ("1", "run 3"), "too early", "version 1 is champion (gate): held", (("1", "run 3", "promoted", "gate"),)
    ),
    drop_alias: Row(("2", "run 2"), "no champion", "no version has the alias champion in MLflow: version 2"),
    move_alias: Row(
        ("1", "run 1"),
        "too early",
        "version 1 is champion (person): moved by hand",
        (("1", "run 1", "promoted", "person"),),
    ),
    name_challenger: Row(("2", "run 2"), "healthy", recorded=(("1", "run 1", "trial", "person"),)),
    delete_version: Row(("2", "run 2"), "no champion", "is no longer in MLflow"),
    delete_run: Row(("2", "run 2"), "healthy"),
    restore_older_database: Row(
        ("1", "run 1"),
        "too early",
        "version 1 is champion (person): moved by hand",
        (("1", "run 1", "promoted", "person"),),
    ),
    register_without_bundle: Row(("2", "run 2"), "healthy"),
    make_that_champion: Row(
        ("2", "run 2"),
        "healthy",
        "version 3 failed (monitor): it does not load",
        (
            ("3", "run 3", "promoted", "person"),
            ("3", "run 3", "failed", "monitor"),
            ("2", "run 2", "promoted", "monitor"),
        ),
    ),
    copy_champion_of_another_horizon: Row(
        ("2", "run 2"),
        "healthy",
        f"version 3 failed (monitor): it does not load: {NAME} version 3 is a model of {NAME}-h3",
        (
            ("3", "run 3", "promoted", "person"),
            ("3", "run 3", "failed", "monitor"),
            ("2", "run 2", "promoted", "monitor"),
        ),
    ),
    make_a_run_champion_again: Row(
        ("3", "run 1"),
        "too early",
        "version 3 is champion (person): moved by hand",
        (("3", "run 1", "promoted", "person"),),
    ),
    replace_bundle: Row(("2", "run 2"), "healthy", "were replaced in the artifact store"),
    replace_bundle_and_its_tags: Row(("2", "run 2"), "healthy", "were replaced in the artifact store"),
    delete_bundle_files: Row(("2", "run 2"), "healthy", "are no longer in the artifact store"),
    rename_model: Row(("2", "run 2"), "no champion", "is no longer in MLflow"),
}


@pytest.mark.parametrize("change", TABLE, ids=lambda change: change.__name__)
def test_what_is_served_said_and_recorded_after_a_change_in_mlflow(platform, change):
    before = platform.look()
    expected = TABLE[change]

    change(platform)
    served = platform.serve()
    outcome = platform.look()

    assert before.check.verdict.verdict == "healthy"
    assert served is not None
    assert (served[0], platform.name_of(served[1])) == expected.served
    assert outcome.check.verdict.verdict == expected.verdict
    said = [notice.message for notice in outcome.notices]
    assert any(expected.alert in message for message in said) if expected.alert else not said
    assert tuple(platform.recorded()) == expected.recorded


@pytest.mark.parametrize("change", [drop_alias, delete_run, name_challenger], ids=lambda change: change.__name__)
def test_the_served_champion_is_the_rival_of_the_next_training(platform, change):
    change(platform)
    platform.look()

    decision = platform.train()

    assert (decision.outcome, decision.predecessor) == ("trial", ("2", platform.runs[1]))
    assert platform.serve() == ("2", platform.runs[1])


@pytest.mark.parametrize("change", [drop_alias, delete_version], ids=lambda change: change.__name__)
def test_without_the_alias_a_rollback_goes_to_the_predecessor(platform, change):
    change(platform)
    platform.look()

    moved = move_champion(platform.registry, platform.opened.pool, NAME, None, "worse", "rollback")

    assert moved == "1"
    assert platform.serve() == ("1", platform.runs[0])
    assert platform.look().check.verdict.verdict != "no champion"


def test_decisions_about_a_deleted_model_do_not_count_for_the_new_one(platform):
    platform.client.set_registered_model_alias(NAME, CHALLENGER, "1")
    platform.look()
    delete_model(platform)
    first, second = platform.train(), platform.train()

    looks = [platform.look(), platform.look()]

    assert (first.outcome, first.predecessor, second.outcome) == ("promoted", ("2", platform.runs[1]), "trial")
    assert any("no longer in MLflow" in reason for reason in first.reasons)
    assert looks[-1].check.performance is None
    assert looks[-1].trial.numbers["targets"] == 0
    assert unjudged_version(platform.registry, platform.opened.pool, NAME) is None
    with pytest.raises(ModelNotFound, match="deleted"):
        move_champion(platform.registry, platform.opened.pool, NAME, None, "worse", "rollback")


def test_a_number_given_again_after_a_restore_is_judged_as_new(platform):
    restore_older_database(platform)
    platform.look()

    decision = platform.train()

    assert decision.version == ("2", platform.runs[2])
    assert (decision.outcome, decision.predecessor) == ("trial", ("1", platform.runs[0]))
    move_champion(platform.registry, platform.opened.pool, NAME, "2", "looked better", "person")
    assert platform.serve() == ("2", platform.runs[2])


FAILED = [("2", "run 2", "failed", "monitor"), ("1", "run 1", "promoted", "monitor")]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (replace_bundle, "its files were replaced after it was registered"),
        (delete_bundle_files, "no file at"),
    ],
    ids=["replaced", "deleted"],
)
def test_no_process_without_cache_loads_files_that_changed(platform, tmp_path, change, problem):
    platform.look()
    change(platform)
    restarted = ModelReloader(platform.registry, MARKET, tmp_path / "empty", poll_s=1)

    served, outcome = platform.serve(restarted), platform.look()

    assert served is None
    assert problem in restarted.problems[CHAMPION]
    assert outcome.rollback is not None
    assert (outcome.rollback.failed, outcome.rollback.champion) == ("2", "1")
    assert platform.recorded() == FAILED
    assert platform.serve(restarted) == ("1", platform.runs[0])


class WithoutStore(Registry):
    """A registry whose artifact store does not answer."""

    def stored_bundle(self, model_name: str, number: str) -> str | None:
        raise RegistryUnavailable("the store is away")


@pytest.mark.parametrize("problems", [{}, {CHAMPION: "version 2: the store is away"}], ids=["served", "not loaded"])
def test_a_look_decides_without_the_artifact_store(platform, problems):
    platform.look()  # caches the champion
    platform.service.answer = json.dumps(json.loads(platform.service.answer) | {"problems": problems}).encode()
    platform.registry = WithoutStore(platform.registry.tracking_uri, timeout_s=30)
    platform.client.set_registered_model_alias(NAME, CHALLENGER, "1")

    outcome = platform.look()

    assert (outcome.trouble, outcome.check.verdict.verdict) == (None, "healthy")
    assert outcome.trial is not None
    assert any("the store is away" in notice.message for notice in outcome.notices)


def forecast_under(alias: str, platform: Platform, database: Any) -> str:
    """Give the alias to version 2, record forecasts that it answers, and return the digest of its bundle."""
    if alias == CHALLENGER:
        move_champion(platform.registry, platform.opened.pool, NAME, "1", "better", "person", as_of=platform.moment)
        platform.client.set_registered_model_alias(NAME, CHALLENGER, "2")
        platform.look()
    platform.serve()
    digest = platform.reloader.served[alias].bundle_sha256
    made_up = MadeUpMarket(database, CANDLES + 10, "OTHERUSDT")
    made_up.forecast(
        "2", CANDLES, CANDLES + 5, symbol=MARKET.symbol, role=alias, run_id=platform.runs[1], bundle_sha256=digest
    )
    return digest


@pytest.mark.parametrize("alias", [CHAMPION, CHALLENGER])
def test_figures_of_two_bundles_are_not_taken_for_those_of_one(platform, database, tmp_path, alias):
    first = forecast_under(alias, platform, database)
    before = platform.look()
    replace_bundle_and_its_tags(platform)
    restarted = ModelReloader(platform.registry, MARKET, tmp_path / "empty", poll_s=1)

    served, outcome = platform.serve(restarted), platform.look()

    assert before.rollback is None
    assert served is not None
    assert restarted.served[alias].bundle_sha256 != first
    assert ("2", "run 2", "failed", "monitor") in platform.recorded()
    if alias == CHAMPION:
        assert outcome.rollback is not None
        assert platform.recorded() == FAILED
    else:
        assert outcome.trial is not None
        assert outcome.trial.outcome == "rejected"


@pytest.mark.parametrize("alias", [CHAMPION, CHALLENGER])
def test_an_answer_without_a_digest_is_of_no_other_bundle(platform, database, alias):
    forecast_under(alias, platform, database)
    answer = json.loads(platform.service.answer)
    for model in answer["models"].values():
        del model["bundle_sha256"]  # as an older build answers
    platform.service.answer = json.dumps(answer).encode()

    outcome = platform.look()

    assert outcome.rollback is None
    assert "failed" not in {decision for _, _, decision, _ in platform.recorded()}


def test_an_untried_version_of_the_same_number_is_not_served_as_champion(platform, tmp_path):
    delete_model(platform)
    for _ in range(2):
        platform.registry.register(NAME, platform.log(), {TRAINED_UNTIL: NOW.isoformat()})

    running = platform.serve()
    restarted = platform.serve(ModelReloader(platform.registry, MARKET, tmp_path / "service", poll_s=1))

    assert running == ("2", platform.runs[1])
    assert restarted in (None, ("2", platform.runs[1]))


def test_a_model_that_gets_its_name_back_heals(platform):
    rename_model(platform)
    platform.look()
    platform.client.rename_registered_model(f"{NAME}-renamed", NAME)

    assert platform.serve() == ("2", platform.runs[1])
    assert platform.look().check.verdict.verdict == "healthy"
    assert platform.recorded() == []

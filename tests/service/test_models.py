"""Following the registry's aliases."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from candlecast.candles import Market
from candlecast.registry import cached_bundle
from service.models import ModelFollower
from tests.bundles import BTCUSDT_5M, sound_candles, write_tiny_bundle
from tests.service.conftest import wait_until
from tests.service.registries import FakeRegistry

CANDLES = sound_candles(144)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def follower(registry: FakeRegistry, cache: Path) -> ModelFollower:
    return a_follower(registry, cache)


def a_follower(registry: FakeRegistry, cache: Path, market: Market = BTCUSDT_5M) -> ModelFollower:
    return ModelFollower(registry, market, cache, poll_s=0.01)


def served_versions(follower: ModelFollower) -> dict[str, str]:
    return {alias: model.version for alias, model in follower.served.items()}


def test_nothing_is_served_before_the_first_look(follower: ModelFollower) -> None:
    assert served_versions(follower) == {}


def test_the_champion_is_served_after_the_first_look(follower: ModelFollower) -> None:
    assert follower.refresh()

    assert served_versions(follower) == {"champion": "1"}


def test_moving_the_alias_changes_the_answer(follower: ModelFollower, registry: FakeRegistry) -> None:
    follower.refresh()
    before = follower.served["champion"].bundle.forecast(CANDLES)
    registry.pointers["champion"] = "2"

    follower.refresh()

    after = follower.served["champion"].bundle.forecast(CANDLES)
    assert served_versions(follower) == {"champion": "2"}
    assert after.targets[0, 3] > before.targets[0, 3]


def test_a_mapping_once_read_is_never_changed(follower: ModelFollower, registry: FakeRegistry) -> None:
    follower.refresh()
    held = follower.served
    registry.pointers.update(champion="2", challenger="1")

    follower.refresh()

    assert {alias: model.version for alias, model in held.items()} == {"champion": "1"}


def test_two_aliases_of_one_version_share_one_bundle(follower: ModelFollower, registry: FakeRegistry) -> None:
    registry.pointers["challenger"] = "1"

    follower.refresh()
    follower.refresh()

    registry.pointers["challenger"] = "2"
    follower.refresh()
    registry.pointers["champion"] = "2"
    follower.refresh()
    assert follower.served["champion"].bundle is follower.served["challenger"].bundle


def test_an_alias_taken_away_is_served_no_longer(follower: ModelFollower, registry: FakeRegistry) -> None:
    registry.pointers["challenger"] = "2"
    follower.refresh()
    del registry.pointers["challenger"]

    follower.refresh()

    assert served_versions(follower) == {"champion": "1"}


def test_aliases_that_are_not_roles_are_left_alone(follower: ModelFollower, registry: FakeRegistry) -> None:
    registry.pointers["previous"] = "2"

    follower.refresh()

    assert served_versions(follower) == {"champion": "1"}
    assert registry.downloads == ["1"]


def test_an_unreachable_registry_changes_nothing_and_is_reported(
    follower: ModelFollower, registry: FakeRegistry
) -> None:
    follower.refresh()
    registry.reachable = False

    assert not follower.refresh()

    assert served_versions(follower) == {"champion": "1"}
    assert "away" in follower.problems["registry"]


def test_a_version_that_does_not_load_leaves_the_old_one_serving(
    follower: ModelFollower, registry: FakeRegistry, tmp_path: Path
) -> None:
    follower.refresh()
    registry.versions["9"] = shutil.copytree(registry.versions["2"], tmp_path / "altered")
    (registry.versions["9"] / "model.onnx").write_bytes(b"not a network")
    registry.pointers["champion"] = "9"

    assert not follower.refresh()

    assert served_versions(follower) == {"champion": "1"}
    assert "version 9" in follower.problems["champion"]


def test_problems_go_once_the_registry_names_a_sound_version(
    follower: ModelFollower, registry: FakeRegistry, tmp_path: Path
) -> None:
    registry.versions["9"] = tmp_path / "empty"
    registry.versions["9"].mkdir()
    registry.pointers["champion"] = "9"
    follower.refresh()
    registry.pointers["champion"] = "2"

    assert follower.refresh()

    assert dict(follower.problems) == {}


def test_a_version_of_another_market_is_refused(registry: FakeRegistry, cache: Path) -> None:
    follower = a_follower(registry, cache, Market("ETHUSDT", "5m"))

    follower.refresh()

    assert served_versions(follower) == {}
    assert "BTCUSDT" in follower.problems["champion"]


def test_a_damaged_cached_bundle_is_fetched_again(follower: ModelFollower, registry: FakeRegistry, cache: Path) -> None:
    registry.fetch(BTCUSDT_5M.model_name, "1", cache)
    (cached_bundle(cache, BTCUSDT_5M.model_name, "1") / "model.onnx").write_bytes(b"half a downl")

    assert follower.refresh()

    assert served_versions(follower) == {"champion": "1"}
    assert registry.downloads == ["1", "1"]


def test_without_the_registry_a_start_serves_what_was_served_last(
    follower: ModelFollower, registry: FakeRegistry, cache: Path
) -> None:
    registry.pointers.update(champion="2", challenger="1")
    follower.refresh()
    registry.reachable = False

    restarted = a_follower(registry, cache)
    restarted.refresh()

    assert served_versions(restarted) == {"champion": "2", "challenger": "1"}
    assert "registry" in restarted.problems


def test_without_registry_and_cache_a_start_serves_nothing(registry: FakeRegistry, cache: Path) -> None:
    registry.reachable = False
    follower = a_follower(registry, cache)

    follower.refresh()

    assert served_versions(follower) == {}


def test_a_malformed_note_of_what_was_served_last_counts_as_none(registry: FakeRegistry, cache: Path) -> None:
    registry.reachable = False
    note = cached_bundle(cache, BTCUSDT_5M.model_name, "served.json")
    note.parent.mkdir(parents=True)
    note.write_text("{half")
    follower = a_follower(registry, cache)

    follower.refresh()

    assert served_versions(follower) == {}


def test_changes_are_announced_once(registry: FakeRegistry, cache: Path) -> None:
    announced = []
    follower = ModelFollower(registry, BTCUSDT_5M, cache, 0.01, lambda served: announced.append(sorted(served)))

    follower.refresh()
    follower.refresh()
    registry.pointers["challenger"] = "2"
    follower.refresh()

    assert announced == [["champion"], ["challenger", "champion"]]


@pytest.fixture
def running(follower: ModelFollower) -> Iterator[ModelFollower]:
    follower.start()
    yield follower
    follower.stop()


def test_the_thread_follows_while_others_forecast(running: ModelFollower, registry: FakeRegistry) -> None:
    wait_until(lambda: "champion" in running.served)
    stop, faults = threading.Event(), []

    def keep_forecasting() -> None:
        while not stop.is_set():
            model = running.served.get("champion")
            if model is None or not model.bundle.forecast(CANDLES).targets.all():
                faults.append(model)

    forecasting = threading.Thread(target=keep_forecasting)
    forecasting.start()
    for version in ("2", "1", "2"):
        registry.pointers["champion"] = version
        wait_until(lambda version=version: served_versions(running) == {"champion": version})  # type: ignore[misc]
    stop.set()
    forecasting.join()

    assert faults == []


def test_stop_ends_the_thread(running: ModelFollower) -> None:
    running.stop()

    assert not running.is_following()


def test_a_longer_horizon_has_bundles_and_a_name_of_its_own(
    registry: FakeRegistry, cache: Path, tmp_path: Path
) -> None:
    market = Market("ETHUSDT", "1m", 15)
    registry.versions["15"] = write_tiny_bundle(tmp_path / "far", market=market)
    registry.pointers["champion"] = "15"
    follower = a_follower(registry, cache, market)

    follower.refresh()

    assert served_versions(follower) == {"champion": "15"}

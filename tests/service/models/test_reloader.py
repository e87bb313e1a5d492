"""Reloading of models as the registry's aliases move."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from candlecast.bundle.manifest import MANIFEST
from candlecast.market import Market
from candlecast.registry.cache import cached_bundle
from service.models.reloader import ModelReloader, longer
from service.models.replicas import SILENT_S
from tests.service.conftest import wait_until
from tests.support.bundles import sound_candles, write_tiny_bundle
from tests.support.markets import MARKET
from tests.support.registries import FakeRegistry, version_of

CANDLES = sound_candles(144)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def reloader(registry: FakeRegistry, cache: Path) -> ModelReloader:
    return a_reloader(registry, cache)


def a_reloader(
    registry: FakeRegistry, cache: Path, market: Market = MARKET, name: str | None = None, poll_s: float = 0.01
) -> ModelReloader:
    return ModelReloader(registry, market, cache, poll_s, name=name)


def served_versions(reloader: ModelReloader) -> dict[str, str]:
    return {alias: model.version for alias, model in reloader.served.items()}


def test_nothing_is_served_before_the_first_poll(reloader: ModelReloader) -> None:
    assert served_versions(reloader) == {}


def test_the_champion_is_served_after_the_first_poll(reloader: ModelReloader) -> None:
    assert reloader.refresh()

    assert served_versions(reloader) == {"champion": "1"}


def test_moving_the_alias_changes_the_answer(reloader: ModelReloader, registry: FakeRegistry) -> None:
    reloader.refresh()
    before = reloader.served["champion"].bundle.forecast(CANDLES)
    registry.pointers["champion"] = "2"

    reloader.refresh()

    after = reloader.served["champion"].bundle.forecast(CANDLES)
    assert served_versions(reloader) == {"champion": "2"}
    assert after.targets[0, 3] > before.targets[0, 3]


def test_a_mapping_once_read_is_never_changed(reloader: ModelReloader, registry: FakeRegistry) -> None:
    reloader.refresh()
    held = reloader.served
    registry.pointers.update(champion="2", challenger="1")

    reloader.refresh()

    assert {alias: model.version for alias, model in held.items()} == {"champion": "1"}


def test_two_aliases_of_one_version_share_one_bundle(reloader: ModelReloader, registry: FakeRegistry) -> None:
    registry.pointers["challenger"] = "1"

    reloader.refresh()
    reloader.refresh()

    registry.pointers["challenger"] = "2"
    reloader.refresh()
    registry.pointers["champion"] = "2"
    reloader.refresh()
    assert reloader.served["champion"].bundle is reloader.served["challenger"].bundle


def test_a_challenger_without_alias_is_no_longer_served(reloader: ModelReloader, registry: FakeRegistry) -> None:
    registry.pointers["challenger"] = "2"
    reloader.refresh()
    del registry.pointers["challenger"]

    reloader.refresh()

    assert served_versions(reloader) == {"champion": "1"}


def test_a_champion_without_alias_is_still_served_and_reported(reloader: ModelReloader, registry: FakeRegistry) -> None:
    reloader.refresh()
    del registry.pointers["champion"]

    reloader.refresh()

    assert served_versions(reloader) == {"champion": "1"}
    assert "version 1 (run run) is served until" in reloader.problems["registry"]


def test_the_way_back_takes_no_download_and_no_load(
    reloader: ModelReloader, registry: FakeRegistry, cache: Path
) -> None:
    reloader.refresh()
    before = reloader.served["champion"].bundle
    registry.pointers["champion"] = "2"
    reloader.refresh()
    shutil.rmtree(cache)
    registry.pointers["champion"] = "1"

    reloader.refresh()

    assert reloader.served["champion"].bundle is before
    assert dict(reloader.previous) == {"champion": "2"}
    assert registry.downloads == ["1", "2"]


def test_only_the_previous_version_is_kept_in_memory(reloader: ModelReloader, registry: FakeRegistry) -> None:
    for version in ("1", "2", "3"):
        registry.pointers["champion"] = version
        reloader.refresh()
    first = weakref.ref(reloader.served["champion"].bundle)
    for version in ("1", "2"):
        registry.pointers["champion"] = version
        reloader.refresh()

    gone = first()

    assert gone is None
    assert dict(reloader.previous) == {"champion": "1"}


def test_aliases_that_are_not_roles_are_left_alone(reloader: ModelReloader, registry: FakeRegistry) -> None:
    registry.pointers["previous"] = "2"

    reloader.refresh()

    assert served_versions(reloader) == {"champion": "1"}
    assert registry.downloads == ["1"]


def test_an_unreachable_registry_changes_nothing_and_is_reported(
    reloader: ModelReloader, registry: FakeRegistry
) -> None:
    reloader.refresh()
    registry.reachable = False

    assert not reloader.refresh()

    assert served_versions(reloader) == {"champion": "1"}
    assert "does not answer" in reloader.problems["registry"]


def test_a_version_that_does_not_load_leaves_the_old_one_serving(
    reloader: ModelReloader, registry: FakeRegistry, tmp_path: Path
) -> None:
    reloader.refresh()
    registry.versions["9"] = shutil.copytree(registry.versions["2"], tmp_path / "altered")
    (registry.versions["9"] / "model.onnx").write_bytes(b"not a network")
    registry.pointers["champion"] = "9"

    reloader.refresh()

    assert served_versions(reloader) == {"champion": "1"}
    assert "version 9" in reloader.problems["champion"]


def test_a_version_that_does_not_load_is_not_tried_at_every_poll(
    registry: FakeRegistry, cache: Path, tmp_path: Path
) -> None:
    reloader = a_reloader(registry, cache, poll_s=60)
    registry.versions["9"] = shutil.copytree(registry.versions["2"], tmp_path / "altered")
    (registry.versions["9"] / "model.onnx").write_bytes(b"not a network")
    registry.pointers["challenger"] = "9"
    reloader.refresh()
    attempts = registry.downloads.count("9")

    reloader.refresh()
    registry.pointers["champion"] = "2"
    reloader.refresh()

    assert registry.downloads.count("9") == attempts
    assert served_versions(reloader) == {"champion": "2"}
    assert "version 9" in reloader.problems["challenger"]


def test_a_version_that_could_not_be_fetched_is_tried_again(
    reloader: ModelReloader, registry: FakeRegistry, tmp_path: Path
) -> None:
    missing = tmp_path / "later"
    registry.versions["9"] = missing
    registry.pointers["champion"] = "9"
    reloader.refresh()
    shutil.copytree(registry.versions["2"], missing)

    wait_until(lambda: reloader.refresh() and not reloader.problems)

    assert served_versions(reloader) == {"champion": "9"}


def test_a_version_of_another_format_is_tried_again_after_a_move_only(
    reloader: ModelReloader, registry: FakeRegistry, cache: Path, tmp_path: Path
) -> None:
    registry.versions["9"] = shutil.copytree(registry.versions["2"], tmp_path / "foreign")
    manifest = json.loads((registry.versions["9"] / MANIFEST).read_text())
    (registry.versions["9"] / MANIFEST).write_text(json.dumps(manifest | {"feature_hash": "0123456789abcdef"}))
    registry.pointers["champion"] = "9"
    reloader.refresh()
    shutil.rmtree(cached_bundle(cache, MARKET.model_name, "9"))
    registry.versions["9"] = registry.versions["2"]

    for _ in range(20):
        reloader.refresh()
    still = served_versions(reloader)
    for version in ("1", "9"):
        registry.pointers["champion"] = version
        reloader.refresh()

    assert still == {}
    assert served_versions(reloader) == {"champion": "9"}


def test_pauses_double_up_to_a_limit_but_are_never_shorter_than_asked_for() -> None:
    pauses = [0.5]
    for _ in range(6):
        pauses.append(longer(pauses[-1], shortest_s=0.5, longest_s=10))

    assert pauses == [0.5, 1, 2, 4, 8, 10, 10]
    assert longer(30, shortest_s=30, longest_s=10) == 30


def test_problems_are_reported_when_they_change_not_at_every_poll(registry: FakeRegistry, cache: Path) -> None:
    reported: list[dict[str, str]] = []
    reloader = ModelReloader(registry, MARKET, cache, 0.01, on_problems=lambda found: reported.append({**found}))
    reloader.refresh()
    registry.reachable = False
    for _ in range(3):
        reloader.refresh()
    registry.reachable = True
    for _ in range(2):
        reloader.refresh()

    assert [sorted(problems) for problems in reported] == [["registry"], []]


def test_problems_go_once_the_registry_names_a_sound_version(
    reloader: ModelReloader, registry: FakeRegistry, tmp_path: Path
) -> None:
    registry.versions["9"] = tmp_path / "empty"
    registry.versions["9"].mkdir()
    registry.pointers["champion"] = "9"
    reloader.refresh()
    registry.pointers["champion"] = "2"

    reloader.refresh()

    assert dict(reloader.problems) == {}


def test_a_version_of_another_market_is_refused(registry: FakeRegistry, cache: Path) -> None:
    reloader = a_reloader(registry, cache, Market("ETHUSDT", "5m"))

    reloader.refresh()

    assert served_versions(reloader) == {}
    assert "BTCUSDT" in reloader.problems["champion"]


def test_a_damaged_cached_bundle_is_fetched_again(reloader: ModelReloader, registry: FakeRegistry, cache: Path) -> None:
    registry.fetch(MARKET.model_name, "1", cache)
    (cached_bundle(cache, MARKET.model_name, "1") / "model.onnx").write_bytes(b"half a downl")

    assert reloader.refresh()

    assert served_versions(reloader) == {"champion": "1"}
    assert registry.downloads == ["1", "1"]


def test_without_the_registry_a_start_serves_what_was_served_last(
    reloader: ModelReloader, registry: FakeRegistry, cache: Path
) -> None:
    registry.pointers.update(champion="2", challenger="1")
    reloader.refresh()
    registry.reachable = False

    restarted = a_reloader(registry, cache)
    restarted.refresh()

    assert served_versions(restarted) == {"champion": "2", "challenger": "1"}
    assert "registry" in restarted.problems


def test_a_start_serves_the_last_versions_while_the_registry_hangs(registry: FakeRegistry, cache: Path) -> None:
    a_reloader(registry, cache).refresh()
    registry.answering.clear()
    restarted = a_reloader(registry, cache)

    restarted.start()
    wait_until(lambda: served_versions(restarted) == {"champion": "1"})
    registry.pointers["champion"] = "2"
    registry.answering.set()
    wait_until(lambda: served_versions(restarted) == {"champion": "2"})
    restarted.stop()


def test_a_start_serves_the_last_version_if_the_newest_does_not_load(
    reloader: ModelReloader, registry: FakeRegistry, cache: Path, tmp_path: Path
) -> None:
    reloader.refresh()
    registry.versions["9"] = tmp_path / "nothing"
    registry.pointers["champion"] = "9"

    restarted = a_reloader(registry, cache)
    restarted.refresh()

    assert served_versions(restarted) == {"champion": "1"}
    assert "version 9" in restarted.problems["champion"]


def test_an_unwritable_cache_is_reported_and_serving_continues(registry: FakeRegistry, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    for version in ("1", "2"):
        registry.fetch(MARKET.model_name, version, cache)
    (cached_bundle(cache, MARKET.model_name, "served.json")).mkdir()
    reloader = a_reloader(registry, cache)

    reloader.refresh()

    assert served_versions(reloader) == {"champion": "1"}
    assert "start without the registry" in reloader.problems["cache"]


def test_every_process_on_a_cache_sees_what_the_others_serve(registry: FakeRegistry, cache: Path) -> None:
    one, other = (a_reloader(registry, cache, name=name) for name in ("host-a.1", "host-b.1"))
    one.refresh()
    registry.pointers["champion"] = "2"
    other.refresh()

    apart = [(replica.name, str(replica.served["champion"]), replica.is_me) for replica in one.replicas()]
    one.refresh()
    together = {replica.served["champion"] for replica in other.replicas()}

    assert apart == [("host-a.1", "1", True), ("host-b.1", "2", False)]
    assert together == {version_of("2")}


def test_a_process_that_stopped_or_was_killed_is_a_replica_no_longer(registry: FakeRegistry, cache: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    killed = a_reloader(registry, cache, name=f"{socket.gethostname()}.{ended.pid}")
    stopped = a_reloader(registry, cache, name="host-b.1")
    me = a_reloader(registry, cache)
    for reloader in (killed, stopped, me):
        reloader.refresh()

    stopped.stop()

    assert [replica.is_me for replica in me.replicas()] == [True]


def test_a_process_that_gave_no_sign_for_long_is_a_replica_no_longer(registry: FakeRegistry, cache: Path) -> None:
    silent, me = a_reloader(registry, cache, name="host-b.1"), a_reloader(registry, cache)
    for reloader in (silent, me):
        reloader.refresh()
    note = cached_bundle(cache, MARKET.model_name, "replicas") / "host-b.1.json"
    long_ago = note.stat().st_mtime - SILENT_S - 1
    os.utime(note, (long_ago, long_ago))

    seen = [replica.name for replica in me.replicas()]
    silent.refresh()

    assert "host-b.1" not in seen
    assert "host-b.1" in [replica.name for replica in me.replicas()]


def test_without_registry_and_cache_a_start_serves_nothing(registry: FakeRegistry, cache: Path) -> None:
    registry.reachable = False
    reloader = a_reloader(registry, cache)

    reloader.refresh()

    assert served_versions(reloader) == {}


def test_a_malformed_note_of_what_was_served_last_counts_as_none(registry: FakeRegistry, cache: Path) -> None:
    registry.reachable = False
    note = cached_bundle(cache, MARKET.model_name, "served.json")
    note.parent.mkdir(parents=True)
    note.write_text("{half")
    reloader = a_reloader(registry, cache)

    reloader.refresh()

    assert served_versions(reloader) == {}


def test_changes_are_announced_once(registry: FakeRegistry, cache: Path) -> None:
    announced = []
    reloader = ModelReloader(registry, MARKET, cache, 0.01, lambda served: announced.append(sorted(served)))

    reloader.refresh()
    reloader.refresh()
    registry.pointers["challenger"] = "2"
    reloader.refresh()

    assert announced == [["champion"], ["challenger", "champion"]]


@pytest.fixture
def running(reloader: ModelReloader) -> Iterator[ModelReloader]:
    reloader.start()
    yield reloader
    reloader.stop()


def test_the_thread_follows_while_others_forecast(running: ModelReloader, registry: FakeRegistry) -> None:
    wait_until(lambda: "champion" in running.served)
    stop, faults = threading.Event(), []

    def keep_forecasting() -> None:
        while not stop.is_set():
            model = running.served.get("champion")
            if model is None or not model.bundle.forecast(CANDLES).targets.all():
                faults.append(model)

    forecasting = threading.Thread(target=keep_forecasting, daemon=True)
    forecasting.start()
    try:
        for version in ("2", "1", "2"):
            registry.pointers["champion"] = version
            wait_until(lambda version=version: served_versions(running) == {"champion": version})  # type: ignore[misc]
    finally:
        stop.set()
        forecasting.join()

    assert faults == []


def test_stop_ends_the_thread(running: ModelReloader) -> None:
    running.stop()

    wait_until(lambda: not running.is_running())


def test_a_longer_horizon_has_bundles_and_a_name_of_its_own(
    registry: FakeRegistry, cache: Path, tmp_path: Path
) -> None:
    market = Market("ETHUSDT", "1m", 15)
    registry.versions["15"] = write_tiny_bundle(tmp_path / "far", market=market)
    registry.pointers["champion"] = "15"
    reloader = a_reloader(registry, cache, market)

    reloader.refresh()

    assert served_versions(reloader) == {"champion": "15"}

"""The files through which processes share their figures."""

from __future__ import annotations

import os

from service.telemetry.metrics import reserve_space


def test_files_of_figures_have_their_space_before_the_disk_is_full(tmp_path, monkeypatch):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    mine, others = tmp_path / f"counter_{os.getpid()}.db", tmp_path / "counter_1.db"
    for path in (mine, others):
        with path.open("wb") as file:
            file.truncate(1 << 16)

    reserve_space()

    assert mine.stat().st_blocks * 512 >= mine.stat().st_size == 1 << 17
    assert others.stat().st_blocks == 0

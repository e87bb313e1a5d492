"""Nothing that happens to models, registry, database or worker fails a request; `load_proof` does it at length."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.load_proof import CONNECTIONS, LEAK_MB, prove

pytestmark = pytest.mark.integration


def test_promotions_restarts_and_a_kill_under_load_fail_no_request(tmp_path: Path) -> None:
    proof = prove(tmp_path, promotions=52)

    assert proof.promotions == 52
    assert proof.mixed == 0
    assert set(proof.answers.statuses) <= {200, 429, 503}
    otherwise = proof.answers.statuses - proof.in_kill
    assert otherwise[200] > 0.98 * otherwise.total() > 1000
    assert proof.answers.lost == proof.lost_in_kill <= CONNECTIONS
    assert set(proof.reads) <= {200, 404, 503, 0}
    assert len(proof.memory_mb) == 39
    assert proof.growth_mb < LEAK_MB / 2

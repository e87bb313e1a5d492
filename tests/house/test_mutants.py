"""What `make mutants` changes, and what its configuration names."""

from __future__ import annotations

import tomllib
from pathlib import Path

from tests.house.prose import ROOT
from tests.mutants.__main__ import CONFIGURATION
from tests.mutants.mutation import mutants

CONFIGURED = tomllib.loads(CONFIGURATION.read_text())
SOURCE = '''
"""The 5 in a docstring is no number."""
import functools

LIMIT = 5


@functools.lru_cache(maxsize=3)
def within(value: int | None, *, share: float = 0.5, **more: int) -> int | None:
    return None if value is None else value * share < LIMIT
'''


def test_constants_comparisons_and_operators_are_changed(tmp_path: Path):
    (tmp_path / "module.py").write_text(SOURCE)

    found = mutants(tmp_path / "module.py", CONFIGURED["operators"])

    line = "return None if value is None else value * share < LIMIT"
    parameters = "def within(value: int | None, *, share: float = {}, **more: int) -> int | None:"
    assert {mutant.change for mutant in found} == {
        "module: LIMIT = 5 -> LIMIT = 6",
        "module: LIMIT = 5 -> LIMIT = 4",
        *(f"within: {parameters.format(0.5)} -> {parameters.format(other)}" for other in (1.5, -0.5)),
        *(f"within: {line} -> {line.replace('<', other)}" for other in ("<=", "!=", ">=")),
        *(f"within: {line} -> {line.replace('*', other)}" for other in "+/"),
        f"within: {line} -> {line.replace('is None', 'is not None')}",
        f"within: {line} -> {line.replace('value is None', 'not value is None')}",
    }
    assert all(mutant.source != SOURCE for mutant in found)


def test_a_sample_is_drawn_from_all_changes_by_its_seed(tmp_path: Path):
    (tmp_path / "module.py").write_text(SOURCE)
    every, *samples = (
        [mutant.change for mutant in mutants(tmp_path / "module.py", CONFIGURED["operators"], size, seed)]
        for size, seed in ((None, 1), (4, 1), (4, 1), (4, 2))
    )

    assert samples[0] == samples[1] != samples[2]
    assert [len(sample) for sample in samples] == [4, 4, 4]
    assert all(set(sample) < set(every) for sample in samples)


def test_modules_and_tests_of_mutants_exist():
    places = [*CONFIGURED["modules"], *(test for tests in CONFIGURED["modules"].values() for test in tests)]

    assert [place for place in places if not (ROOT / place.partition("::")[0]).exists()] == []


def test_every_equivalent_change_has_a_module_and_a_reason():
    assert {entry["module"] for entry in CONFIGURED["equivalent"]} <= CONFIGURED["modules"].keys()
    assert all(entry["reason"] and entry["changes"] for entry in CONFIGURED["equivalent"])

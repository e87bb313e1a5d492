"""`make mutants`: change one operator, comparison or constant of a module of claims, and see whether its tests fail.

`mutants.toml` names the modules, the tests of each, and the changes that alter no behaviour. No file is written: each
mutant runs in a forked process, which imports the changed source.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from tests.mutants.forks import ROOT, run_baseline, survives
from tests.mutants.mutation import Mutant, mutants

CONFIGURATION = Path(__file__).parent / "mutants.toml"
LARGEST_SHARE = 0.05


class Score(NamedTuple):
    """Mutants of a module; equivalent ones count neither as killed nor as survivors.

    Attributes:
        stale: Entries of equivalent mutants that do not exist, or that the tests notice.
    """

    killed: list[Mutant]
    survivors: list[Mutant]
    equivalent: list[Mutant]
    stale: list[str]

    @property
    def share(self) -> float:
        """Share of mutants that survive."""
        return len(self.survivors) / max(len(self.killed) + len(self.survivors), 1)


def score(
    module: str, tests: list[str], operators: list[str], equivalent: set[str], sample: int | None, seed: int
) -> Score:
    """Run the tests of a module on its mutants, and on equivalent ones too, which they must not notice."""
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = scratch
        baseline = run_baseline(module, tests, Path(scratch))
        if not baseline.passed:
            sys.exit(f"{baseline.output}\nThe tests of {module} fail on its unchanged source")
        if survives(module, "raise AssertionError", tests, baseline):
            sys.exit(f"The tests of {module} do not import it")
        killed, survivors, same = [], [], []
        for mutant in mutants(ROOT / module, operators, sample, seed):
            if not survives(module, mutant.source, tests, baseline):
                killed.append(mutant)
            elif mutant.change in equivalent:
                same.append(mutant)
            else:
                survivors.append(mutant)
                print(f"  survived at line {mutant.line}: {mutant.change}", flush=True)
    noticed = {mutant.change for mutant in killed}
    absent = equivalent - noticed - {mutant.change for mutant in same} if sample is None else set()
    return Score(killed, survivors, same, sorted(equivalent & noticed | absent))


def passes(module: str, configuration: dict[str, Any], sample: int | None, seed: int) -> bool:
    """Print a module's survivors and counts; return whether at most one mutant in twenty survives."""
    entries = [entry for entry in configuration["equivalent"] if entry["module"] == module]
    equivalent = {change for entry in entries for change in entry["changes"]}
    found = score(module, configuration["modules"][module], configuration["operators"], equivalent, sample, seed)
    counts = len(found.killed) + len(found.survivors), len(found.killed), len(found.survivors)
    print(f"{module:<40}{counts[0]:>9}{counts[1]:>8}{counts[2]:>10}{found.share:>8.1%}{len(found.equivalent):>12}")
    for change in found.stale:
        print(f"  not equivalent, or not there: {change}")
    return found.share <= LARGEST_SHARE and not found.stale


def main() -> int:
    """Try each module in a process of its own, because a process that imported a module cannot change it."""
    configuration: dict[str, Any] = tomllib.loads(CONFIGURATION.read_text())
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("modules", nargs="*", help="parts of names of modules; default: all modules")
    parser.add_argument("--sample", type=int, help="mutants of each module, drawn at random; default: all")
    parser.add_argument("--seed", type=int, default=1, help="seed of the draw")
    options = parser.parse_args()
    asked = options.modules or [""]
    chosen = [module for module in configuration["modules"] if any(part in module for part in asked)]
    if not chosen:
        parser.error(f"no module is named like {options.modules}: see {CONFIGURATION.relative_to(ROOT)}")
    print(f"{'module':<40}{'mutants':>9}{'killed':>8}{'survived':>10}{'share':>8}{'equivalent':>12}", flush=True)
    statuses = []
    for module in chosen:
        child = os.fork()
        if child == 0:
            sys.exit(not passes(module, configuration, options.sample, options.seed))
        statuses.append(os.waitpid(child, 0)[1])
    return int(any(statuses))


if __name__ == "__main__":
    sys.exit(main())

"""Settings that a search tries, with their ranges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from candlecast.settings.settings import Settings, variable_name

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

TrialSettings = Mapping[str, int | float | str]
"""Setting values by field of `Settings`."""


class Range(NamedTuple):
    """Numbers between two bounds, on a logarithmic scale."""

    low: float
    high: float


class Choice(NamedTuple):
    """Set of a few values."""

    options: tuple[int | str, ...]


Space = Mapping[str, Range | Choice]

SPACE: Space = {
    "model_family": Choice(("lstm", "gru")),
    "units": Choice((32, 64, 96, 128)),
    "sequence_length": Choice((12, 24, 48, 96)),
    "batch_size": Choice((128, 256, 512, 1024)),
    "learning_rate": Range(3e-4, 5e-3),
    "recency_half_life_days": Range(10, 360),
}
"""Space by field of `Settings`; EPOCHS and PATIENCE are left out because more is slower, but not worse."""

_OF_TREES = ("sequence_length", "recency_half_life_days")
"""Part of SPACE that changes a model of the family xgboost."""


def space_around(settings: Settings) -> Space:
    """Widen SPACE to contain the current settings, which the first trial uses.

    Trees are compared with trees only, because they ignore the settings of networks.
    """
    trees = settings.training.model_family == "xgboost"
    space: dict[str, Range | Choice] = {}
    for name, part in SPACE.items():
        if trees and name not in _OF_TREES:
            continue
        current = settings.effective(name)
        if isinstance(part, Range):
            space[name] = Range(min(part.low, current), max(part.high, current))
        elif current in part.options:
            space[name] = part
        else:
            space[name] = Choice((*part.options, current))
    return space


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """Convert a space into Optuna's distributions."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    return {
        name: FloatDistribution(part.low, part.high, log=True)
        if isinstance(part, Range)
        else CategoricalDistribution(part.options)
        for name, part in space.items()
    }


def longest_window(space: Space) -> int:
    """Return the longest `sequence_length` of a space."""
    lengths = space["sequence_length"]
    return max(int(length) for length in (lengths.options if isinstance(lengths, Choice) else lengths))


def rounded(values: TrialSettings) -> TrialSettings:
    """Round numbers to three significant digits, as they are tried and reported."""
    return {name: float(f"{value:.3g}") if isinstance(value, float) else value for name, value in values.items()}


def environment_lines(values: TrialSettings) -> list[str]:
    """Format the settings as lines of an environment file."""
    return [f"{variable_name(name)}={value}" for name, value in values.items()]

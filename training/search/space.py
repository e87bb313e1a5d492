"""Which settings a search tries, and between which ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from candlecast.settings import Settings, variable_name

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

TrialSettings = Mapping[str, int | float | str]
"""Values of settings, by field."""


class Range(NamedTuple):
    """Any number between two ends, on a logarithmic scale."""

    low: float
    high: float


class Choice(NamedTuple):
    """One of a few values."""

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
"""By the field of `Settings`. Epochs and patience are not searched: more of them is never worse, only slower."""


def space_around(settings: Settings) -> Space:
    """SPACE, made wide enough to hold the settings as they are, which are the first to be tried."""
    space: dict[str, Range | Choice] = {}
    for name, part in SPACE.items():
        current = settings.value(name)
        if isinstance(part, Range):
            space[name] = Range(min(part.low, current), max(part.high, current))
        elif current in part.options:
            space[name] = part
        else:
            space[name] = Choice((*part.options, current))
    return space


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """The same for Optuna."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    return {
        name: FloatDistribution(part.low, part.high, log=True)
        if isinstance(part, Range)
        else CategoricalDistribution(part.options)
        for name, part in space.items()
    }


def longest_window(space: Space) -> int:
    """The longest `sequence_length` that may be tried."""
    lengths = space["sequence_length"]
    return max(int(length) for length in (lengths.options if isinstance(lengths, Choice) else lengths))


def rounded(drawn: TrialSettings) -> TrialSettings:
    """Round numbers to three significant digits, as they are tried and reported."""
    return {name: float(f"{value:.3g}") if isinstance(value, float) else value for name, value in drawn.items()}


def applied(settings: Settings, drawn: TrialSettings) -> Settings:
    """The settings with drawn values in place of their own."""
    return settings.changed(**drawn)


def environment_lines(drawn: TrialSettings) -> list[str]:
    """The values as lines of an environment file."""
    return [f"{variable_name(name)}={value}" for name, value in drawn.items()]

"""Values of settings that hold for single markets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from candlecast.market import Market


@dataclass(frozen=True, slots=True)
class Recipes:
    """Values that a market has instead of those of all markets.

    Attributes:
        shared: Value for a market without one of its own, by name of setting; has every name that `own` has.
        own: Values of single markets, by name of setting.
    """

    shared: Mapping[str, Any] = field(default_factory=dict)
    own: Mapping[Market, Mapping[str, Any]] = field(default_factory=dict)

    def values_of(self, market: Market) -> dict[str, Any]:
        """Return the values that apply to a market, by name of setting."""
        return {**self.shared, **self.own.get(market, {})}

    def without(self, names: Iterable[str]) -> Recipes:
        """Return the recipes without some settings."""
        left = set(self.shared) - set(names)
        own = {
            market: {name: value for name, value in values.items() if name in left}
            for market, values in self.own.items()
        }
        return replace(self, shared={name: self.shared[name] for name in left}, own=own)

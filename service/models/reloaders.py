"""The reloaders of all markets that one process serves."""

from __future__ import annotations

from collections.abc import Sequence

from candlecast.market import Market
from service.http.problems import Refusal
from service.models.reloader import ModelReloader
from service.models.served import ServedModels

POLLS_PER_S = 5.0
"""Most polls of the registry by all reloaders of a process."""


class ModelReloaders:
    """One `ModelReloader` for each market.

    Args:
        reloaders: The first one is that of the default market.
    """

    def __init__(self, reloaders: Sequence[ModelReloader]) -> None:
        self.all = tuple(reloaders)
        self._of = {reloader.market: reloader for reloader in reloaders}

    def of(self, market: Market, *, is_named: bool = False) -> ModelReloader:
        """Find the reloader of a market.

        Args:
            is_named: Whether the caller sent the market's name, and not its symbol or interval.

        Raises:
            Refusal: The market is not forecast here.
        """
        if market in self._of:
            return self._of[market]
        field, value = "symbol", market.symbol
        if is_named:
            field, value = "market", market.model_name
        elif any(market.symbol == one.symbol for one in self._of):
            field, value = "interval", market.interval
        known = ", ".join(one.model_name for one in self._of)
        message = f"{field} {value!r:.60} is not forecast here; forecast here: {known}"
        raise Refusal("wrong-market", message, field=field, value=value[:60])

    def served(self, market: Market) -> ServedModels:
        """Find the served models of a market; empty if it is not forecast here."""
        reloader = self._of.get(market)
        return reloader.served if reloader is not None else {}

    def start(self) -> None:
        """Start all reloaders."""
        for reloader in self.all:
            reloader.start()

    def stop(self) -> None:
        """Stop all reloaders."""
        for reloader in self.all:
            reloader.stop()

    def are_running(self) -> bool:
        """Check whether all threads live; if not, only a restart helps."""
        return all(reloader.is_running() for reloader in self.all)


def poll_s(wanted_s: float, markets: int) -> float:
    """Compute the pause between polls of each reloader: `wanted_s`, or longer if there are many markets."""
    return max(wanted_s, markets / POLLS_PER_S)

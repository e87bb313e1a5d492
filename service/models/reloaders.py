"""The reloaders of all markets that one process serves."""

from __future__ import annotations

from collections.abc import Sequence

from candlecast.market import Market
from service.http.parameters import MARKET
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
        self._of = {reloader.market[:2]: reloader for reloader in reloaders}

    def of(self, symbol: str | None, interval: str | None) -> ModelReloader:
        """Find the reloader of a market; a missing part is that of the default market.

        Raises:
            Refusal: The market is not forecast here.
        """
        first = self.all[0].market
        wanted = (first.symbol if symbol is None else symbol, first.interval if interval is None else interval)
        if wanted in self._of:
            return self._of[wanted]
        field = "interval" if any(wanted[0] == symbol for symbol, _ in self._of) else "symbol"
        value = wanted[MARKET.index(field)]
        known = ", ".join(" ".join(one) for one in self._of)
        message = f"{field} {value!r:.60} is not forecast here; forecast here: {known}"
        raise Refusal("wrong-market", message, field=field, value=value[:60])

    def served(self, market: Market) -> ServedModels:
        """Find the served models of a market; empty if it is not forecast here."""
        reloader = self._of.get(market[:2])
        return reloader.served if reloader is not None and reloader.market == market else {}

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

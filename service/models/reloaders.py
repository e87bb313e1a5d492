"""The reloaders of every market that one process serves."""

from __future__ import annotations

from collections.abc import Sequence

from candlecast.market import Market
from service.http.parameters import MARKET
from service.http.problems import Refusal
from service.models.reloader import ModelReloader
from service.models.served import ServedModels

LOOKS_PER_S = 5.0
"""At most, of all reloaders of a process together, at the registry."""


class ModelReloaders:
    """One `ModelReloader` for each market.

    Args:
        reloaders: That of the market which is meant where none is named first.
    """

    def __init__(self, reloaders: Sequence[ModelReloader]) -> None:
        self.all = tuple(reloaders)
        self._of = {reloader.market[:2]: reloader for reloader in reloaders}

    def of(self, symbol: str | None, interval: str | None) -> ModelReloader:
        """The reloader of a market; what is not given is that of the first.

        Raises:
            Refusal: Another market is forecast here, or several others.
        """
        first = self.all[0].market
        wanted = (first.symbol if symbol is None else symbol, first.interval if interval is None else interval)
        if wanted in self._of:
            return self._of[wanted]
        field = "interval" if any(wanted[0] == symbol for symbol, _ in self._of) else "symbol"
        value = wanted[MARKET.index(field)]
        known = ", ".join(" ".join(one) for one in self._of)
        message = f"{field} {value!r:.60} was asked for, {known} is forecast here"
        raise Refusal("wrong-market", message, field=field, value=value[:60])

    def served(self, market: Market) -> ServedModels:
        """What is served of a market; nothing of one that is not forecast here."""
        reloader = self._of.get(market[:2])
        return reloader.served if reloader is not None and reloader.market == market else {}

    def start(self) -> None:
        """Let all of them follow."""
        for reloader in self.all:
            reloader.start()

    def stop(self) -> None:
        """Stop all of them."""
        for reloader in self.all:
            reloader.stop()

    def are_running(self) -> bool:
        """Whether new versions of every market are still noticed; if not, only a restart helps."""
        return all(reloader.is_running() for reloader in self.all)


def poll_s(wanted_s: float, markets: int) -> float:
    """Pause between two looks of each of so many reloaders: `wanted_s`, or longer where they are many."""
    return max(wanted_s, markets / LOOKS_PER_S)

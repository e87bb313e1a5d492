"""New rows of the ledger as events, for any number of streams with one read a second for each market."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from candlecast.market import Market

POLL_S = 1.0
_EVENTS_KEPT = 1000
_SETTLED_LATER = 50
"""Target candles beyond the horizon whose late forecasts and outcomes are noticed."""

ReadRows = Callable[[Market, int], Awaitable[list[dict[str, Any]]]]
"""Reads the forecasts of the newest target candles of a market, oldest first, with their outcomes."""


class LedgerEvent(NamedTuple):
    """A forecast that was recorded, or the outcome of one.

    Attributes:
        number: Position among the events of the market in this process, from 1.
        at: When it was recorded, on the database's clock.
        row: Row of `service.history.queries.FORECASTS`.
    """

    number: int
    kind: str
    at: datetime
    row: dict[str, Any]


@dataclass(slots=True)
class _Followed:
    events: deque[LedgerEvent] = field(default_factory=lambda: deque(maxlen=_EVENTS_KEPT))
    seen: dict[tuple[datetime, str], datetime | None] = field(default_factory=dict)
    count: int = 0
    read_at: float = float("-inf")
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class LedgerFeed:
    """Events of all markets; each stream remembers the number of its last one."""

    def __init__(self) -> None:
        self.open_streams = 0  # of all markets
        self._followed: dict[Market, _Followed] = {}

    async def after(self, market: Market, number: int, read: ReadRows) -> list[LedgerEvent]:
        """Return the events after `number`, oldest first; the ledger is read if that is a second ago.

        At the first call for a market, its newest rows become events.

        Raises:
            DatabaseUnavailable: The database does not answer.
        """
        followed = self._followed.setdefault(market, _Followed())
        async with followed.lock:
            if time.monotonic() - followed.read_at >= POLL_S:
                _note(followed, await read(market, market.horizon + _SETTLED_LATER))
                followed.read_at = time.monotonic()
        return [event for event in followed.events if event.number > number]


def _note(followed: _Followed, rows: list[dict[str, Any]]) -> None:
    """Add an event for each new forecast and each new or corrected outcome."""
    news: list[tuple[datetime, str, dict[str, Any]]] = []
    for row in rows:
        key, settled_at = (row["open_time"], row["role"]), row["settled_at"]
        if key not in followed.seen:
            news.append((row["recorded_at"], "forecast", row))
        if settled_at is not None and followed.seen.get(key) != settled_at:
            news.append((settled_at, "outcome", row))
    followed.seen = {(row["open_time"], row["role"]): row["settled_at"] for row in rows}
    for at, kind, row in sorted(news, key=lambda one: (one[0], one[2]["open_time"], one[2]["role"], one[1])):
        followed.count += 1
        followed.events.append(LedgerEvent(followed.count, kind, at, row))

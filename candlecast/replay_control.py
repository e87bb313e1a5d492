"""The remote control of a replay exchange: where its clock stands, and moving it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

import requests

from candlecast.candles import epoch_ms, from_epoch_ms
from candlecast.errors import ExchangeUnavailable
from candlecast.exchange import open_session, read_answer


@dataclass(frozen=True)
class ReplayState:
    """A replay exchange's clock: its moment, speed, and the recording's [start, end), all aware UTC."""

    now: datetime
    speed: float
    start: datetime
    end: datetime


class ReplayControl:
    """Shows and moves the clock of a running replay exchange.

    Args:
        base_url: The replay exchange's address.
        timeout_s: Limit on one request.

    All methods raise `ExchangeUnavailable` if it does not answer, and `ExchangeRejected` if it refuses, such as to
    go back in time, or is no replay exchange.
    """

    def __init__(self, base_url: str, timeout_s: float = 10) -> None:
        self._url = base_url.rstrip("/") + "/replay/clock"
        self._timeout_s = timeout_s
        self._session = open_session(base_url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def state(self) -> ReplayState:
        """Where the clock stands now."""
        return self._send("GET", None)

    def set(self, moment: datetime | None = None, speed: float | None = None) -> ReplayState:
        """Jump forward to `moment`, go on at `speed` (0: stand still); None leaves either as it is."""
        order = {"now_ms": None if moment is None else epoch_ms(moment), "speed": speed}
        return self._send("POST", {name: value for name, value in order.items() if value is not None})

    def advance(self, by: timedelta) -> ReplayState:
        """Jump forward by `by`."""
        return self._send("POST", {"advance_ms": by // timedelta(milliseconds=1)})

    def _send(self, method: str, order: dict[str, Any] | None) -> ReplayState:
        what = f"replay clock at {self._url}"
        try:
            response = self._session.request(method, self._url, json=order, timeout=self._timeout_s)
        except (requests.ConnectionError, requests.Timeout) as exc:
            raise ExchangeUnavailable(f"{what}: {exc}") from exc
        return read_answer(response, what, _read_state)


def _read_state(state: Any) -> ReplayState:
    now, start, end = (from_epoch_ms(state[name]) for name in ("now_ms", "start_ms", "end_ms"))
    return ReplayState(now, float(state["speed"]), start, end)

"""Client of a replay exchange's control routes: its clock and its faults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

import requests

from candlecast.errors import ExchangeUnavailable
from candlecast.exchange.answers import read_answer
from candlecast.exchange.requests import SessionClient, open_session
from candlecast.market import epoch_ms, from_epoch_ms
from candlecast.replay.faults import Faults

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class ReplayState:
    """A replay exchange's clock: moment, speed, and the recording's [start, end), aware UTC."""

    now: datetime
    speed: float
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class FaultReport:
    """Faults of a replay exchange, and their counts since they were set.

    Attributes:
        fired: Count of each fault: answers for faults of requests and files, bars for faults of bars.
        bars: Open times of the bars that each fault hit in complete answers, ascending, aware UTC.
    """

    faults: Faults
    fired: dict[str, int]
    bars: dict[str, tuple[datetime, ...]]


class ReplayControl(SessionClient):
    """A client that shows and moves the clock of a replay exchange, and sets its faults.

    All methods raise `ExchangeUnavailable` if the exchange does not answer. They raise `ExchangeRejected` if it rejects
    the request, such as to go back in time, or is not a replay exchange.
    """

    def __init__(self, base_url: str, timeout_s: float = 10) -> None:
        self._url = base_url.rstrip("/") + "/replay/"
        self._timeout_s = timeout_s
        self._session = open_session(base_url)

    def state(self) -> ReplayState:
        """Return the state of the clock."""
        return self._send("GET", "clock", None, _read_state)

    def set(self, moment: datetime | None = None, speed: float | None = None) -> ReplayState:
        """Jump forward to `moment` and set `speed` (0: stopped); None changes nothing."""
        order = {"now_ms": None if moment is None else epoch_ms(moment), "speed": speed}
        return self._order_clock({name: value for name, value in order.items() if value is not None})

    def advance(self, by: timedelta) -> ReplayState:
        """Jump forward by `by`."""
        return self._order_clock({"advance_ms": by // timedelta(milliseconds=1)})

    def faults(self) -> FaultReport:
        """Return the faults and their counts."""
        return self._send("GET", "faults", None, _read_faults)

    def set_faults(self, faults: Faults) -> FaultReport:
        """Replace the faults; counts are reset and running bans end."""
        return self._send("POST", "faults", faults.model_dump(mode="json"), _read_faults)

    def _order_clock(self, order: dict[str, Any]) -> ReplayState:
        return self._send("POST", "clock", order, _read_state)

    def _send(self, method: str, part: str, order: dict[str, Any] | None, read: Callable[[Any], Answer]) -> Answer:
        url = self._url + part
        what = f"replay {part} at {url}"
        try:
            response = self._session.request(method, url, json=order, timeout=self._timeout_s)
        except (requests.ConnectionError, requests.Timeout) as exc:
            raise ExchangeUnavailable(f"{what}: {exc}") from exc
        return read_answer(response, what, read)


def _read_state(state: Any) -> ReplayState:
    now, start, end = (from_epoch_ms(state[name]) for name in ("now_ms", "start_ms", "end_ms"))
    return ReplayState(now, float(state["speed"]), start, end)


def _read_faults(report: Any) -> FaultReport:
    bars = {fault: tuple(map(from_epoch_ms, open_ms)) for fault, open_ms in report["bars"].items()}
    return FaultReport(Faults.model_validate(report["faults"]), report["fired"], bars)

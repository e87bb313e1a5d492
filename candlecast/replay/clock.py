"""The replay exchange's clock: accelerated or stepped, and monotonic even after a kill -9."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from candlecast.errors import ConfigurationError, ExchangeRejected
from candlecast.market import epoch_ms, from_epoch_ms

_LEASE_S = 1.0  # real seconds of running that one write of the file covers


class ReplayClock:
    """A clock over recorded time: anchor + elapsed real time * speed, until the recording's end.

    With a file, a restarted clock resumes at or after every moment shown before. The file is written *before* a moment
    is shown, and holds a moment up to a real second ahead (a lease). A killed process therefore loses at most a
    second; `stop` writes the exact moment. The clock stops while the process is down. It is safe to share between
    threads.

    Args:
        start: Start of the recording, aware UTC.
        end: End of the recording, where the clock stops.
        now: Start of a clock without a file; by default `start`.
        speed: Exchange seconds per real second; 0 moves only by `set` and `advance`.
        path: File that keeps the moment over restarts; it takes precedence over `now`.

    Raises:
        ConfigurationError: The moment lies outside [start, end], the file is damaged, or the speed is negative.
    """

    def __init__(
        self,
        start: datetime,
        end: datetime,
        now: datetime | None = None,
        speed: float = 0.0,
        path: Path | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.start = start
        self.end = end
        self._end_ms = epoch_ms(end)
        self._path = path
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._speed = _checked_speed(speed)
        saved_ms = _read_moment(path) if path is not None and path.exists() else None
        self._anchor_ms: int = epoch_ms(now or start) if saved_ms is None else saved_ms
        self._anchor_s = monotonic()
        if not epoch_ms(start) <= self._anchor_ms <= self._end_ms:
            origin = f"remove {path}" if saved_ms is not None else "choose a moment inside it"
            raise ConfigurationError(
                f"replay clock: {self._anchor_ms} ms is outside the recording, {start} to {end}; {origin}"
            )
        self._lease(self._anchor_ms)

    @property
    def speed(self) -> float:
        """Exchange seconds per real second."""
        return self._speed

    def now(self) -> datetime:
        """Return the exchange's time, aware UTC, whole milliseconds; never earlier than an earlier answer."""
        with self._lock:
            now_ms = self._now_ms()
            if now_ms > self._leased_ms:
                try:
                    self._lease(now_ms)
                except OSError:  # such as a full disk: the clock stands still until the file can be written
                    now_ms = self._leased_ms
            return from_epoch_ms(now_ms)

    def set(self, moment: datetime | None = None, speed: float | None = None) -> None:
        """Jump forward to `moment`, at most the recording's end, and set `speed`; None changes nothing.

        Raises:
            ExchangeRejected: `moment` is in the clock's past.
            ConfigurationError: `speed` is negative or not finite.
        """
        with self._lock:
            now_ms = self._now_ms()
            self._restart(now_ms, now_ms if moment is None else epoch_ms(moment), speed)

    def advance(self, by: timedelta) -> None:
        """Jump forward by `by`, at most to the recording's end.

        Raises:
            ExchangeRejected: `by` is negative.
        """
        with self._lock:
            now_ms = self._now_ms()
            self._restart(now_ms, now_ms + by // timedelta(milliseconds=1), None)

    def stop(self) -> None:
        """Stop the clock and write the exact moment to the file."""
        self.set(speed=0.0)

    def _now_ms(self) -> int:
        elapsed_ms = (self._monotonic() - self._anchor_s) * self._speed * 1000
        return int(min(self._end_ms, self._anchor_ms + elapsed_ms))

    def _restart(self, now_ms: int, to_ms: int, speed: float | None) -> None:
        if to_ms < now_ms:
            raise ExchangeRejected(
                f"replay clock: {from_epoch_ms(to_ms).isoformat()} is before {from_epoch_ms(now_ms).isoformat()}; "
                "the clock never goes back; start again without its file"
            )
        if speed is not None:
            self._speed = _checked_speed(speed)
        self._anchor_ms = min(to_ms, self._end_ms)
        self._anchor_s = self._monotonic()
        self._lease(self._anchor_ms)

    def _lease(self, from_ms: int) -> None:
        leased_ms = math.ceil(min(self._end_ms, from_ms + _LEASE_S * self._speed * 1000))
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            _write_moment(self._path, leased_ms)
        self._leased_ms = leased_ms


def _checked_speed(speed: float) -> float:
    if not (math.isfinite(speed) and speed >= 0):
        raise ConfigurationError(f"replay clock: speed {speed} must be 0 (stepped) or a positive number")
    return float(speed)


def _write_moment(path: Path, moment_ms: int) -> None:
    text = json.dumps({"now_ms": moment_ms}).encode()
    draft = path.with_name(path.name + ".tmp")
    try:
        draft.write_bytes(text)
        draft.replace(path)  # atomic, so that a kill leaves a complete file
    except OSError:
        # A full disk has no place for another file, but for the 13 digits of a moment over those of another.
        with path.open("r+b") as file:
            file.write(text)


def _read_moment(path: Path) -> int:
    try:
        return int(json.loads(path.read_text(encoding="utf-8"))["now_ms"])
    except (OSError, ValueError, TypeError, KeyError) as exc:
        raise ConfigurationError(f"replay clock: {path} does not hold a moment ({exc!r}); remove it") from exc

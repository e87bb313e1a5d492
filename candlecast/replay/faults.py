"""Faults of the replay exchange: their kinds, probabilities and targets, reproducible by a seed."""

from __future__ import annotations

from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from candlecast.errors import ConfigurationError
from candlecast.market import epoch_ms

Probability = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0, le=604_800)]

RequestFault = Literal[
    "forbidden",
    "ban",
    "rate_limit",
    "server_error",
    "timeout",
    "cut_off",
    "invalid_json",
    "duplicate_rows",
    "wrong_order",
]
BarFault = Literal["gap", "passing_gap", "late_bar", "revised_bar"]
FileFault = Literal["missing_month", "missing_day", "wrong_checksum"]


class Faults(BaseModel):
    """Faults of a replay exchange and their probabilities; none by default.

    The seed and the target decide whether a fault hits: the number of a request since the faults were set, the
    open_time of a bar, or the name of an archive file. At most one fault breaks a request, the first in the order
    below. Durations are in real time for requests, and in the exchange's time for bars.

    Attributes:
        seed: Chooses the targets.
        forbidden: HTTP 451.
        ban: HTTP 418 with Retry-After; requests until then get it too and count as `ignored_ban`.
        rate_limit: HTTP 429 with Retry-After; requests until then are answered and count as `ignored_rate_limit`.
        retry_after_s: Value of Retry-After.
        server_error: HTTP 503, also for archive requests.
        timeout: The correct answer, `timeout_s` late, also for archive requests.
        cut_off: The connection ends in the middle of the body, also for archive requests.
        invalid_json: HTTP 200 with half of the JSON.
        duplicate_rows: Every third kline twice; the answer keeps its limit.
        wrong_order: Klines in descending order.
        clock_skew_ms: How far the exchange's times and candles are ahead of the replay clock.
        gap, gap_at: Bars missing in REST API and archive, by chance and by open_time.
        passing_gap, passing_gap_at: Bars missing in the REST API until `passing_gap_until` (None: always), but not in
            the archive.
        late_bar: Bars that appear `late_by_s` after their close.
        revised_bar: Bars served unfinished, at nine tenths of their time, until `revised_for_s` after their close.
        missing_month, missing_day: Monthly and daily files missing in the archive.
        wrong_checksum: Archive files with a wrong .CHECKSUM.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = 0

    forbidden: Probability = 0
    ban: Probability = 0
    rate_limit: Probability = 0
    retry_after_s: Annotated[int, Field(ge=0, le=604_800)] = 1
    server_error: Probability = 0
    timeout: Probability = 0
    timeout_s: Seconds = 2
    cut_off: Probability = 0
    invalid_json: Probability = 0
    duplicate_rows: Probability = 0
    wrong_order: Probability = 0

    clock_skew_ms: Annotated[int, Field(ge=-86_400_000, le=86_400_000)] = 0

    gap: Probability = 0
    gap_at: tuple[AwareDatetime, ...] = ()
    passing_gap: Probability = 0
    passing_gap_at: tuple[AwareDatetime, ...] = ()
    passing_gap_until: AwareDatetime | None = None
    late_bar: Probability = 0
    late_by_s: Seconds = 60
    revised_bar: Probability = 0
    revised_for_s: Seconds = 600

    missing_month: Probability = 0
    missing_day: Probability = 0
    wrong_checksum: Probability = 0

    @cached_property
    def on_bars(self) -> bool:
        """Whether a bar can be hit."""
        return bool(self.gap or self.passing_gap or self.late_bar or self.revised_bar or any(self._listed.values()))

    @cached_property
    def _listed(self) -> dict[str, frozenset[int]]:
        return {
            "gap": frozenset(map(epoch_ms, self.gap_at)),
            "passing_gap": frozenset(map(epoch_ms, self.passing_gap_at)),
        }

    def hits_request(self, fault: RequestFault, number: int) -> bool:
        """Return whether `fault` hits the request of this number, 0-based."""
        return self._drawn(fault, number)

    def hits_bar(self, fault: BarFault, open_ms: int) -> bool:
        """Return whether `fault` hits the bar that opens at `open_ms`, milliseconds since 1970."""
        return self._drawn(fault, open_ms) or open_ms in self._listed.get(fault, ())

    def fault_of_bar(self, open_ms: int, close_ms: int, now_ms: int) -> BarFault | None:
        """Return the fault of a bar of the REST API at `now_ms`, or None; all but `revised_bar` hide the bar."""
        if self.hits_bar("gap", open_ms):
            return "gap"
        until = self.passing_gap_until
        if (until is None or now_ms < epoch_ms(until)) and self.hits_bar("passing_gap", open_ms):
            return "passing_gap"
        if now_ms < close_ms + self.late_by_s * 1000 and self.hits_bar("late_bar", open_ms):
            return "late_bar"
        if close_ms <= now_ms < close_ms + self.revised_for_s * 1000 and self.hits_bar("revised_bar", open_ms):
            return "revised_bar"
        return None

    def hits_file(self, fault: FileFault, name: str) -> bool:
        """Return whether `fault` hits the archive file of this name, without directory."""
        return self._drawn(fault, name)

    def _drawn(self, fault: str, key: object) -> bool:
        probability: float = getattr(self, fault)
        if not probability:
            return False
        digest = blake2b(f"{self.seed} {fault} {key}".encode(), digest_size=8).digest()
        return int.from_bytes(digest) < probability * 2**64


def load_faults(path: Path) -> Faults:
    """Read faults from a JSON file, an object with the fields of `Faults`.

    Raises:
        ConfigurationError: The file cannot be read, or a field is unknown or out of range.
    """
    try:
        return Faults.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as exc:
        raise ConfigurationError(f"faults in {path}: {exc}") from exc

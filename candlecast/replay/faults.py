"""Faults of the replay exchange: which there are, how often, and whom they hit; the same ones at every run."""

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
    """What goes wrong at a replay exchange; nothing by default.

    Whom a fault hits is a function of the seed and of what is hit alone: of the request's number (counted from the
    moment the faults were switched on), the bar's open_time, or the archive file's name. At most one fault breaks
    a request, the first in the order below. Durations are in seconds of real time for requests, and of the
    exchange's clock for bars.

    Attributes:
        seed: Another seed hits others.
        forbidden: HTTP 451.
        ban: HTTP 418 with Retry-After; every request until then is answered so and counted as `ignored_ban`.
        rate_limit: HTTP 429 with Retry-After; a request before that is only counted, as `ignored_rate_limit`.
        retry_after_s: What Retry-After says.
        server_error: HTTP 503; archive requests too.
        timeout: The right answer, `timeout_s` late; archive requests too.
        cut_off: The connection ends in the middle of the body; archive requests too.
        invalid_json: HTTP 200 with half of the JSON.
        duplicate_rows: Every third kline twice, and as many fewer at the end if the answer becomes too long.
        wrong_order: The klines in descending order.
        clock_skew_ms: How far everything the exchange says and serves is ahead of the replay clock.
        gap, gap_at: Bars that neither the REST API nor the archive ever has, by chance and by open_time.
        passing_gap, passing_gap_at: Bars that the REST API does not have until `passing_gap_until`, or never if
            that is None; the archive has them.
        late_bar: Bars that appear only `late_by_s` after their close.
        revised_bar: Bars served for `revised_for_s` after their close as they stood at nine tenths of their time.
        missing_month, missing_day: Monthly and daily files that the archive does not have.
        wrong_checksum: Archive files whose .CHECKSUM is of another content.
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
        """Whether any bar can be hit."""
        return bool(self.gap or self.passing_gap or self.late_bar or self.revised_bar or any(self._listed.values()))

    @cached_property
    def _listed(self) -> dict[str, frozenset[int]]:
        return {
            "gap": frozenset(map(epoch_ms, self.gap_at)),
            "passing_gap": frozenset(map(epoch_ms, self.passing_gap_at)),
        }

    def hits_request(self, fault: RequestFault, number: int) -> bool:
        """Whether `fault` is drawn for the request of this number, counted from 0."""
        return self._drawn(fault, number)

    def hits_bar(self, fault: BarFault, open_ms: int) -> bool:
        """Whether `fault` is the lot of the bar that opens at `open_ms`, milliseconds since 1970."""
        return self._drawn(fault, open_ms) or open_ms in self._listed.get(fault, ())

    def fault_of_bar(self, open_ms: int, close_ms: int, now_ms: int) -> BarFault | None:
        """What is wrong at `now_ms` with a bar of the REST API, or None; all but `revised_bar` hide it."""
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
        """Whether `fault` is the lot of the archive file of this name, without its directory."""
        return self._drawn(fault, name)

    def _drawn(self, fault: str, key: object) -> bool:
        probability: float = getattr(self, fault)
        if not probability:
            return False
        digest = blake2b(f"{self.seed} {fault} {key}".encode(), digest_size=8).digest()
        return int.from_bytes(digest) < probability * 2**64


def load_faults(path: Path) -> Faults:
    """Read faults from a JSON file of an object with `Faults`' fields.

    Raises:
        ConfigurationError: The file cannot be read, or a field is unknown or out of its range.
    """
    try:
        return Faults.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as exc:
        raise ConfigurationError(f"faults in {path}: {exc}") from exc

"""Parity: recorded forecasts, recomputed from the stored candles and the registered version, must be equal."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from psycopg_pool import ConnectionPool

from candlecast.bundle.bundle import Bundle
from candlecast.bundle.forecast import FORECAST_FIELDS, are_equal, first_numbers, persist
from candlecast.bundle.manifest import bundle_sha256
from candlecast.candles.schema import CANDLE_COLUMNS, split_at_gaps
from candlecast.candles.session import MarketSession
from candlecast.database import read_rows
from candlecast.errors import BundleError, InvalidCandles, ModelNotFound
from candlecast.market import Market
from candlecast.registry.cache import cached_run
from candlecast.registry.versions import BundleSource, load_version

TOLERANCE = 1e-6
"""Largest difference that counts as equal, relative to the recorded value or to the widest interval (`are_equal`)."""

Outcome = Literal["equal", "different", "corrected", "not checkable"]

_BASELINES = ("baseline_close", "baseline_amplitude", "baseline_up")
_NEWEST = """
select * from forecasts where (symbol, interval, horizon) = (%s, %s, %s) order by open_time desc, role limit %s
"""
_REVISIONS = f"""
select open_time, replaced_at, {", ".join(CANDLE_COLUMNS)} from candle_revisions
where symbol = %s and interval = %s and open_time between %s and %s order by replaced_at
"""
_FORECAST_WITHIN = timedelta(minutes=1)
"""Time from reading the candles to recording the forecast, at most; a candle may be corrected in between."""


@dataclass(frozen=True, slots=True)
class ParityCheck:
    """Outcome of recomputing one recorded forecast.

    `corrected`: the forecast comes out equal from its candles as they were when it was made. They were corrected since.

    Attributes:
        detail: Which field differs, or why the forecast could not be checked.
    """

    open_time: datetime
    role: str
    version: str
    outcome: Outcome
    detail: str = ""
    run_id: str = ""


def verify_forecasts(session: MarketSession, registry: BundleSource, cache: Path, last: int) -> list[ParityCheck]:
    """Recompute the newest `last` recorded forecasts, newest first.

    Raises:
        RegistryUnavailable: MLflow does not answer, and a version is not in the cache.
    """
    market, pool = session.market, session.pool
    recorded = read_rows(pool, _NEWEST, [*market, last])
    if not recorded:
        return []
    bundles = {version: _load(registry, market, version, cache) for version in {r["model_version"] for r in recorded}}
    loaded = [one.bundle.manifest.history for one in bundles.values() if isinstance(one, _Loaded)]
    first = min(row["last_open_time"] for row in recorded) - max(loaded, default=1) * market.step
    end = max(row["last_open_time"] for row in recorded) + market.step
    candles = session.store.read(market.symbol, market.interval, first, end)
    revisions = read_rows(pool, _REVISIONS, [market.symbol, market.interval, first, end])
    return [_check(row, bundles[row["model_version"]], candles, revisions, market) for row in recorded]


def recorded_within(pool: ConnectionPool, market: Market, span: timedelta) -> int:
    """Count the recorded forecasts of all roles whose target opened less than `span` before the newest one's."""
    query = (
        "select count(*) from forecasts where (symbol, interval, horizon) = (%s, %s, %s) and open_time > "
        "(select max(open_time) from forecasts where (symbol, interval, horizon) = (%s, %s, %s)) - %s"
    )
    with pool.connection() as connection:
        row = connection.execute(query, [*market, *market, span]).fetchone()
    return int(row[0]) if row else 0


def parity_message(checked: list[ParityCheck]) -> str:
    """Count the equal ones, and list each that differs or could not be checked."""
    counts = {outcome: sum(one.outcome == outcome for one in checked) for outcome in Outcome.__args__}  # type: ignore[attr-defined]
    summary = (
        f"{counts['equal']} of {len(checked)} recorded forecasts come out the same, {counts['different']} differently; "
        f"{counts['corrected']} from candles that were corrected since, {counts['not checkable']} not checkable"
    )
    lines = [
        f"\n- {one.open_time:%Y-%m-%d %H:%M} {one.role} version {one.version}: {one.outcome}: {one.detail}"
        for one in checked
        if one.outcome in {"different", "not checkable"}
    ]
    return summary + "".join(lines)


class _Loaded(NamedTuple):
    """A version's bundle with its digest, and the run that the version was registered from."""

    bundle: Bundle
    digest: str
    run_id: str | None


def _load(registry: BundleSource, market: Market, version: str, cache: Path) -> _Loaded | str:
    """Load the version, or describe why it cannot be loaded."""
    try:
        bundle, directory = load_version(registry, market.model_name, version, cache)
        return _Loaded(bundle, bundle_sha256(directory), cached_run(directory))
    except (ModelNotFound, BundleError) as exc:
        return str(exc)


def _check(
    row: dict[str, Any],
    loaded: _Loaded | str,
    candles: pd.DataFrame,
    revisions: list[dict[str, Any]],
    market: Market,
) -> ParityCheck:
    def checked(outcome: Outcome, detail: str = "") -> ParityCheck:
        return ParityCheck(row["open_time"], row["role"], row["model_version"], outcome, detail, row["run_id"])

    if isinstance(loaded, str):
        return checked("not checkable", loaded)
    bundle, digest, run_id = loaded
    if row["run_id"] not in (run_id, bundle.manifest.run_id):  # older builds recorded the latter
        return checked("not checkable", f"version {row['model_version']} is run {run_id} now, not run {row['run_id']}")
    if row["bundle_sha256"] not in (None, digest):
        gone = f"its bundle {row['bundle_sha256'][:16]} is gone: version {row['model_version']} holds {digest[:16]} now"
        return checked("not checkable", gone)
    last = row["last_open_time"]
    first = last - (bundle.manifest.history - 1) * market.step
    history = candles.loc[first:last]
    if len(history) < bundle.manifest.history or len(split_at_gaps(history, market.interval)) > 1:
        return checked("not checkable", f"only {len(history)} of its {bundle.manifest.history} candles are stored")
    earliest = row["recorded_at"] - _FORECAST_WITHIN
    undone = [one for one in revisions if first <= one["open_time"] <= last and one["replaced_at"] > earliest]
    before = sum(one["replaced_at"] <= row["recorded_at"] for one in undone)
    differences = []
    for start in range(before, -1, -1):  # the newest state first: that of the recording
        difference = _difference(row, bundle, _before(history, undone[start:]))
        if difference is None:
            return checked("corrected" if undone[start:] else "equal")
        differences.append(difference)
    return checked("different", differences[0])


def _before(history: pd.DataFrame, revisions: list[dict[str, Any]]) -> pd.DataFrame:
    """Return candles as they were before `revisions`, which are in order of time."""
    if not revisions:
        return history
    earlier = history.copy()
    for one in reversed(revisions):
        earlier.loc[one["open_time"]] = [one[name] for name in CANDLE_COLUMNS]
    return earlier.astype("float64")


def _difference(row: dict[str, Any], bundle: Bundle, history: pd.DataFrame) -> str | None:
    """Describe the first number that comes out differently, or return None."""
    known = history.loc[:, history.notna().all()]  # the client sends known columns only
    try:
        forecasts = bundle.forecast(known)
    except InvalidCandles as exc:
        return f"no forecast comes out: {exc}"
    if row["abstained"]:
        forecasts = persist(forecasts)
    again = first_numbers(forecasts)
    recorded = np.array([row[name] for name in FORECAST_FIELDS])
    baselines = np.array([forecasts.baseline_close[0], forecasts.baseline_amplitude[0], forecasts.baseline_up])
    equal = [
        *are_equal(again, recorded, TOLERANCE),
        *np.isclose(baselines, [row[name] for name in _BASELINES], rtol=TOLERANCE, atol=0),
    ]
    for name, value, is_equal in zip((*FORECAST_FIELDS, *_BASELINES), (*again, *baselines), equal, strict=True):
        if not is_equal:
            return f"{name} was {row[name]!r}, comes out as {float(value)!r}"
    return None

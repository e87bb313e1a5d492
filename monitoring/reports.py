"""Evidently's reports of a check: HTML pages, JSON figures, and runs in the workspace of Evidently's UI."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from psycopg_pool import ConnectionPool

from candlecast.bundle.manifest import Manifest
from candlecast.candles.quality import CandleQuality
from candlecast.candles.store import CandleStore
from candlecast.errors import NotEnoughCandles
from candlecast.market import Market, floor_time
from candlecast.registry.identity import ModelVersion
from candlecast.settings.settings import Settings
from monitoring.drift import WINDOW, monitored_inputs
from monitoring.live_losses import newest
from monitoring.workspace import add_run, keep_runs, project_id

if TYPE_CHECKING:
    from evidently.core.report import Snapshot

REPORT_EVERY = timedelta(hours=6)
"""Shortest time between two sets of pages, which take seconds and 20 MB."""

_STAMP = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, slots=True)
class Reports:
    """Report pages of one check.

    Attributes:
        pages: Name of each HTML file in the reports directory, by subject (inputs, candles, forecasts, direction);
            each has a `.json` beside it.
        links: Addresses of the pages at the service, and of the market's project in Evidently's UI.
        new: Whether the pages were written by this check.
    """

    pages: dict[str, str]
    links: dict[str, str]
    new: bool

    def tags(self) -> dict[str, str]:
        """Return the tags that link a model version in the registry to its newest reports."""
        return {f"report_{subject}": address for subject, address in self.links.items()}


def current_reports(
    settings: Settings, pool: ConnectionPool, manifest: Manifest | None, version: ModelVersion | None, now: datetime
) -> Reports:
    """Return the newest pages, and write new ones if those are REPORT_EVERY old.

    A page is left out if its subject has too little data. Names contain market and time, so a second call at the same
    `now` replaces pages. Pages appear when they are complete. Pages older than REPORTS_KEPT_DAYS are deleted.

    Args:
        manifest: Champion's manifest; None leaves out the inputs.
        version: Champion; None leaves out forecasts and direction.
        now: Time by the exchange's clock.

    Raises:
        OSError: The disk is full or not writable.
    """
    name = settings.market.model_name
    prune_reports(settings, now)  # first: on a full disk the writing below frees nothing
    new = _due(settings, now)
    if new:
        os.environ.setdefault("DO_NOT_TRACK", "true")  # no telemetry of Evidently
        for subject, snapshot in _snapshots(settings, pool, manifest, version, now).items():
            page = f"{name}-{now.astimezone(UTC):{_STAMP}}-{subject}"
            add_run(settings.evidently_dir, settings.scratch_dir, name, page, snapshot)
            _save(settings.reports_dir, page, snapshot)
    pages = _newest_pages(settings, now)
    links = {subject: f"{settings.service.url}/reports/{page}" for subject, page in pages.items()}
    if pages:
        links["evidently"] = f"{settings.evidently_url}/projects/{project_id(name)}/reports"
    return Reports(pages, links, new and bool(pages))


def prune_reports(settings: Settings, now: datetime) -> None:
    """Delete the market's pages, figures and runs that are older than REPORTS_KEPT_DAYS, and unfinished ones."""
    kept = set()
    for draft in _pages(settings.reports_dir, settings.market, ending=".partial"):
        draft.unlink(missing_ok=True)
    for path, moment in _pages(settings.reports_dir, settings.market).items():
        if now - moment > timedelta(days=settings.retention.reports_kept_days):
            path.unlink(missing_ok=True)
        else:
            kept.add(path.stem)
    keep_runs(settings.evidently_dir, settings.market.model_name, kept)


def _due(settings: Settings, now: datetime) -> bool:
    """Return whether the market's newest pages are REPORT_EVERY old, or the clock was set back that far."""
    moments = _pages(settings.reports_dir, settings.market).values()
    return all(abs(now - moment) >= REPORT_EVERY for moment in moments)


def _newest_pages(settings: Settings, now: datetime) -> dict[str, str]:
    files = _pages(settings.reports_dir, settings.market)
    newest = max((moment for moment in files.values() if moment <= now), default=None)
    pages = [path for path, moment in files.items() if moment == newest and path.suffix == ".html"]
    return {path.stem.split("-")[-1]: path.name for path in sorted(pages)}


def _snapshots(
    settings: Settings, pool: ConnectionPool, manifest: Manifest | None, version: ModelVersion | None, now: datetime
) -> dict[str, Snapshot]:
    from monitoring import report_pages as pages

    snapshots: dict[str, Snapshot] = {}
    if manifest is not None:
        with suppress(NotEnoughCandles):  # a reason of the check
            snapshots["inputs"] = pages.inputs_page(monitored_inputs(pool, manifest, now), now)
    current, before = _weeks(pool, settings.market, now)
    if len(current.dropna(how="all")) and len(before.dropna(how="all")):
        doubtful = CandleQuality(pool).doubtful(settings.market, before.index[0].to_pydatetime(), now)
        snapshots["candles"] = pages.candles_page(current, before, doubtful, now)
    if version is not None:
        settled = newest(pool, settings.market, version, settings.limits.judged_n)
        if len(settled.close) >= settings.limits.fewest_settled:
            snapshots["forecasts"] = pages.forecasts_page(settled, now)
            direction = pages.direction_page(settled, now)
            if direction is not None:
                snapshots["direction"] = direction
    return snapshots


def _weeks(pool: ConnectionPool, market: Market, now: datetime) -> list[pd.DataFrame]:
    """Read the candles of the last WINDOW and of the one before, on the whole grid."""
    end = floor_time(now, market.interval)
    stored = CandleStore(pool).read(market.symbol, market.interval, end - 2 * WINDOW, end)
    return [
        stored.reindex(pd.date_range(start, start + WINDOW, freq=market.step, inclusive="left", unit="us"))
        for start in (end - WINDOW, end - 2 * WINDOW)
    ]


def _save(directory: Path, page: str, snapshot: Snapshot) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for suffix, save in (("json", snapshot.save_json), ("html", snapshot.save_html)):
        draft = directory / f"{page}.{suffix}.partial"
        save(str(draft))
        draft.replace(directory / f"{page}.{suffix}")


def _pages(directory: Path, market: Market, ending: str = "") -> dict[Path, datetime]:
    """Return the market's files in the reports directory with the times in their names."""
    # The digits of the time exclude reports of other horizons, such as BTCUSDT-5m-h3-...
    name = re.compile(rf"{re.escape(market.model_name)}-(\d{{8}}T\d{{6}}Z)-[a-z]+\.(html|json){re.escape(ending)}")
    files = ((path, name.fullmatch(path.name)) for path in directory.glob(f"{market.model_name}-*"))
    return {path: datetime.strptime(match[1], _STAMP).replace(tzinfo=UTC) for path, match in files if match}

"""Read API over the database: candles, the ledger, monitoring, status; and Evidently's reports."""

from __future__ import annotations

import re
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from candlecast.answers import Answer
from candlecast.journal import JOBS
from candlecast.ledger import ROLES
from candlecast.registry import CHAMPION
from candlecast.settings import Settings
from service import queries
from service.parameters import read_choice, read_window, require_known
from service.problems import BadRequest
from service.resources import resources
from service.schemas import (
    Badge,
    CandleRow,
    CandlesAnswer,
    Check,
    ForecastRow,
    ForecastsAnswer,
    JobRun,
    MonitoringAnswer,
    Outcome,
    Promotion,
    Rolling,
    StatusAnswer,
)

_CHECKS_SHOWN = 20
_PROMOTIONS_SHOWN = 10
_REPORT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.html")


def price_latest(request: Request) -> Response:
    """The newest closed candle."""
    require_known(request)
    candles = _rows(request, queries.CANDLES, {**_everything(), "limit": 1})
    if not candles:
        raise BadRequest("no candle is stored yet; run a backfill, or wait for it", status=404)
    return _json(CandleRow(**candles[0]))


def price_history(request: Request) -> Response:
    """The newest `limit` candles opening in [start, end), oldest first."""
    require_known(request, "limit", "start", "end")
    candles = _rows(request, queries.CANDLES, read_window(request))
    market = resources(request).settings.market
    rows = [CandleRow(**row) for row in candles]
    return _json(CandlesAnswer(symbol=market.symbol, interval=market.interval, candles=rows))


def forecasts(request: Request) -> Response:
    """The newest `limit` forecasts of target candles opening in [start, end), with outcomes, oldest first."""
    require_known(request, "limit", "start", "end", "role")
    rows = _rows(request, queries.FORECASTS, {**read_window(request), "role": read_choice(request, "role", ROLES)})
    market = resources(request).settings.market
    forecasts = [_forecast_row(row) for row in rows]
    return _json(ForecastsAnswer(symbol=market.symbol, interval=market.interval, forecasts=forecasts))


def forecasts_latest(request: Request) -> Response:
    """The champion's newest forecast."""
    require_known(request)
    rows = _rows(request, queries.FORECASTS, {**_everything(), "limit": 1, "role": "champion"})
    if not rows:
        raise BadRequest("no forecast is recorded yet; ingest records the first once a model serves", status=404)
    return _json(_forecast_row(rows[0]))


def monitoring(request: Request) -> Response:
    """Rolling error of the served champion beside persistence's, the last checks and the last promotions."""
    require_known(request)
    settings = resources(request).settings
    champion = resources(request).follower.served.get(CHAMPION)
    of_champion = {"limit": settings.rolling_n, "version": champion.version if champion else None}
    rolling = _rows(request, queries.ROLLING, of_champion)[0]
    checks = _rows(request, queries.CHECKS, {"limit": _CHECKS_SHOWN})
    named = {"limit": _PROMOTIONS_SHOWN, "model_name": settings.market.model_name}
    return _json(
        MonitoringAnswer(
            rolling=Rolling(**rolling),
            checks=[Check(**{**check, "report": _report_address(check["report"])}) for check in checks],
            promotions=[Promotion(**promotion) for promotion in _rows(request, queries.PROMOTIONS, named)],
        )
    )


def status(request: Request) -> Response:
    """Source of the candles, their freshness, versions served, the last run of each job."""
    require_known(request)
    settings = resources(request).settings
    freshness = _rows(request, queries.FRESHNESS, {})[0]
    return _json(
        StatusAnswer(
            **settings.market._asdict(),
            source=_badge(settings, freshness["forecast_source"]),
            newest_candle=freshness["newest_candle"],
            newest_forecast=freshness["newest_forecast"],
            served={alias: model.version for alias, model in resources(request).follower.served.items()},
            jobs=[JobRun(**run) for run in _rows(request, queries.LAST_JOB_RUNS, {"jobs": list(JOBS)})],
            links={
                "prefect": settings.prefect_api_url.removesuffix("/").removesuffix("/api"),
                "mlflow": settings.mlflow_tracking_uri,
            },
        )
    )


def report(request: Request) -> Response:
    """An Evidently report, as HTML."""
    name = request.path_params["name"]
    path = resources(request).settings.reports_dir / name
    if not _REPORT_NAME.fullmatch(name) or not path.is_file():
        raise BadRequest(f"there is no report {name!r:.60}; /monitoring lists the addresses of those kept", status=404)
    return FileResponse(path, media_type="text/html")


ROUTES = (
    Route("/price/latest", price_latest),
    Route("/price/history", price_history),
    Route("/forecasts", forecasts),
    Route("/forecasts/latest", forecasts_latest),
    Route("/monitoring", monitoring),
    Route("/status", status),
    Route("/reports/{name}", report),
)
"""All plain functions, which Starlette runs in threads: they wait for the database."""


def _rows(request: Request, query: str, arguments: dict[str, Any]) -> list[dict[str, Any]]:
    here = resources(request)
    return here.database.rows(query, {**here.settings.market._asdict(), **arguments})


def _everything() -> dict[str, Any]:
    return {"start": "-infinity", "end": "infinity"}


def _json(answer: Answer) -> Response:
    return Response(answer.model_dump_json(), media_type="application/json", headers={"Cache-Control": "no-store"})


def _forecast_row(row: dict[str, Any]) -> ForecastRow:
    actual = None
    if row["settled_at"] is not None:
        actual = Outcome(
            reference_close=row["reference_close"],
            open=row["actual_open"],
            high=row["actual_high"],
            low=row["actual_low"],
            close=row["actual_close"],
            amplitude=row["actual_amplitude"],
            settled_at=row["settled_at"],
        )
    return ForecastRow(**row, actual=actual)


def _report_address(report: str | None) -> str | None:
    """Where this service shows a report that the monitor noted by path or name."""
    return None if report is None else "/reports/" + re.split(r"[/\\]", report)[-1]


def _badge(settings: Settings, forecast_source: str | None) -> Badge:
    """Live or replay; a service that was only told `auto` goes by the newest forecast."""
    if settings.source == "binance" or (settings.source == "auto" and forecast_source == "live"):
        return "live"
    if settings.source == "replay" or forecast_source == "replay":
        return "replay"
    return "unknown"

"""Read API over the database: candles, the ledger, monitoring, status; and Evidently's reports."""

from __future__ import annotations

import re
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from candlecast.answers import Answer
from candlecast.ledger import ROLES
from candlecast.settings import Settings
from service import queries
from service.database import ReadOnlyDatabase
from service.models import ModelFollower
from service.parameters import read_choice, read_limit, read_window, require_known
from service.problems import BadRequest
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


class ReadApi:
    """The handlers; each runs in a thread, because it waits for the database.

    Args:
        settings: Names the market that is read, the reports' directory and the links.
        database: As a read-only role.
        follower: Tells which versions are served.
    """

    def __init__(self, settings: Settings, database: ReadOnlyDatabase, follower: ModelFollower) -> None:
        self._settings = settings
        self._database = database
        self._follower = follower
        self._market = dict(settings.market._asdict())

    def price_latest(self, request: Request) -> Response:
        """The newest closed candle."""
        require_known(request)
        candles = self._rows(queries.CANDLES, {**_everything(), "limit": 1})
        if not candles:
            raise BadRequest("no candle is stored yet; run a backfill, or wait for it", status=404)
        return _json(CandleRow(**candles[0]))

    def price_history(self, request: Request) -> Response:
        """The newest `limit` candles opening in [start, end), oldest first."""
        require_known(request, "limit", "start", "end")
        candles = self._rows(queries.CANDLES, read_window(request))
        market = self._settings.market
        rows = [CandleRow(**row) for row in candles]
        return _json(CandlesAnswer(symbol=market.symbol, interval=market.interval, candles=rows))

    def forecasts(self, request: Request) -> Response:
        """The newest `limit` forecasts of target candles opening in [start, end), with outcomes, oldest first."""
        require_known(request, "limit", "start", "end", "role")
        rows = self._rows(queries.FORECASTS, {**read_window(request), "role": read_choice(request, "role", ROLES)})
        market = self._settings.market
        forecasts = [_forecast_row(row) for row in rows]
        return _json(ForecastsAnswer(symbol=market.symbol, interval=market.interval, forecasts=forecasts))

    def forecasts_latest(self, request: Request) -> Response:
        """The champion's newest forecast."""
        require_known(request)
        rows = self._rows(queries.FORECASTS, {**_everything(), "limit": 1, "role": "champion"})
        if not rows:
            raise BadRequest("no forecast is recorded yet; ingest records the first once a model serves", status=404)
        return _json(_forecast_row(rows[0]))

    def monitoring(self, request: Request) -> Response:
        """Rolling error of the champion beside persistence's, the last checks and the last promotions."""
        require_known(request)
        rolling = self._rows(queries.ROLLING, {"limit": self._settings.rolling_n})[0]
        checks = self._rows(queries.CHECKS, {"limit": _CHECKS_SHOWN})
        promotions = self._rows(
            queries.PROMOTIONS, {"limit": _PROMOTIONS_SHOWN, "model_name": self._settings.market.model_name}
        )
        return _json(
            MonitoringAnswer(
                rolling=Rolling(**rolling),
                checks=[Check(**{**check, "report": _report_address(check["report"])}) for check in checks],
                promotions=[Promotion(**promotion) for promotion in promotions],
            )
        )

    def status(self, request: Request) -> Response:
        """Source of the candles, their freshness, versions served, the last run of each job."""
        require_known(request)
        freshness = self._rows(queries.FRESHNESS, {})[0]
        settings = self._settings
        return _json(
            StatusAnswer(
                **self._market,
                source=_badge(settings, freshness["forecast_source"]),
                newest_candle=freshness["newest_candle"],
                newest_forecast=freshness["newest_forecast"],
                served={alias: model.version for alias, model in self._follower.served.items()},
                jobs=[JobRun(**run) for run in self._rows(queries.LAST_JOB_RUNS, {})],
                links={
                    "prefect": settings.prefect_api_url.removesuffix("/").removesuffix("/api"),
                    "mlflow": settings.mlflow_tracking_uri,
                },
            )
        )

    def report(self, request: Request) -> Response:
        """An Evidently report, as HTML."""
        name = request.path_params["name"]
        path = self._settings.reports_dir / name
        if not _REPORT_NAME.fullmatch(name) or not path.is_file():
            raise BadRequest(f"there is no report {name!r:.60}; /monitoring lists the addresses of those kept", status=404)
        return FileResponse(path, media_type="text/html")

    def routes(self) -> list[Route]:
        """The routes of this API."""
        return [
            Route("/price/latest", self.price_latest),
            Route("/price/history", self.price_history),
            Route("/forecasts", self.forecasts),
            Route("/forecasts/latest", self.forecasts_latest),
            Route("/monitoring", self.monitoring),
            Route("/status", self.status),
            Route("/reports/{name}", self.report),
        ]

    def _rows(self, query: str, arguments: dict[str, Any]) -> list[dict[str, Any]]:
        return self._database.rows(query, {**self._market, **arguments})


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

"""Routes about the state of the platform: monitoring, versions, runs of jobs, quality of candles, reports."""

from __future__ import annotations

import re
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import pandas as pd
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from candlecast.api.importance import IMPORTANCE_METHODS, ImportanceAnswer
from candlecast.candles.schema import CANDLE_COLUMNS
from candlecast.errors import without_logins
from candlecast.job_runs import JOBS
from candlecast.ledger.performance import measure
from candlecast.market import Market
from candlecast.registry.identity import ModelVersion
from candlecast.registry.registry import CHAMPION
from candlecast.settings.settings import Settings
from service.history.queries import CANDLES
from service.http.documented import Documented
from service.http.parameters import MARKET, read_choice
from service.http.problems import Refusal
from service.http.reading import json_answer, market_of, reading_routes, rows
from service.http.resources import resources
from service.models.reloaders import ModelReloaders
from service.status import examples, queries
from service.status.importance import WINDOWS, Importances, shap_importance
from service.status.monitoring_answer import figures_by_name, monitoring_answer
from service.status.monitoring_schemas import LiveFigures, MonitoringAnswer, Promotion
from service.status.schemas import (
    Badge,
    DoubtfulCandle,
    ForecastMarket,
    Gap,
    JobRun,
    JobsAnswer,
    MarketName,
    QualityAnswer,
    Revision,
    StatusAnswer,
    Version,
    VersionsAnswer,
)

_VERSIONS_SHOWN = 10
_DECISIONS_READ = 200
_RUNS_SHOWN = 5
_SHOWN = 20
# Scripts of a page run without this site's origin: neither its answers nor a remembered API key are in their reach.
_REPORT_HEADERS = {"Content-Security-Policy": "sandbox allow-scripts", "X-Content-Type-Options": "nosniff"}
_REPORT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.html")


@Documented(MonitoringAnswer, examples.MONITORING, MARKET)
def monitoring(request: Request) -> Response:
    """Read figures of champion and challenger beside baselines, also by hour; misses, alerts, checks, decisions."""
    return json_answer(
        monitoring_answer(partial(rows, request), market_of(request), resources(request)[Settings], _served(request))
    )


@Documented(StatusAnswer, examples.STATUS, MARKET)
def status(request: Request) -> Response:
    """Read the source of the candles, their freshness, versions served, and the last run of each job."""
    settings = resources(request)[Settings]
    freshness = rows(request, queries.FRESHNESS, {})[0]
    source = _badge(settings, freshness["forecast_source"])
    return json_answer(
        StatusAnswer(
            **_name(market_of(request)),
            source=source,
            newest_candle=freshness["newest_candle"],
            newest_forecast=freshness["newest_forecast"],
            served={alias: version.number for alias, version in _served(request).items()},
            jobs=[JobRun(**run) for run in rows(request, queries.JOB_RUNS, {"jobs": list(JOBS), "limit": 1})],
            links=_links(settings),
            speed=settings.exchange.replay_speed if source == "replay" else 1.0,
            markets=[MarketName(**market) for market in rows(request, queries.MARKETS, {})],
            forecast_here=[ForecastMarket(**_name(one)) for one in settings.all_markets],
        )
    )


@Documented(parameters=None, refusals=(404, 503), media_type="text/html")
def report(request: Request) -> Response:
    """Read an Evidently report, as HTML."""
    name = request.path_params["name"]
    path = resources(request)[Settings].reports_dir / name
    if not _REPORT_NAME.fullmatch(name) or not path.is_file():
        raise Refusal("not-found", f"there is no report {name!r:.60}; /monitoring lists the addresses of all reports")
    return FileResponse(path, media_type="text/html", headers=_REPORT_HEADERS)


@Documented(VersionsAnswer, examples.VERSIONS, MARKET)
def versions(request: Request) -> Response:
    """Read the newest versions with a decision: figures, decisions with reasons, and the running trial."""
    name = market_of(request).model_name
    decisions = rows(request, queries.DECISIONS, {"model_name": name, "limit": _DECISIONS_READ})
    by_version: dict[tuple[str, str | None], list[dict[str, Any]]] = {}
    for decision in reversed(decisions):  # a number may be given again, so the first decisions give the order
        by_version.setdefault((decision["version"], decision["run_id"]), []).insert(0, decision)
    newest = [*reversed(by_version)][:_VERSIONS_SHOWN]
    trial = rows(request, queries.NEWEST_TRIAL, {})
    return json_answer(
        VersionsAnswer(
            name=name,
            versions=[_version(request, *one, by_version[one]) for one in newest],
            trial=trial[0]["trial"] if trial else None,
        )
    )


@Documented(JobsAnswer, examples.JOBS, MARKET)
def jobs(request: Request) -> Response:
    """Read the last runs of each job."""
    symbol, interval, _ = market_of(request)
    runs = rows(request, queries.JOB_RUNS, {"jobs": list(JOBS), "limit": _RUNS_SHOWN})
    return json_answer(JobsAnswer(symbol=symbol, interval=interval, runs=[JobRun(**run) for run in runs]))


@Documented(QualityAnswer, examples.QUALITY, MARKET)
def quality(request: Request) -> Response:
    """Read the missing, doubtful and corrected candles."""
    symbol, interval, _ = market_of(request)
    [counts] = rows(request, queries.QUALITY_COUNTS, {})
    shown = {"limit": _SHOWN}
    return json_answer(
        QualityAnswer(
            symbol=symbol,
            interval=interval,
            **counts,
            newest_gaps=[Gap(**row) for row in rows(request, queries.GAPS, shown)],
            newest_doubtful=[DoubtfulCandle(**row) for row in rows(request, queries.DOUBTFUL, shown)],
            newest_revisions=[Revision(**row) for row in rows(request, queries.REVISIONS, shown)],
        )
    )


@Documented(ImportanceAnswer, examples.IMPORTANCE, (*MARKET, "method"))
def importance(request: Request) -> Response:
    """Read the importance of each input for the served champion.

    By permutation: its losses on the newest candles with the input shuffled. A request measures it, at most once a day
    for each version. By shap: mean absolute SHAP values of its training, which are in the bundles of trees.
    """
    here, method = resources(request), read_choice(request, "method", IMPORTANCE_METHODS) or "permutation"
    champion = here[ModelReloaders].served(market_of(request)).get(CHAMPION)
    n = WINDOWS if method == "permutation" else None
    if champion is None:
        return json_answer(ImportanceAnswer(version=None, method=method, n=n, inputs=[]))
    if method == "shap":
        inputs = shap_importance(champion.bundle.manifest)
        if inputs is None:
            detail = (
                f"version {champion.version} is of family {champion.bundle.manifest.family}, which has no SHAP values; "
                "send method=permutation"
            )
            raise Refusal("invalid-parameter", detail, field="method", value=method)
    else:
        newest, inputs = _newest_candles(request, 1), []
        if len(newest):
            read = partial(_newest_candles, request, 2 * WINDOWS)
            inputs = here[Importances].of(champion.identity, champion.bundle, newest.index[0].date(), read)
    return json_answer(ImportanceAnswer(version=champion.version, method=method, n=n, inputs=inputs))


ROUTES = reading_routes(
    {
        "/monitoring": monitoring,
        "/status": status,
        "/reports/{name}": report,
        "/versions": versions,
        "/jobs": jobs,
        "/quality": quality,
        "/importance": importance,
    }
)


def _newest_candles(request: Request, limit: int) -> pd.DataFrame:
    wanted = {"start": "-infinity", "end": "infinity", "limit": limit}
    found = pd.DataFrame(rows(request, CANDLES, wanted), columns=["open_time", *CANDLE_COLUMNS])
    return found.set_index(pd.DatetimeIndex(found["open_time"], tz="UTC"))[list(CANDLE_COLUMNS)].astype("float64")


def _version(request: Request, version: str, run_id: str | None, decisions: list[dict[str, Any]]) -> Version:
    here, market = resources(request), market_of(request)
    identity = ModelVersion(version, run_id) if run_id is not None else None
    mine = [model for model in here[ModelReloaders].served(market).values() if model.identity == identity]
    by_gate = [decision["numbers"] for decision in decisions if decision["decided_by"] == "gate"]
    n = here[Settings].of(market).limits.rolling_n
    live = measure(partial(rows, request), market, "champion", n, identity) if identity else None
    return Version(
        version=version,
        aliases=[model.alias for model in mine],
        run_id=run_id,
        gate=by_gate[0] if by_gate else None,
        live=LiveFigures(**figures_by_name(live, market_of(request).horizon)) if live else None,
        decisions=[Promotion(**{name: row[name] for name in Promotion.model_fields}) for row in decisions],
    )


def _name(market: Market) -> dict[str, Any]:
    return {"market": market.model_name, **market._asdict()}


def _links(settings: Settings) -> dict[str, str]:
    links = {
        "prefect": settings.prefect_api_url.removesuffix("/").removesuffix("/api"),
        "mlflow": settings.mlflow_tracking_uri,
        "evidently": settings.evidently_url,
    }
    return {name: without_logins(link) for name, link in links.items() if _is_for_browsers(link)}


def _is_for_browsers(link: str) -> bool:
    """Whether a browser may find the host: that of a container or of a Kubernetes Service has no dot."""
    host = urlsplit(link).hostname or ""  # a simulation has neither Prefect nor Evidently
    return host == "localhost" or "." in host or ":" in host


def _served(request: Request) -> dict[str, ModelVersion]:
    """Version under each alias; empty for a market that is not forecast here."""
    served = resources(request)[ModelReloaders].served(market_of(request))
    return {alias: model.identity for alias, model in served.items()}


def _badge(settings: Settings, forecast_source: str | None) -> Badge:
    """Live or replay; with the source `auto` the newest forecast decides."""
    if settings.source == "binance" or (settings.source == "auto" and forecast_source == "live"):
        return "live"
    if settings.source == "replay" or forecast_source == "replay":
        return "replay"
    return "unknown"

"""`POST /predict`, `POST /predict/series` and `GET /model`: what needs no database."""

from __future__ import annotations

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from candlecast.api.answers import ForecastAnswer, ModelsAnswer
from candlecast.api.series_answers import ForecastSeriesAnswer
from candlecast.settings.settings import Settings
from service.http.documented import Documented
from service.http.limits import AccessControl, Limits
from service.http.parameters import MARKET, chosen_market, require_known
from service.http.reading import market_of
from service.http.resources import Resources, resources
from service.models.readiness import Readiness
from service.models.reloaders import ModelReloaders
from service.models.served import ServedModel
from service.predict import examples
from service.predict.batching import ForecastRequest, RequestBatcher, forecast_request
from service.predict.model_card import describe_models
from service.predict.predict import choose_model
from service.predict.request import PostedHistory, parse_predict, parse_series
from service.predict.series import answer_series
from service.telemetry.metrics import ServiceMetrics

BODY_LIMIT = 4 * 1024 * 1024
"""Most bytes of a body of /predict; HISTORY_LIMIT indented candles fit in."""

SERIES_BODY_LIMIT = 16 * 1024 * 1024
"""Most bytes of a body of /predict/series; SERIES_LIMIT candles fit in."""

_INLINE_BODY = 256 * 1024


_POSTED = (404, 408, 413, 415, 503)


@Documented(ForecastAnswer, examples.PREDICT, refusals=_POSTED, body="PredictRequest", tag="model")
async def predict(request: Request) -> Response:
    """Forecast the next candle from the history in the body; closed candles only, oldest first.

    The service has no clock of its own, so it cannot detect a last candle that has not closed. Leave that candle
    out. `GET /model` states the fewest and the most candles.
    """
    require_known(request)
    here = resources(request)
    bodies = here[Limits].bodies
    body = await bodies.read(request.scope, request.receive, BODY_LIMIT)
    try:
        # A short history takes less than a millisecond; a thread would cost a large part of another.
        if len(body) > _INLINE_BODY:
            answer = await here[Limits].computing.run(_predict_long, here, body, request.scope["noted"])
        else:
            answer = await here[RequestBatcher].submit(_forecast_request(here, body, request.scope["noted"]))
        return Response(answer, media_type="application/json")
    finally:
        bodies.release(len(body))


@Documented(ForecastSeriesAnswer, examples.PREDICT_SERIES, refusals=_POSTED, body="SeriesRequest", tag="model")
async def predict_series(request: Request) -> Response:
    """Forecast after every candle of a long history that has enough others before it.

    The forecasts equal those of single calls, and are answered in columns. `fields` names the columns wanted, by
    default all. Send a longer history in pieces that overlap by one candle less than a single forecast needs.
    """
    require_known(request)
    here = resources(request)
    bodies = here[Limits].bodies
    body = await bodies.read(request.scope, request.receive, SERIES_BODY_LIMIT)
    try:
        return await here[Limits].computing.run(_predict_series, here, body, request.scope["noted"])
    finally:
        bodies.release(len(body))


@Documented(ModelsAnswer, examples.MODEL, MARKET, refusals=(), tag="model")
async def describe_model(request: Request) -> Response:
    """Describe the versions served under each alias: figures beside the baselines', spans, and input contract."""
    require_known(request, *MARKET)
    here, market = resources(request), market_of(request)
    expiry = here[Settings].of(market).limits.model_expiry
    reloader = here[ModelReloaders].of(market, is_named="market" in request.query_params)
    described = describe_models(here[Readiness], expiry, reloader)
    return Response(described.model_dump_json(), media_type="application/json", headers={"Cache-Control": "no-store"})


ROUTES = (
    Route("/predict", predict, methods=["POST"], middleware=[Middleware(AccessControl)]),
    Route("/predict/series", predict_series, methods=["POST"], middleware=[Middleware(AccessControl)]),
    Route("/model", describe_model, middleware=[Middleware(AccessControl)]),
)


def _forecast_request(here: Resources, body: bytes, noted: dict[str, object]) -> ForecastRequest:
    posted = parse_predict(body)
    model = _chosen_model(here, posted)
    noted["version"] = model.version
    return forecast_request(posted, model)


def _chosen_model(here: Resources, posted: PostedHistory) -> ServedModel:
    market = chosen_market(here[Settings], posted.market, posted.symbol, posted.interval)
    reloader = here[ModelReloaders].of(market, is_named=posted.market is not None)
    return choose_model(reloader.served, posted.model)


def _predict_long(here: Resources, body: bytes, noted: dict[str, object]) -> bytes:
    [answer] = here[RequestBatcher].compute([_forecast_request(here, body, noted)])
    return answer


def _predict_series(here: Resources, body: bytes, noted: dict[str, object]) -> Response:
    posted = parse_series(body)
    model = _chosen_model(here, posted)
    noted["version"] = model.version
    expiry = here[Settings].of(model.bundle.manifest.market).limits.model_expiry
    answer, count, abstained = answer_series(posted, model, expiry)
    noted["forecasts"] = count
    here[ServiceMetrics].count_forecasts(model, count, [one.cause for one in abstained])
    here[ServiceMetrics].series.observe(count)
    return Response(answer, media_type="application/json")

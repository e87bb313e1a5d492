"""Routes of the newest forecast, of forecasts on demand, of the directions of past ones, and the stream of new rows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import msgspec
import numpy as np
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from candlecast.bundle.manifest import Manifest
from candlecast.classification import Classification, classify
from candlecast.errors import DatabaseUnavailable
from candlecast.ledger.forecasts import ROLES
from candlecast.market import Market
from candlecast.registry.registry import CHAMPION
from candlecast.settings.settings import Settings
from candlecast.statistics import ratio_error, student_interval
from service.history.api import forecast_row
from service.history.queries import CANDLES, FORECASTS
from service.http.database import ReadOnlyDatabase
from service.http.documented import Documented
from service.http.limits import AccessControl, Limits
from service.http.parameters import MARKET, read_choice, read_window, require_known
from service.http.problems import Refusal
from service.http.reading import json_answer, market_of, reading_routes, rows
from service.http.resources import resources
from service.models.readiness import Readiness
from service.models.reloaders import ModelReloaders
from service.models.served import ServedModel
from service.outlook import examples, queries
from service.outlook.feed import POLL_S, LedgerEvent, LedgerFeed
from service.outlook.on_demand import candles_before, forecast_series, newest_forecast, stored_history
from service.outlook.schemas import (
    AccuracyAnswer,
    Directions,
    Evaluation,
    FigureBeside,
    LatestForecast,
    NextForecast,
    Trend,
)
from service.predict.predict import choose_model

_ALL_TIMES = {"start": "-infinity", "end": "infinity"}
_NEXT = (*MARKET, "start", "end", "limit")
_STREAMS = 200
_STREAM_S = 900.0
_HEARTBEAT_S = 15.0
_STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


@Documented(LatestForecast, examples.LATEST, MARKET, refusals=(404, 503))
def forecasts_latest(request: Request) -> Response:
    """Read the champion's newest forecast, and what it means for the close."""
    found = rows(request, FORECASTS, {**_ALL_TIMES, "limit": 1, "role": CHAMPION})
    if not found:
        raise Refusal("nothing-recorded", "no forecast is recorded yet; ingest records the first once a model serves")
    row, market = forecast_row(found[0]), market_of(request)
    served = resources(request)[ModelReloaders].served(market).values()
    made_by = (row["run_id"], row.get("bundle_sha256"))
    manifest = next(
        (one.bundle.manifest for one in served if made_by in ((one.run_id, one.bundle_sha256), (one.run_id, None))),
        None,
    )
    meaning = _outlook(row["close"], row["baseline_close"], row["probability_up"], market, manifest)
    return json_answer(LatestForecast.model_validate(row | meaning))


@Documented(NextForecast, examples.NEXT, _NEXT, refusals=(404, 503))
async def forecasts_next(request: Request) -> Response:
    """Forecast with the champion from the newest stored candles, now, without recording it.

    With `start` or `end`, `series` holds its forecasts of the newest `limit` target candles that open in [start, end),
    made after its training, and after the newest gap among the stored candles. None of them was made before its
    outcome, so they are no record: `/forecasts` is.
    """
    require_known(request, *_NEXT)
    here, market, window = resources(request), market_of(request), read_window(request)
    model = choose_model(here[ModelReloaders].of(market).served, CHAMPION)
    expiry = here[Settings].of(market).limits.model_expiry
    answer = await here[Limits].reading.run(_newest, request, model, expiry)
    if {"start", "end"} & request.query_params.keys():
        # One at a time, as those of posted candles: they would delay short requests.
        answer["series"] = await here[Limits].computing.run(_series, request, window, model, expiry)
    return json_answer(NextForecast.model_validate(answer))


@Documented(AccuracyAnswer, examples.ACCURACY, (*MARKET, "limit", "role"))
def forecasts_accuracy(request: Request) -> Response:
    """Read how often the directions of the newest `limit` settled forecasts were right, beside two naive ways."""
    role, limit = read_choice(request, "role", ROLES) or CHAMPION, read_window(request)["limit"]
    found, market = rows(request, queries.DIRECTIONS, {"role": role, "limit": limit}), market_of(request)
    rose = np.array([row["rose"] for row in found], dtype=bool)
    probability, base = (
        np.array([row[name] for row in found], dtype="float64") for name in ("probability_up", "baseline_up")
    )
    moves = np.array([row["last_move"] or 0 for row in found], dtype="float64")
    hits = ((probability >= 0.5) == rose).astype("float64")
    error = ratio_error(hits, np.ones(len(hits)), market.horizon) if len(hits) else None
    ours = classify(probability, rose)
    return json_answer(
        AccuracyAnswer(
            **market._asdict(),
            role=role,
            start=found[0]["open_time"] if found else None,
            end=found[-1]["open_time"] if found else None,
            model=_directions(ours),
            accuracy_interval=student_interval(ours.accuracy, error, len(hits), market.horizon),
            base_rate=_directions(classify(base, rose)),
            persistence=_directions(classify((moves[moves != 0] + 1) / 2, rose[moves != 0])),
        )
    )


@Documented(None, parameters=MARKET, refusals=(503,), media_type="text/event-stream")
async def forecasts_stream(request: Request) -> Response:
    """Follow the ledger: an event for each forecast that is recorded from now on, and for each outcome.

    The events are `forecast` and `outcome`; their data is a row as of `/forecasts`. The id ascends with the time of
    recording: a client that sends it as `Last-Event-ID`, as browsers do, gets what it missed, as far back as this
    process remembers. A stream ends after 15 minutes; browsers open the next one by themselves.
    """
    require_known(request, *MARKET)
    here, market = resources(request), market_of(request)
    here[ModelReloaders].of(market)  # refuses markets that are not forecast here: each is remembered
    streams = here[LedgerFeed]
    if streams.open_streams >= _STREAMS:
        raise Refusal("overloaded", f"{_STREAMS} streams are open; poll /forecasts/latest", retry_after_s=POLL_S)
    streams.open_streams += 1
    try:
        known = await _events_after(request, market, 0)  # refuses before the answer begins
    except BaseException:
        streams.open_streams -= 1
        raise
    position, missed = known[-1].number if known else 0, _missed(request, known)
    events = _stream(request, market, position, missed)
    return _CountedStream(streams, events, media_type="text/event-stream", headers=_STREAM_HEADERS)


ROUTES = (
    *reading_routes(
        {
            "/forecasts/latest": forecasts_latest,
            "/forecasts/accuracy": forecasts_accuracy,
        }
    ),
    Route("/forecasts/next", forecasts_next, middleware=[Middleware(AccessControl)]),
    Route("/forecasts/stream", forecasts_stream, middleware=[Middleware(AccessControl)]),
)


def _outlook(close: float, last: float, up: float, market: Market, manifest: Manifest | None) -> dict[str, Any]:
    """What a forecast means, as the fields of `service.outlook.schemas.Outlook`."""
    rises = up >= 0.5
    return {
        "horizon_minutes": market.horizon * market.step / timedelta(minutes=1),
        "change": close - last,
        "change_percent": 100 * (close / last - 1),
        "trend": Trend(trend="UP" if rises else "DOWN", numeric=int(rises), confidence=up if rises else 1 - up),
        "evaluation": None if manifest is None else _evaluation(manifest),
    }


def _evaluation(manifest: Manifest) -> Evaluation | None:
    figures, span = manifest.metrics, manifest.spans.get("report")
    if span is None or "close_mae" not in figures:
        return None

    def beside(name: str) -> FigureBeside:
        return FigureBeside(model=figures[name], baseline=figures[f"{name}_baseline"])

    return Evaluation(
        start=span.start,
        end=span.end,
        mae=beside("close_mae"),
        mape=beside("close_mape"),
        accuracy=beside("direction_accuracy"),
        f1=beside("direction_f1") if "direction_f1" in figures else None,
    )


def _newest(request: Request, model: ServedModel, expiry: timedelta) -> dict[str, Any]:
    manifest = model.bundle.manifest
    candles = rows(request, CANDLES, {**_ALL_TIMES, "limit": manifest.history})
    answer = newest_forecast(stored_history(candles, model), model, expiry)
    close, up = answer["close"], answer["direction"]["up"]
    return answer | _outlook(close, answer["baseline"]["close"], up, manifest.market, manifest)


def _series(request: Request, window: dict[str, Any], model: ServedModel, expiry: timedelta) -> dict[str, Any]:
    start, end = candles_before(model, window["start"], window["end"])
    limit = window["limit"] + model.bundle.manifest.history - 1
    candles = rows(request, CANDLES, {"start": start, "end": end, "limit": limit})
    return forecast_series(stored_history(candles, model), model, expiry)


def _directions(found: Classification) -> Directions:
    n = found.true_up + found.false_up + found.true_down + found.false_down
    return Directions(n=n, **{name: getattr(found, name) for name in Directions.model_fields if name != "n"})


async def _events_after(request: Request, market: Market, number: int) -> list[LedgerEvent]:
    here = resources(request)
    database, reading = here[ReadOnlyDatabase], here[Limits].reading

    async def read(of: Market, limit: int) -> list[dict[str, Any]]:
        arguments = {**of._asdict(), **_ALL_TIMES, "limit": limit, "role": None}
        return await reading.run(database.rows, FORECASTS, arguments)

    return await here[LedgerFeed].after(market, number, read)


def _missed(request: Request, known: list[LedgerEvent]) -> list[LedgerEvent]:
    """Return the events after the one that the client saw last; none for a new client."""
    seen = request.headers.get("last-event-id")
    return [] if seen is None else [event for event in known if _id(event) > seen]


class _CountedStream(StreamingResponse):
    """A stream that is counted as open until its answer ends, whether it began or not."""

    def __init__(self, feed: LedgerFeed, events: AsyncIterator[bytes], **options: Any) -> None:
        super().__init__(events, **options)
        self._feed = feed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._feed.open_streams -= 1


async def _stream(request: Request, market: Market, position: int, events: list[LedgerEvent]) -> AsyncIterator[bytes]:
    """Write events until the client leaves, the service stops, or the stream is old."""
    here, opened = resources(request), time.monotonic()
    readiness, written = here[Readiness], opened
    yield b"retry: 2000\n\n"
    while time.monotonic() - opened < _STREAM_S and not readiness.is_draining:
        for event in events:
            yield _encoded(event)
        now = time.monotonic()
        if events:
            position, written = max(position, events[-1].number), now
        elif now - written >= _HEARTBEAT_S:
            yield b": nothing new\n\n"
            written = now
        await asyncio.sleep(POLL_S)
        try:
            events = await _events_after(request, market, position)
        except (DatabaseUnavailable, Refusal):  # the next attempt may find it again
            events = []


def _encoded(event: LedgerEvent) -> bytes:
    data = msgspec.json.encode(forecast_row(event.row)).decode()
    return f"id: {_id(event)}\nevent: {event.kind}\ndata: {data}\n\n".encode()


def _id(event: LedgerEvent) -> str:
    """Return an id that ascends with the time of recording, and differs for all events of a market."""
    opened = event.row["open_time"]
    return f"{event.at:%Y-%m-%dT%H:%M:%S.%fZ} {opened:%Y-%m-%dT%H:%MZ} {event.row['role']} {event.kind}"

"""What the service is compared with in `tests.bench.service`; each is served alone, in a process of its own."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel

BUNDLE = "BENCH_BUNDLE"
"""Variable with the directory of the bundle that all of them answer from."""

KERAS = "BENCH_KERAS"
"""Variable with the file of the same network for Keras."""


class Candle(BaseModel):
    """As most projects declare it."""

    open_time: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    trades: float
    taker_buy_base: float


class History(BaseModel):
    """The body."""

    candles: list[Candle]


class Parsed(BaseModel):
    """What a server that only parses answers."""

    count: int


def fastapi_app() -> Any:
    """The design that most projects use: a pydantic body, a frame, features, Keras' `predict`."""
    from pathlib import Path

    import keras
    from fastapi import FastAPI

    from candlecast.bundle.bundle import read_manifest

    manifest = read_manifest(Path(os.environ[BUNDLE]))
    model = keras.saving.load_model(os.environ[KERAS])
    app = FastAPI()

    @app.post("/predict")
    def predict(request: History) -> dict[str, float]:
        frame = pd.DataFrame([candle.model_dump() for candle in request.candles])
        frame.index = pd.DatetimeIndex(pd.to_datetime(frame["open_time"], unit="ms", utc=True))
        rows = manifest.scaler.apply(manifest.features.build(frame).matrix, manifest.features)
        answer = model.predict(rows[np.newaxis, -manifest.sequence_length :], verbose=0)
        values = list(answer.values()) if isinstance(answer, dict) else list(answer)
        return {"close": float(np.ravel(values[0])[3])}

    return app


class WithoutTimer:
    """A layer of BentoML that takes away those around it: tracing, and the timer that cannot be switched off."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass on what comes."""
        if scope["type"] == "lifespan":
            scope["app"].middleware_stack = self._app
        await self._app(scope, receive, send)


def parsing_service(*, timed: bool) -> Any:
    """An empty BentoML endpoint that parses the body, tuned: no metrics, tracing or log, a heap left alone."""
    import gc

    import bentoml

    @bentoml.service(name="parsing", **_TUNED)
    class Parsing:
        def __init__(self) -> None:
            gc.collect()
            gc.freeze()

        @bentoml.api(route="/predict", input_spec=History)
        async def predict(self, **body: Any) -> Parsed:
            return Parsed(count=len(body["candles"]))

    if not timed:
        Parsing.add_asgi_middleware(WithoutTimer)
    return Parsing


def mounted_service() -> Any:
    """The same as a mounted route without BentoML's own parsing: the least that BentoML can do for a request."""
    import gc

    import bentoml
    import msgspec
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    from service.predict.request import PredictRequest

    decoder = msgspec.json.Decoder(PredictRequest)

    async def predict(request: Request) -> Response:
        count = len(decoder.decode(await request.body()).candles or ())
        return Response(msgspec.json.encode({"count": count}), media_type="application/json")

    @bentoml.service(name="mounted", **_TUNED)
    @bentoml.asgi_app(Starlette(routes=[Route("/predict", predict, methods=["POST"])]), path="/")
    class Mounted:
        def __init__(self) -> None:
            gc.collect()
            gc.freeze()

    return Mounted


_TUNED: Any = {
    "workers": 1,
    "metrics": {"enabled": False},
    "logging": {"access": {"enabled": False}},
    "tracing": {"excluded_urls": ".*"},
    "traffic": {"timeout": 30},
}


def __getattr__(name: str) -> Any:
    """Make what is asked for by name, and nothing else: BentoML and uvicorn want a name in a module."""
    made = {
        "app": fastapi_app,
        "Parsing": partial(parsing_service, timed=True),
        "ParsingWithoutTimer": partial(parsing_service, timed=False),
        "Mounted": mounted_service,
    }.get(name)
    if made is None:
        raise AttributeError(name)
    return made()

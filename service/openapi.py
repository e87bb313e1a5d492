"""The OpenAPI document, put together from the routes, their docstrings and the schemas they answer with."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from candlecast import __version__
from candlecast.answers import Answer, ForecastAnswer, ModelsAnswer, Problem
from candlecast.ledger import ROLES
from service.parameters import LIMIT_DEFAULT, LIMIT_MAXIMUM
from service.request import PredictRequest
from service.schemas import CandleRow, CandlesAnswer, ForecastRow, ForecastsAnswer, MonitoringAnswer, StatusAnswer

_REF = "#/components/schemas/"
_ANSWERS: dict[str, type[Answer]] = {
    "/predict": ForecastAnswer,
    "/model": ModelsAnswer,
    "/price/latest": CandleRow,
    "/price/history": CandlesAnswer,
    "/forecasts": ForecastsAnswer,
    "/forecasts/latest": ForecastRow,
    "/monitoring": MonitoringAnswer,
    "/status": StatusAnswer,
}
_TIME = {"type": "string", "example": "2025-09-30T12:00:00Z"}
_PARAMETERS: dict[str, tuple[str, dict[str, Any]]] = {
    "limit": (
        "Most rows to answer.",
        {"type": "integer", "minimum": 1, "maximum": LIMIT_MAXIMUM, "default": LIMIT_DEFAULT},
    ),
    "start": ("First open_time, ISO-8601 with an offset or milliseconds since 1970.", _TIME),
    "end": ("End of open_time, exclusive.", _TIME),
    "role": ("Only forecasts of this role.", {"type": "string", "enum": list(ROLES)}),
}
_TAKES = {"/price/history": ("limit", "start", "end"), "/forecasts": ("limit", "start", "end", "role")}
_REFUSALS = {
    "/predict": {"400": "A field of a row is wrong; the body says which, and the remedy.",
                 "404": "The model asked for is not being served.",
                 "413": "The body is too large.",
                 "503": "No model is loaded yet."},
}  # fmt: skip
_REFUSALS_OF_READING = {"400": "A parameter is wrong.", "503": "The database does not answer."}
_OF_BENTOML = {
    "/livez": "Whether the process is alive.",
    "/readyz": "Whether a champion is being served; 503 if not.",
    "/metrics": "Prometheus metrics.",
}


def documentation_routes(api: Iterable[BaseRoute]) -> list[Route]:
    """The route of the document that describes `api`; it is put together when first asked for."""
    described = [route for route in api if isinstance(route, Route)]

    def openapi(_request: Request) -> Response:
        return JSONResponse(describe(described))

    return [Route("/docs.json", openapi, include_in_schema=False)]


def describe(api: Iterable[Route]) -> dict[str, Any]:
    """OpenAPI 3.1 document of these routes, and of BentoML's own."""
    paths = {route.path: {_method(route).lower(): _operation(route)} for route in api}
    for path, summary in _OF_BENTOML.items():
        paths[path] = {"get": {"summary": summary, "tags": ["operations"], "responses": {"200": {"description": "OK"}}}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Candlecast",
            "version": __version__,
            "description": "Forecasts of the next market candle, and the record of those made. Times are UTC.",
        },
        "paths": paths,
        "components": {"schemas": _schemas()},
    }


def _schemas() -> dict[str, Any]:
    answers = [(answer, "serialization") for answer in (*_ANSWERS.values(), Problem)]
    _, definitions = models_json_schema(answers, ref_template=_REF + "{model}")  # type: ignore[arg-type]
    _, bodies = msgspec.json.schema_components((PredictRequest,), ref_template=_REF + "{name}")
    return {**definitions["$defs"], **bodies}


def _operation(route: Route) -> dict[str, Any]:
    summary, _, details = _documentation(route.endpoint).partition("\n\n")
    reads = route.path not in _REFUSALS and route.path != "/model"
    refusals = _REFUSALS_OF_READING if reads else _REFUSALS.get(route.path, {})
    operation: dict[str, Any] = {
        "summary": summary.replace("\n", " "),
        "description": details,
        "tags": ["data" if reads else "model"],
        "parameters": [_parameter(name) for name in _TAKES.get(route.path, ())],
        "responses": {"200": _answer(route.path)} | {status: _problem(text) for status, text in refusals.items()},
    }
    for name in route.param_convertors:
        operation["parameters"].append({"name": name, "in": "path", "required": True, "schema": {"type": "string"}})
    if route.path == "/predict":
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": f"{_REF}PredictRequest"}}},
        }
    return operation


def _documentation(endpoint: Callable[..., Any]) -> str:
    return inspect.getdoc(endpoint) or ""


def _method(route: Route) -> str:
    return "POST" if "POST" in (route.methods or ()) else "GET"


def _parameter(name: str) -> dict[str, Any]:
    description, schema = _PARAMETERS[name]
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _answer(path: str) -> dict[str, Any]:
    if path not in _ANSWERS:
        return {"description": "OK", "content": {"text/html": {}}}
    schema = {"$ref": _REF + _ANSWERS[path].__name__}
    return {"description": "OK", "content": {"application/json": {"schema": schema}}}


def _problem(text: str) -> dict[str, Any]:
    return {"description": text, "content": {"application/problem+json": {"schema": {"$ref": f"{_REF}Problem"}}}}

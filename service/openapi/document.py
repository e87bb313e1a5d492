"""The OpenAPI document, made from the routes, their docstrings and the schemas of their answers."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from candlecast import __version__
from candlecast.api.answers import PROBLEM_TYPE, Problem
from candlecast.api.importance import IMPORTANCE_METHODS
from candlecast.ledger.forecasts import ROLES
from candlecast.market import SYMBOL
from candlecast.settings.settings import Settings
from service.http.body import SLOWEST_BYTES_PER_S, TIMEOUT_S
from service.http.documented import Documented, documented
from service.http.limits import KEY_HEADER
from service.http.parameters import (
    HOURS_DEFAULT,
    HOURS_MAXIMUM,
    LIMIT_DEFAULT,
    LIMIT_MAXIMUM,
    POINTS_DEFAULT,
    POINTS_MAXIMUM,
)
from service.http.problems import KINDS, MEDIA_TYPE
from service.http.resources import resources
from service.openapi.examples import history_example
from service.openapi.schemas import MILLISECONDS, REF, answer_schemas, posted_schemas
from service.predict.api import BODY_LIMIT, SERIES_BODY_LIMIT
from service.predict.request import HISTORY_LIMIT, SERIES_LIMIT
from service.telemetry.observation import REQUEST_ID

_TIME = {"anyOf": [{"type": "string", "format": "date-time"}, MILLISECONDS]}
_PARAMETERS: dict[str, tuple[str, dict[str, Any], Any]] = {
    "market": (
        "Name of the market with its horizon if that is above 1, by default the first one forecast here.",
        {"type": "string", "examples": ["BTCUSDT-5m", "BTCUSDT-1m-h15"]},
        "BTCUSDT-5m",
    ),
    "symbol": (
        "Symbol, by default that of the first market. With `interval` it means the first market of both.",
        {"type": "string", "pattern": SYMBOL},
        "BTCUSDT",
    ),
    "interval": (
        "Candle length, by default that of the first market.",
        {"type": "string", "pattern": "^[1-9][0-9]{0,4}[mhdw]$"},
        "5m",
    ),
    "limit": (
        "Most candles, or target candles, in the answer.",
        {"type": "integer", "minimum": 1, "maximum": LIMIT_MAXIMUM, "default": LIMIT_DEFAULT},
        12,
    ),
    "start": ("First open_time, ISO-8601 with an offset or milliseconds since 1970.", _TIME, "2025-09-29T00:00:00Z"),
    "end": ("End of open_time, exclusive, in the forms of `start`.", _TIME, "2025-09-30T12:00:00Z"),
    "hours": (
        "Hours before the newest stored candle.",
        {"type": "integer", "minimum": 1, "maximum": HOURS_MAXIMUM, "default": HOURS_DEFAULT},
        24,
    ),
    "points": (
        "Most steps of the answer.",
        {"type": "integer", "minimum": 1, "maximum": POINTS_MAXIMUM, "default": POINTS_DEFAULT},
        288,
    ),
    "method": (
        "How importance is measured.",
        {"type": "string", "enum": list(IMPORTANCE_METHODS), "default": "permutation"},
        "permutation",
    ),
    "role": ("Role of the model that forecast.", {"type": "string", "enum": list(ROLES)}, "champion"),
}
_DESCRIPTION = f"""Forecasts of the next market candle, and the record of those made.

**Units.** Times are UTC. Prices and amplitudes (high - low) are in quote currency, volumes in base currency,
probabilities between 0 and 1.

**History.** Post closed candles, oldest first, without a gap. The service has no clock of its own: it cannot detect
an unclosed last candle, so leave that one out. At most {HISTORY_LIMIT:,} candles and
{BODY_LIMIT // 2**20} MiB for `/predict`, {SERIES_LIMIT:,} and {SERIES_BODY_LIMIT // 2**20} MiB for `/predict/series`.
A body must be complete after {TIMEOUT_S:g} s, plus a second for every {SLOWEST_BYTES_PER_S // 1024} KiB.

**Keys.** If the operator has set API keys, every route except this reference, the guide, `/livez`, `/readyz` and
`/metrics` asks for one: `Authorization: Bearer KEY` or `{KEY_HEADER}: KEY`. Browsers send it as the password of basic
authentication.

**Problems.** Every refusal is `{MEDIA_TYPE}` (RFC 9457) and says what to correct, or after which
`Retry-After` to retry. Its `type` is `{PROBLEM_TYPE}` and one of these names, which do not change:

| name | status | |
|---|---|---|
{{kinds}}

**Request ids.** The answer and the log repeat a valid `{REQUEST_ID}` (up to 64 letters, digits and `._:-`).
"""


def documentation_routes(described: Sequence[Route]) -> list[Route]:
    """Make the route of the document that describes these routes; each request makes the document."""

    def openapi(request: Request) -> Response:
        here = resources(request)
        document = describe(described, history_example(here), ask_for_keys=bool(here[Settings].service.api_keys))
        return JSONResponse(document, headers={"Cache-Control": "no-cache"})

    return [Route("/docs.json", openapi, include_in_schema=False)]


def describe(routes: Sequence[Route], history: dict[str, Any], *, ask_for_keys: bool) -> dict[str, Any]:
    """Make the OpenAPI 3.1 document of these routes, whose handlers are `Documented`.

    Args:
        history: Example of a posted history.
        ask_for_keys: Whether a request needs an API key.
    """
    answers = [answer for route in routes if (answer := documented(route.endpoint).answer)]
    kinds = "\n".join(f"| `{name}` | {kind.status} | {kind.title} |" for name, kind in KINDS.items())
    keys: list[dict[str, list[str]]] = [{"bearer": []}, {"header": []}, {"browser": []}]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Candlecast",
            "version": __version__,
            "description": _DESCRIPTION.format(kinds=kinds),
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "."}],
        "tags": [
            {"name": "model", "description": "Forecasts from posted history; these need no database."},
            {"name": "data", "description": "Records, read from the database."},
            {"name": "operations", "description": "For operators; open to all."},
        ],
        "security": keys if ask_for_keys else [],
        "paths": {route.path: {_method(route).lower(): _operation(route)} for route in routes},
        "components": {
            "schemas": {**answer_schemas((*answers, Problem)), **posted_schemas()},
            "examples": {"history": {"summary": "As many candles as the champion needs", "value": history}},
            "headers": {
                REQUEST_ID: {"description": "The request's id, as in the log.", "schema": {"type": "string"}},
                "Link": {"description": "Entry of the problem in the guide.", "schema": {"type": "string"}},
                "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}},
            },
            "responses": {str(status): _problem(status) for status in sorted({kind.status for kind in KINDS.values()})},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": KEY_HEADER},
                "browser": {"type": "http", "scheme": "basic", "description": "Any name; the key is the password."},
            },
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    facts = documented(route.endpoint)
    summary, _, details = (inspect.getdoc(route.endpoint) or "").partition("\n\n")
    operation: dict[str, Any] = {
        "operationId": route.path[1:].replace("/", "_").replace("{", "").replace("}", ""),
        "summary": summary.replace("\n", " ").rstrip("."),
        "tags": [facts.tag],
    }
    if facts.tag == "operations":
        text = {facts.media_type: {"schema": {"type": "string"}}}
        refused = {str(status): {"description": "No.", "content": text} for status in facts.refusals}
        return {**operation, "responses": {"200": {"description": "OK", "content": text}, **refused}, "security": []}
    refusals = sorted((400, 401, 429, *facts.refusals))
    operation |= {
        "description": details,
        "parameters": [_parameter(name) for name in facts.parameters or ()],
        "responses": {"200": _answer(facts)}
        | {str(status): {"$ref": f"#/components/responses/{status}"} for status in refusals},
    }
    for name in route.param_convertors:
        schema = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*[.]html$"}
        operation["parameters"].append({"name": name, "in": "path", "required": True, "schema": schema})
    if facts.body:
        example = {"history": {"$ref": "#/components/examples/history"}}
        content = {"schema": {"$ref": f"{REF}{facts.body}"}, "examples": example}
        operation["requestBody"] = {"required": True, "content": {"application/json": content}}
    return operation


def _method(route: Route) -> str:
    return "POST" if "POST" in (route.methods or ()) else "GET"


def _parameter(name: str) -> dict[str, Any]:
    description, schema, example = _PARAMETERS[name]
    return {"name": name, "in": "query", "description": description, "schema": schema, "example": example}


def _answer(facts: Documented) -> dict[str, Any]:
    content: dict[str, Any] = {facts.media_type: {"schema": {"type": "string"}}}
    if facts.answer:
        schema = {"$ref": REF + facts.answer.__name__}
        content = {"application/json": {"schema": schema, "example": facts.example}}
    return {"description": "OK", "headers": _header(REQUEST_ID), "content": content}


def _problem(status: int) -> dict[str, Any]:
    kinds = {name: kind for name, kind in KINDS.items() if kind.status == status}
    examples = {name: {"value": _example(name, kind.title, status)} for name, kind in kinds.items()}
    headers = _header(REQUEST_ID) | _header("Link") | (_header("Retry-After") if status in {429, 503} else {})
    content = {MEDIA_TYPE: {"schema": {"$ref": f"{REF}Problem"}, "examples": examples}}
    return {"description": "; ".join(kind.title for kind in kinds.values()), "headers": headers, "content": content}


def _example(name: str, title: str, status: int) -> dict[str, Any]:
    problem = {"type": PROBLEM_TYPE + name, "title": title, "status": status, "detail": "The fault, and the remedy."}
    if name == "candle-gap":
        detail = (
            "row 61: open_time 2025-09-30T07:10:00Z follows 1 missing candle(s), the first of them 2025-09-30T07:05:00Z"
        )
        problem |= {"detail": detail, "row": 61, "field": "open_time", "value": "2025-09-30T07:10:00Z"}
    return problem


def _header(name: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"}}

"""Parts of all reading routes: the market, database rows, JSON answers, and the thread."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

import msgspec
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from candlecast.api.answers import Answer
from candlecast.market import Market
from candlecast.settings.settings import Settings
from service.http.database import ReadOnlyDatabase
from service.http.documented import documented
from service.http.limits import AccessControl, Limits
from service.http.parameters import read_market, require_known
from service.http.resources import resources

Handler = Callable[[Request], Response]

_NOT_STORED = {"Cache-Control": "no-store"}
_SMALLEST_ZIPPED = 2048
_ZIP_LEVEL = 4  # twice as fast as the usual 9, and within a tenth of its size


def market_of(request: Request) -> Market:
    """Read the market that a request names; the default is the first market forecast here."""
    return read_market(request, resources(request)[Settings])


def rows(request: Request, query: str, arguments: dict[str, Any]) -> list[dict[str, Any]]:
    """Read all rows of a query about the market of the request."""
    return resources(request)[ReadOnlyDatabase].rows(query, {**market_of(request)._asdict(), **arguments})


def json_answer(answer: Answer) -> Response:
    """Answer with JSON that caches do not keep."""
    return Response(answer.model_dump_json(), media_type="application/json", headers=_NOT_STORED)


def json_rows(answer: dict[str, Any]) -> Response:
    """Answer with thousands of rows as JSON, three times as fast as through a pydantic model."""
    return Response(msgspec.json.encode(answer), media_type="application/json", headers=_NOT_STORED)


def reading_routes(handlers: dict[str, Handler]) -> tuple[Route, ...]:
    """Make routes by path; their handlers wait for the database, so they run in the threads of `Limits.reading`."""
    zipped = Middleware(GZipMiddleware, minimum_size=_SMALLEST_ZIPPED, compresslevel=_ZIP_LEVEL)
    return tuple(
        Route(path, _in_thread(handler), middleware=[Middleware(AccessControl), zipped])
        for path, handler in handlers.items()
    )


def _in_thread(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    taken = documented(handler).parameters

    @wraps(handler)
    async def endpoint(request: Request) -> Response:
        if taken is not None:
            require_known(request, *taken)
        return await resources(request)[Limits].reading.run(handler, request)

    return endpoint

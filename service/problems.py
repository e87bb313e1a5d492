"""Refusals as `application/problem+json`, and which error becomes which status."""

from __future__ import annotations

import math
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from candlecast.answers import Problem
from candlecast.errors import CandlecastError, DatabaseUnavailable, InvalidCandles, ModelNotFound, ServiceUnavailable


class BadRequest(CandlecastError):
    """A request that cannot be understood: correct the field or parameter it names.

    Attributes:
        row: Position of the offending candle, 0-based, or None.
        field: Offending field or query parameter, or None.
        status: HTTP status of the refusal.
    """

    def __init__(
        self, message: str, row: int | None = None, field: str | None = None, status: int = HTTPStatus.BAD_REQUEST
    ) -> None:
        super().__init__(message)
        self.row = row
        self.field = field
        self.status = int(status)


def refuse(_request: Request, exc: Exception) -> Response:
    """Starlette's handler of `BadRequest`, `InvalidCandles`, `ModelNotFound`, ... (see `HANDLED`)."""
    headers: dict[str, str] = {}
    status = int(HTTPStatus.BAD_REQUEST)
    if isinstance(exc, HTTPException):
        status = exc.status_code
        headers.update(exc.headers or {})
    elif isinstance(exc, BadRequest):
        status = exc.status
    elif isinstance(exc, ModelNotFound):
        status = HTTPStatus.NOT_FOUND
    elif isinstance(exc, ServiceUnavailable | DatabaseUnavailable):
        status = HTTPStatus.SERVICE_UNAVAILABLE
        headers["Retry-After"] = str(math.ceil(getattr(exc, "retry_after_s", None) or 5))
    problem = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=exc.detail if isinstance(exc, HTTPException) else str(exc),
        row=getattr(exc, "row", None),
        field=getattr(exc, "field", None),
    )
    body = problem.model_dump_json(exclude_none=True)
    return Response(body, status, headers, media_type="application/problem+json")


HANDLED: tuple[type[Exception], ...] = (
    BadRequest,
    InvalidCandles,
    ModelNotFound,
    ServiceUnavailable,
    DatabaseUnavailable,
    HTTPException,
)
"""Errors that become an answer; any other is a defect, and the server says 500 and logs it."""

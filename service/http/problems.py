"""Refusals as `application/problem+json` (RFC 9457): the kinds, and the kind of each error."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from candlecast.api.answers import PROBLEM_TYPE, Fault, Problem
from candlecast.errors import (
    CandlecastError,
    CandleGapError,
    DatabaseUnavailable,
    InvalidCandles,
    ModelNotFound,
    NotEnoughCandles,
    ServiceUnavailable,
)

FAULTS_SHOWN = 10
RETRY_AFTER_S = 5
MEDIA_TYPE = "application/problem+json"


class ProblemKind(NamedTuple):
    """HTTP status and title of all problems of one `type`."""

    status: int
    title: str


KINDS: dict[str, ProblemKind] = {
    "malformed-body": ProblemKind(400, "The body does not have the form of this route"),
    "unknown-field": ProblemKind(400, "Unknown field"),
    "missing-field": ProblemKind(400, "Missing field"),
    "invalid-value": ProblemKind(400, "A value has the wrong type or is out of range"),
    "invalid-candle": ProblemKind(400, "The prices of a candle contradict each other"),
    "off-grid": ProblemKind(400, "A candle does not open on the grid of its interval"),
    "not-ascending": ProblemKind(400, "A candle is repeated or out of order"),
    "candle-gap": ProblemKind(400, "A candle is missing between two others"),
    "too-few-candles": ProblemKind(400, "The history is shorter than the model needs"),
    "too-many-candles": ProblemKind(400, "The history is longer than this route takes"),
    "unusable-history": ProblemKind(400, "No forecast can be computed from these candles"),
    "wrong-market": ProblemKind(400, "This service does not forecast this market"),
    "invalid-parameter": ProblemKind(400, "Invalid query parameter"),
    "foreign-site": ProblemKind(403, "The request comes from a page of another site"),
    "unauthorized": ProblemKind(401, "API key missing or unknown"),
    "not-found": ProblemKind(404, "No route has this address"),
    "model-not-found": ProblemKind(404, "This model is not being served"),
    "nothing-recorded": ProblemKind(404, "Nothing is recorded yet"),
    "method-not-allowed": ProblemKind(405, "This route does not support the method"),
    "body-too-slow": ProblemKind(408, "The body did not arrive in time"),
    "body-too-large": ProblemKind(413, "The body is too large"),
    "unsupported-media-type": ProblemKind(415, "The body is not JSON by its media type"),
    "rate-limited": ProblemKind(429, "Too many requests"),
    "internal-error": ProblemKind(500, "A defect of the service"),
    "no-model": ProblemKind(503, "No model is being served yet"),
    "database-unavailable": ProblemKind(503, "The database does not answer"),
    "overloaded": ProblemKind(503, "The service is overloaded"),
}
"""Kinds of problems by the end of their `type`; clients may rely on these names."""


class Refusal(CandlecastError):
    """Refusal of a request; says what to correct, or when to retry.

    Args:
        detail: What is wrong, and the remedy.
        row: Position of the invalid candle, 0-based, or None.
        field: Invalid field or query parameter, or None.
        faults: All faults found; the other arguments describe the first.
        retry_after_s: Seconds until a retry may succeed, or None.
    """

    def __init__(
        self,
        kind: str,
        detail: str,
        row: int | None = None,
        field: str | None = None,
        value: str | None = None,
        faults: list[Fault] | None = None,
        retry_after_s: float | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.row = row
        self.field = field
        self.value = value
        self.faults = faults or []
        self.retry_after_s = retry_after_s
        self.headers = headers or {}


def refusal_of(kind: str, faults: list[Fault]) -> Refusal:
    """Make a refusal of one or more faults; the first gives detail, row, field and value."""
    first = faults[0]
    return Refusal(kind, first.detail, first.row, first.field, first.value, faults)


def refuse(request: Request, exc: Exception) -> Response:
    """Build the answer to an error of HANDLED; Starlette calls it."""
    kind, detail = _kind_of(exc), str(exc)
    headers: dict[str, str] = {}
    if isinstance(exc, HTTPException):
        detail = _HINTS.get(kind, exc.detail)
        headers.update(exc.headers or {})
    if isinstance(exc, Refusal):
        headers.update(exc.headers)
    if KINDS[kind].status in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}:
        headers["Retry-After"] = str(max(1, math.ceil(getattr(exc, "retry_after_s", None) or RETRY_AFTER_S)))
    faults: list[Fault] = getattr(exc, "faults", [])
    return problem_response(
        request.scope,
        kind,
        detail,
        headers,
        row=getattr(exc, "row", None),
        field=getattr(exc, "field", None),
        value=getattr(exc, "value", None),
        errors=faults[:FAULTS_SHOWN] if len(faults) > 1 else None,
    )


def problem_response(scope: Scope, kind: str, detail: str, headers: dict[str, str], **more: object) -> Response:
    """Build an answer of this kind that links to its entry in the guide; `more` are further fields of `Problem`."""
    status, title = KINDS[kind]
    fields = {"type": PROBLEM_TYPE + kind, "title": title, "status": status, "detail": detail}
    problem = Problem.model_validate(fields | {"request_id": scope.get("request_id")} | more)
    path = str(scope["path"]).removeprefix(scope.get("app_root_path", scope.get("root_path", "")))
    guide = "../" * (path.count("/") - 1) + "guide"  # relative, because a proxy may have taken a prefix away
    links = {"Link": f'<{guide}/reference/errors/#{kind}>; rel="help"'}
    return Response(problem.model_dump_json(exclude_none=True), status, headers | links, media_type=MEDIA_TYPE)


_HINTS = {
    "not-found": "no route has this address; /docs lists the routes",
    "method-not-allowed": "this route does not support the method; the header Allow names the supported ones",
}
_BY_ERROR: dict[type[Exception], str] = {
    NotEnoughCandles: "too-few-candles",
    CandleGapError: "candle-gap",
    InvalidCandles: "unusable-history",
    ModelNotFound: "model-not-found",
    ServiceUnavailable: "no-model",
    DatabaseUnavailable: "database-unavailable",
}
_BY_STATUS = {status: kind for kind, (status, _) in reversed(KINDS.items())}  # the first kind of a status wins


def _kind_of(exc: Exception) -> str:
    if isinstance(exc, Refusal):
        return exc.kind
    if isinstance(exc, HTTPException):
        return _BY_STATUS.get(exc.status_code, "malformed-body" if exc.status_code < 500 else "internal-error")
    return next(kind for error, kind in _BY_ERROR.items() if isinstance(exc, error))


HANDLED: tuple[type[Exception], ...] = (Refusal, HTTPException, *_BY_ERROR)
"""Errors with an answer of their own; any other is a defect, which is logged and answered with 500."""

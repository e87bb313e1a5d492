"""Query parameters of the read API, checked."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request

from service.problems import BadRequest
from service.request import parse_time

LIMIT_DEFAULT = 288
LIMIT_MAXIMUM = 5000
_BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)
_END = datetime(2100, 1, 1, tzinfo=UTC)


def require_known(request: Request, *known: str) -> None:
    """Refuse parameters that would silently be ignored."""
    for name in request.query_params:
        if name not in known:
            allowed = f"known are {', '.join(known)}" if known else "there are none here"
            raise BadRequest(f"unknown parameter {name!r:.60}; {allowed}", field=name)


def read_window(request: Request) -> dict[str, Any]:
    """`limit`, and `start` and `end` of the half-open window, as SQL arguments."""
    start, end = _time(request, "start", _BEGINNING), _time(request, "end", _END)
    if start >= end:
        raise BadRequest(f"start {start.isoformat()} is not before end {end.isoformat()}", field="start")
    return {"limit": read_limit(request), "start": start, "end": end}


def read_limit(request: Request) -> int:
    """`limit`, a whole number from 1 to LIMIT_MAXIMUM."""
    text = request.query_params.get("limit", str(LIMIT_DEFAULT))
    limit = int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0
    if not 1 <= limit <= LIMIT_MAXIMUM:
        raise BadRequest(f"limit is {text!r:.60}; send a whole number from 1 to {LIMIT_MAXIMUM}", field="limit")
    return limit


def read_choice(request: Request, name: str, choices: tuple[str, ...]) -> str | None:
    """An optional parameter that has few values."""
    value = request.query_params.get(name)
    if value is not None and value not in choices:
        raise BadRequest(f"{name} is {value!r:.60}; send one of {', '.join(choices)}", field=name)
    return value


def _time(request: Request, name: str, default: datetime) -> datetime:
    text = request.query_params.get(name)
    if text is None:
        return default
    try:
        return parse_time(text)
    except BadRequest as exc:
        raise BadRequest(f"{name}: {exc}", field=name) from exc

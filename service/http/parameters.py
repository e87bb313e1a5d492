"""Query parameters, read and checked."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

from starlette.requests import Request

from candlecast.errors import ConfigurationError
from candlecast.market import Market, interval_duration, require_symbol
from candlecast.settings.settings import Settings
from service.http.problems import Refusal
from service.http.times import parse_time

LIMIT_DEFAULT = 288
LIMIT_MAXIMUM = 5000
HOURS_DEFAULT = 24
HOURS_MAXIMUM = 8784
MARKET = ("market", "symbol", "interval")
"""Parameters, and fields of posted bodies, that name a market."""
POINTS_DEFAULT = 500
POINTS_MAXIMUM = 2000
_MARKET_CHECKS: dict[str, Callable[[str], object]] = {
    "market": Market.named,
    "symbol": require_symbol,
    "interval": interval_duration,
}
_Choice = TypeVar("_Choice", bound=str)
_BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)
_END = datetime(2100, 1, 1, tzinfo=UTC)


def require_known(request: Request, *known: str) -> None:
    """Refuse unknown and repeated parameters."""
    seen: set[str] = set()
    for name, value in request.query_params.multi_items():
        if name not in known:
            allowed = f"known are {', '.join(known)}" if known else "this route takes none"
            raise _wrong(name, value, f"unknown parameter {name!r:.60}; {allowed}")
        if name in seen:
            raise _wrong(name, value, f"{name} is given twice; send it once")
        seen.add(name)


def read_window(request: Request) -> dict[str, Any]:
    """Read `limit`, and `start` and `end` of the half-open window, as SQL arguments."""
    start, end = _time(request, "start", _BEGINNING), _time(request, "end", _END)
    if start >= end:
        detail = f"start {start.isoformat()} is not before end {end.isoformat()}"
        raise _wrong("start", request.query_params.get("start", start.isoformat()), detail)
    return {"limit": _whole(request, "limit", LIMIT_DEFAULT, LIMIT_MAXIMUM), "start": start, "end": end}


def read_market(request: Request, settings: Settings) -> Market:
    """Read the market that a request names."""
    named = [request.query_params.get(name) for name in MARKET]
    for name, value in zip(MARKET, named, strict=True):
        if value is not None:
            try:
                _MARKET_CHECKS[name](value)
            except ConfigurationError as exc:
                raise _wrong(name, value, str(exc)) from exc
    return chosen_market(settings, *named, kind="invalid-parameter")


def chosen_market(
    settings: Settings, name: str | None, symbol: str | None, interval: str | None, *, kind: str = "wrong-market"
) -> Market:
    """Find the market of `market`, or of `symbol` and `interval`, as `Settings.find_market`.

    Args:
        kind: Kind of the refusal, in `service.http.problems`.

    Raises:
        Refusal: The name is malformed, or differs from `symbol` or `interval`.
    """
    try:
        return settings.find_market(name, symbol, interval)
    except ConfigurationError as exc:
        raise Refusal(kind, str(exc), field=MARKET[0], value=str(name)[:60]) from exc


def read_points(request: Request) -> int:
    """Read `points`, a whole number from 1 to POINTS_MAXIMUM."""
    return _whole(request, "points", POINTS_DEFAULT, POINTS_MAXIMUM)


def read_hours(request: Request) -> int | None:
    """Read `hours`, a whole number from 1 to HOURS_MAXIMUM; None if it is not given."""
    if "hours" not in request.query_params:
        return None
    return _whole(request, "hours", HOURS_DEFAULT, HOURS_MAXIMUM)


def read_choice(request: Request, name: str, choices: tuple[_Choice, ...]) -> _Choice | None:
    """Read a parameter that has few values; None if it is not given."""
    value = request.query_params.get(name)
    if value is None:
        return None
    chosen = next((choice for choice in choices if choice == value), None)
    if chosen is None:
        raise _wrong(name, value, f"{name} is {value!r:.60}; send one of {', '.join(choices)}")
    return chosen


def refuse_both(request: Request, one: str, *others: str) -> None:
    """Refuse two parameters that exclude each other."""
    for other in others:
        if one in request.query_params and other in request.query_params:
            raise _wrong(one, request.query_params[one], f"send either {one} or {other}")


def _whole(request: Request, name: str, default: int, maximum: int) -> int:
    text = request.query_params.get(name, str(default))
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0
    if not 1 <= number <= maximum:
        raise _wrong(name, text, f"{name} is {text!r:.60}; send a whole number from 1 to {maximum}")
    return number


def _time(request: Request, name: str, default: datetime) -> datetime:
    text = request.query_params.get(name)
    if text is None:
        return default
    try:
        return parse_time(text)
    except ValueError as exc:
        raise _wrong(name, text, f"{name}: {text!r:.60} {exc}") from exc


def _wrong(name: str, value: str, detail: str) -> Refusal:
    return Refusal("invalid-parameter", detail, field=name[:60], value=value[:60])

"""Routes of the dashboard's charts: a period of any length as a bounded number of steps, and its figures."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from candlecast.figures import skill
from candlecast.ledger.forecasts import ROLES
from candlecast.market import Market
from candlecast.registry.registry import CHAMPION
from candlecast.settings.settings import Settings
from candlecast.statistics import ratio_error, student_interval
from service.charts import examples, queries
from service.charts.period import Period, read_period
from service.charts.schemas import (
    ChartAnswer,
    ConfidenceFifth,
    Confusion,
    DirectionAnswer,
    ErrorsAnswer,
    ErrorSteps,
    ReliabilityBin,
    Residuals,
    Scatter,
    Stretch,
)
from service.http.documented import Documented
from service.http.parameters import MARKET, read_choice
from service.http.reading import json_answer, market_of, reading_routes, rows
from service.http.resources import resources

_BUCKETS = 41
_DOTS = 400
_RELIABILITY_BINS = 10
_TAKEN = (*MARKET, "hours", "start", "end", "points", "role")
_COUNTS = {"forecasts", "abstained", "pending", "hits", "misses"}
_NO_DIRECTIONS = dict.fromkeys(Confusion.model_fields, 0)
_COLUMNS = [name for name in ChartAnswer.model_fields if name not in {*Stretch.model_fields, "open_time"}]


@Documented(ChartAnswer, examples.CHART, _TAKEN)
def chart(request: Request) -> Response:
    """Read candles and the forecasts recorded for them, merged into at most `points` steps, oldest first.

    The period is [start, end), or the last `hours` up to the newest candle stored. A step is as short as `points`
    allow: request a part of the period to see it closer.
    """
    period, about = _asked(request)
    found = rows(request, queries.STEPS, _arguments(period, about)) if period else []
    columns: dict[str, Any] = {name: [row[name] for row in found] for name in _COLUMNS}
    columns |= {name: [number or 0 for number in columns[name]] for name in _COUNTS}
    return json_answer(ChartAnswer(**about, open_time=[row["at"] for row in found], **columns))


@Documented(ErrorsAnswer, examples.ERRORS, _TAKEN)
def errors(request: Request) -> Response:
    """Read errors of the close over a period, beside persistence's: figures, steps, residuals, scatter.

    The period and its steps are those of `/chart`. The rolling MAPE is over the newest ROLLING_N forecasts
    of one version, as in `/monitoring`, some of them before the period.
    """
    period, about = _asked(request)
    settings, market = resources(request)[Settings], market_of(request)
    limits = settings.of(market).limits
    found: dict[str, Any] = {}
    if period:
        further = {"rolling_n": limits.rolling_n, "buckets": _BUCKETS, "dots": _DOTS}
        [found] = rows(request, queries.ERRORS, {**_arguments(period, about), **further})
    steps, dots = found.get("steps") or [], found.get("dots") or []
    losses, naive = ([step[name] for step in steps] for name in ("losses", "naive_losses"))
    by_step = skill(np.cumsum(losses), np.cumsum(naive)).tolist()
    whole = by_step[-1] if sum(naive) else None
    return json_answer(
        ErrorsAnswer(
            **_figures(ErrorsAnswer, found)
            | about
            | {
                "close_skill": whole,
                "close_skill_interval": _interval(whole, losses, naive, period, market),
                "rolling_n": limits.rolling_n,
                "mape_threshold": limits.mape,
                "mape_ratio_threshold": settings.monitoring.mape_ratio_threshold,
                "steps": _error_steps(steps, by_step),
                "residuals": _residuals(found.get("reach"), found.get("histogram") if steps else None),
                "scatter": Scatter(predicted=[x for x, _ in dots], actual=[y for _, y in dots]),
            }
        )
    )


@Documented(DirectionAnswer, examples.DIRECTION, _TAKEN)
def direction(request: Request) -> Response:
    """Read hits and misses of the direction over a period: accuracy, reliability, confusion, confidence.

    The period is that of `/chart`; its steps only serve the interval of the accuracy.
    """
    period, about = _asked(request)
    found: dict[str, Any] = {}
    if period:
        [found] = rows(request, queries.DIRECTION, {**_arguments(period, about), "bins": _RELIABILITY_BINS})
    figures = _figures(DirectionAnswer, found)
    bins = [ReliabilityBin(**one) for one in found.get("reliability") or []]
    off = sum(one.n * abs(one.probability - one.rising) for one in bins)
    steps = found.get("steps") or []
    hits, counts = [hits for hits, _ in steps], [count for _, count in steps]
    return json_answer(
        DirectionAnswer(
            **figures
            | about
            | {
                "accuracy_interval": _interval(figures["accuracy"], hits, counts, period, market_of(request)),
                "calibration_error": off / figures["n"] if bins else None,
                "confusion": figures["confusion"] or _NO_DIRECTIONS,
                "base_rate_confusion": figures["base_rate_confusion"] or _NO_DIRECTIONS,
                "reliability": bins,
                "confidence": [ConfidenceFifth(**one) for one in found.get("confidence") or []],
            }
        )
    )


ROUTES = reading_routes({"/chart": chart, "/errors": errors, "/direction": direction})


def _asked(request: Request) -> tuple[Period | None, dict[str, Any]]:
    """The period of the request, and the fields of the answer about it."""
    role = read_choice(request, "role", ROLES) or CHAMPION
    period, market = read_period(request), market_of(request)
    start, end, step = period or (None, None, market.step)
    about = {**market._asdict(), "role": role, "start": start, "end": end, "step_s": step / timedelta(seconds=1)}
    return period, about


def _arguments(period: Period, about: dict[str, Any]) -> dict[str, Any]:
    return {**period.arguments(), "role": about["role"]}


def _figures(answer: type[Stretch], found: dict[str, Any]) -> dict[str, Any]:
    """Figures by field name; null where there are none."""
    return dict.fromkeys(answer.model_fields) | {"n": 0} | (found.get("figures") or {})


def _error_steps(steps: list[dict[str, Any]], skill_by_step: list[float]) -> ErrorSteps:
    columns: dict[str, Any] = {
        name: [step[name] for step in steps] for name in ErrorSteps.model_fields if name != "cumulative_skill"
    }
    return ErrorSteps(**columns, cumulative_skill=skill_by_step)


def _residuals(reach: float | None, histogram: list[list[int]] | None) -> Residuals:
    if reach is None or not histogram:
        return Residuals(edges=[], close=[], persistence=[])
    counted = {bucket: (own, naive) for bucket, own, naive in histogram}
    own, naive = zip(*(counted.get(bucket, (0, 0)) for bucket in range(1, _BUCKETS + 1)), strict=True)
    return Residuals(edges=np.linspace(-reach, reach, _BUCKETS + 1).tolist(), close=[*own], persistence=[*naive])


def _interval(
    value: float | None, part: list[float], whole: list[float], period: Period | None, market: Market
) -> tuple[float, float] | None:
    """95 % interval of mean(part) / mean(whole), or of 1 less that ratio; None of too few steps.

    Sums of steps give the interval that single rows would, because a step holds the correlation of its rows.
    """
    if value is None or period is None:
        return None
    overlap = -(-market.horizon * market.step // period.step)  # steps that share outcomes
    error = ratio_error(np.array(part, dtype="float64"), np.array(whole, dtype="float64"), overlap)
    return student_interval(value, error, len(part), overlap)

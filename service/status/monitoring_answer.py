"""The answer of `GET /monitoring`: live figures, missed forecasts, alerts, checks and decisions."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from candlecast.ledger.forecasts import ROLES, Role
from candlecast.ledger.performance import Performance, Read, measure, measure_by_hour
from candlecast.market import Market
from candlecast.registry.identity import ModelVersion
from candlecast.registry.registry import CHAMPION
from candlecast.settings.settings import Settings
from candlecast.statistics import student_interval
from service.status import queries
from service.status.monitoring_schemas import (
    Alert,
    Check,
    HourOfDay,
    Issuing,
    Miss,
    MonitoringAnswer,
    Promotion,
    Rolling,
)

_SHOWN = 20
_PROMOTIONS_SHOWN = 10
_BY_HOUR_OF = timedelta(days=7)


def monitoring_answer(
    read: Read, market: Market, settings: Settings, served: Mapping[str, ModelVersion]
) -> MonitoringAnswer:
    """Build the answer of `GET /monitoring`.

    Args:
        read: Queries the database about `market`.
        served: Version under each alias.
    """
    shown, n = {"limit": _SHOWN}, settings.of(market).limits.rolling_n
    roles = [role for role in ROLES if role == CHAMPION or role in served]
    return MonitoringAnswer(
        rolling=_rolling(read, market, n, "champion", served.get("champion")),
        challenger=_rolling(read, market, n, "challenger", served["challenger"]) if "challenger" in served else None,
        by_hour={role: _by_hour(read, market, role) for role in roles},
        issuing={role: _issuing(read, n, role) for role in roles},
        misses=[Miss(**miss) for miss in read(queries.MISSES, shown)],
        alerts=[Alert(**alert) for alert in read(queries.ALERTS, shown)],
        checks=[_check(check) for check in read(queries.CHECKS, shown)],
        promotions=[
            Promotion(**promotion)
            for promotion in read(queries.PROMOTIONS, {"limit": _PROMOTIONS_SHOWN, "model_name": market.model_name})
        ],
    )


def _rolling(read: Read, market: Market, n: int, role: Role, version: ModelVersion | None) -> Rolling:
    found = measure(read, market, role, n, version) if version is not None else None
    if found is None:
        return Rolling(version=version and version.number, n=0)
    return Rolling(version=version and version.number, **figures_by_name(found, market.horizon))


def _by_hour(read: Read, market: Market, role: Role) -> list[HourOfDay]:
    hours = measure_by_hour(read, market, role, _BY_HOUR_OF)
    return [HourOfDay(hour=hour, **figures_by_name(found, market.horizon)) for hour, found in hours.items()]


def figures_by_name(found: Performance, horizon: int) -> dict[str, Any]:
    """Flatten live figures to the field names of `Rolling`, `HourOfDay` and `LiveFigures`, which take what they have.

    Figures of the direction are None where no candle moved.
    """
    close, amplitude, direction = found.close, found.amplitude, found.direction
    figures = found.named("close_", "persistence_", "ewma_") | {"base_rate_brier": direction.baseline_brier}
    if not direction.moved:
        figures |= dict.fromkeys([*direction.named(), "base_rate_brier"])
    return figures | {
        "close_skill_interval": student_interval(close.skill, close.skill_error, found.n, horizon),
        "amplitude_skill_interval": student_interval(amplitude.skill, amplitude.skill_error, found.n, horizon),
        "direction_n": direction.moved,
        "direction_accuracy_interval": student_interval(
            direction.accuracy, direction.accuracy_error, direction.moved, horizon
        ),
    }


def _issuing(read: Read, n: int, role: Role) -> Issuing:
    (row,) = read(queries.ISSUING, {"role": role, "limit": n})
    return Issuing(**row)


def _check(row: dict[str, Any]) -> Check:
    reports = [f"/reports/{page}" for page in row["reports"]]
    return Check(**row | {"reports": reports, "report": reports[0] if reports else None})

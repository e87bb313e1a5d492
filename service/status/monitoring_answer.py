"""The answer of `GET /monitoring`, put together from the ledger and from what was found, decided and alerted."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from candlecast.ledger.forecasts import ROLES, Role
from candlecast.ledger.performance import Performance, Read, measure, measure_by_hour
from candlecast.market import Market
from candlecast.registry.registry import CHAMPION
from candlecast.settings import Settings
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


def monitoring_answer(read: Read, market: Market, settings: Settings, served: Mapping[str, str]) -> MonitoringAnswer:
    """All of `GET /monitoring`.

    Args:
        read: Asks the database about `market`.
        served: Version under each alias.
    """
    shown = {"limit": _SHOWN}
    roles = [role for role in ROLES if role == CHAMPION or role in served]
    return MonitoringAnswer(
        rolling=_rolling(read, market, settings.monitoring.rolling_n, "champion", served.get("champion")),
        challenger=_rolling(read, market, settings.monitoring.rolling_n, "challenger", served["challenger"])
        if "challenger" in served
        else None,
        by_hour={role: _by_hour(read, market, role) for role in roles},
        issuing={role: _issuing(read, settings, role) for role in roles},
        misses=[Miss(**miss) for miss in read(queries.MISSES, shown)],
        alerts=[Alert(**alert) for alert in read(queries.ALERTS, shown)],
        checks=[_check(check) for check in read(queries.CHECKS, shown)],
        promotions=[
            Promotion(**promotion)
            for promotion in read(queries.PROMOTIONS, {"limit": _PROMOTIONS_SHOWN, "model_name": market.model_name})
        ],
    )


def _rolling(read: Read, market: Market, n: int, role: Role, version: str | None) -> Rolling:
    found = measure(read, market, role, n, version) if version is not None else None
    if found is None:
        return Rolling(version=version, n=0)
    return Rolling(
        version=version,
        start=found.start,
        newest=found.newest,
        close_mae=found.mae,
        persistence_mae=found.baseline_mae,
        close_rmse=found.rmse,
        persistence_rmse=found.baseline_rmse,
        close_smape=found.smape,
        persistence_smape=found.baseline_smape,
        close_skill_error=found.skill_error,
        amplitude_mae=found.amplitude_mae,
        ewma_mae=found.amplitude_baseline_mae,
        amplitude_rmse=found.amplitude_rmse,
        ewma_rmse=found.amplitude_baseline_rmse,
        amplitude_mape=found.amplitude_mape,
        ewma_mape=found.amplitude_baseline_mape,
        amplitude_smape=found.amplitude_smape,
        ewma_smape=found.amplitude_baseline_smape,
        amplitude_skill_interval=found.interval("amplitude_skill"),
        high_skill=found.high_skill,
        low_skill=found.low_skill,
        direction_accuracy_interval=found.interval("direction_accuracy"),
        weighted_direction_accuracy=found.weighted_direction_accuracy if found.moved else None,
        mean_return_on_hits=found.mean_return_on_hits,
        mean_return_on_misses=found.mean_return_on_misses,
        brier=found.brier if found.moved else None,
        base_rate_brier=found.baseline_brier if found.moved else None,
        high_coverage=found.high_coverage,
        low_coverage=found.low_coverage,
        amplitude_coverage=found.amplitude_coverage,
        **_in_short(found),
    )


def _by_hour(read: Read, market: Market, role: Role) -> list[HourOfDay]:
    hours = measure_by_hour(read, market, role, _BY_HOUR_OF // market.step)
    return [HourOfDay(hour=hour, **_in_short(found)) for hour, found in hours.items()]


def _in_short(found: Performance) -> dict[str, Any]:
    return {
        "n": found.n,
        "close_mape": found.mape,
        "persistence_mape": found.baseline_mape,
        "close_skill": found.skill,
        "close_skill_interval": found.interval("skill"),
        "amplitude_skill": found.amplitude_skill,
        "direction_n": found.moved,
        "direction_accuracy": found.direction_accuracy if found.moved else None,
        "close_coverage": found.close_coverage,
    }


def _issuing(read: Read, settings: Settings, role: Role) -> Issuing:
    (row,) = read(queries.ISSUING, {"role": role, "limit": settings.monitoring.rolling_n})
    return Issuing(**row)


def _check(row: dict[str, Any]) -> Check:
    reports = [f"/reports/{page}" for page in row["reports"]]
    return Check(**row | {"reports": reports, "report": reports[0] if reports else None})

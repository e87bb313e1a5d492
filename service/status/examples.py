"""Examples of the OpenAPI document: monitoring, status, versions, jobs, quality and importance, as JSON."""

from __future__ import annotations

from service.http.examples import MARKET, RUN_ID
from service.status.monitoring_schemas import LiveFigures

_IN_SHORT = {
    "close_mape": 0.0312,
    "persistence_mape": 0.0313,
    "close_skill": 0.0021,
    "close_skill_interval": [-0.0016, 0.0058],
    "amplitude_skill": 0.093,
    "direction_n": 287,
    "direction_accuracy": 0.523,
    "close_coverage": 0.903,
}
_ROLLING = {
    **_IN_SHORT,
    "version": "3",
    "n": 288,
    "start": "2025-09-29T12:00:00Z",
    "newest": "2025-09-30T11:55:00Z",
    "close_mae": 35.2,
    "persistence_mae": 35.3,
    "close_rmse": 52.8,
    "persistence_rmse": 52.9,
    "close_smape": 0.0312,
    "persistence_smape": 0.0313,
    "close_skill_error": 0.0019,
    "amplitude_mae": 38.5,
    "ewma_mae": 42.4,
    "amplitude_rmse": 60.1,
    "ewma_rmse": 64.9,
    "amplitude_mape": 41.0,
    "ewma_mape": 46.2,
    "amplitude_smape": 35.1,
    "ewma_smape": 38.0,
    "amplitude_skill_interval": [0.051, 0.135],
    "high_skill": 0.31,
    "low_skill": 0.29,
    "direction_accuracy_interval": [0.465, 0.581],
    "weighted_direction_accuracy": 0.531,
    "mean_return_on_hits": 0.00032,
    "mean_return_on_misses": 0.0003,
    "brier": 0.2491,
    "base_rate_brier": 0.25,
    "high_coverage": 0.899,
    "low_coverage": 0.91,
    "amplitude_coverage": 0.896,
}
_HOUR = {**_IN_SHORT, "hour": 12, "n": 84, "direction_n": 83}

_DECISION = {
    "version": "3",
    "run_id": RUN_ID,
    "predecessor": "2",
    "predecessor_run_id": "5e0f1a2b3c4d5e6f708192a3b4c5d6e7",
    "alias": "champion",
    "decision": "promoted",
    "reasons": ["close is not worse than persistence"],
    "decided_by": "gate",
    "decided_at": "2025-09-30T00:03:15Z",
    "as_of": "2025-09-30T00:03:15Z",
}
MONITORING = {
    "rolling": _ROLLING,
    "challenger": None,
    "by_hour": {"champion": [_HOUR]},
    "issuing": {
        "champion": {
            "n": 288,
            "since": "2025-09-29T12:05:00Z",
            "missed": 1,
            "clocks_disagree": 0,
            "lateness_p50_s": 2.1,
            "lateness_p95_s": 3.4,
            "lateness_max_s": 5.9,
        }
    },
    "misses": [
        {
            "open_time": "2025-09-29T18:40:00Z",
            "role": "champion",
            "reason": "not made in time",
            "noticed_at": "2025-09-29T18:50:02Z",
        }
    ],
    "alerts": [
        {
            "kind": "missed forecasts",
            "subject": "champion",
            "state": "recovered",
            "message": "1 forecast was due and not made",
            "opened_at": "2025-09-29T18:50:02Z",
            "last_seen_at": "2025-09-29T18:50:02Z",
            "closed_at": "2025-09-29T19:15:00Z",
        }
    ],
    "checks": [
        {
            "checked_at": "2025-09-30T12:00:00Z",
            "model_version": "3",
            "run_id": RUN_ID,
            "verdict": "healthy",
            "action": "none",
            "reasons": ["rolling MAPE is 0.99 times persistence's"],
            "numbers": {"mape_ratio": 0.99},
            "report": "/reports/BTCUSDT-5m-20250930T120000Z-inputs.html",
            "reports": ["/reports/BTCUSDT-5m-20250930T120000Z-inputs.html"],
        }
    ],
    "promotions": [_DECISION],
}
_RUN = {
    "job": "ingest",
    "status": "completed",
    "message": "1 candle stored",
    "rows": 1,
    "started_at": "2025-09-30T12:00:02Z",
    "finished_at": "2025-09-30T12:00:03Z",
}
_MARKET = {"market": "BTCUSDT-5m", **MARKET, "horizon": 1}
STATUS = {
    **_MARKET,
    "source": "live",
    "newest_candle": "2025-09-30T11:55:00Z",
    "newest_forecast": "2025-09-30T12:00:00Z",
    "served": {"champion": "3"},
    "jobs": [_RUN],
    "links": {
        "prefect": "http://127.0.0.1:4200",
        "mlflow": "http://127.0.0.1:5000",
        "evidently": "http://127.0.0.1:8010",
    },
    "speed": 1.0,
    "markets": [MARKET],
    "forecast_here": [_MARKET],
}
VERSIONS = {
    "name": "BTCUSDT-5m",
    "versions": [
        {
            "version": "3",
            "aliases": ["champion"],
            "run_id": RUN_ID,
            "gate": {"close_vs_persistence_skill": 0.0021, "close_vs_persistence_dm_p": 0.0011},
            "live": {name: _ROLLING[name] for name in LiveFigures.model_fields},
            "decisions": [_DECISION],
        }
    ],
    "trial": None,
}
JOBS = {**MARKET, "runs": [_RUN]}
IMPORTANCE = {
    "version": "3",
    "method": "permutation",
    "n": 600,
    "inputs": [{"name": "amp", "amplitude_loss": 0.11, "direction_loss": 0.0004, "contributions": None}],
}
QUALITY = {
    **MARKET,
    "gaps_open": 0,
    "outages": 1,
    "gaps_repaired": 2,
    "doubtful": 1,
    "revisions": 1,
    "newest_gaps": [
        {
            "start": "2025-09-27T23:00:00Z",
            "end": "2025-09-27T23:25:00Z",
            "state": "repaired",
            "found_at": "2025-09-27T23:30:03Z",
            "changed_at": "2025-09-27T23:35:02Z",
        }
    ],
    "newest_doubtful": [{"open_time": "2025-09-28T10:05:00Z", "reasons": ["stub"], "found_at": "2025-09-28T10:10:02Z"}],
    "newest_revisions": [
        {
            "open_time": "2025-09-28T23:55:00Z",
            "close": 112164.0,
            "volume": 12.1,
            "source": "binance",
            "replaced_at": "2025-09-29T00:05:02Z",
        }
    ],
}

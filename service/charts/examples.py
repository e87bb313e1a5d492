"""Examples of the dashboard's answers in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from service.status.monitoring_examples import DECISION

_STRETCH = {
    "symbol": "BTCUSDT",
    "interval": "5m",
    "horizon": 1,
    "role": "champion",
    "start": "2025-09-29T12:00:00Z",
    "end": "2025-09-30T12:05:00Z",
    "step_s": 300.0,
}

RUN = {
    "job": "ingest",
    "status": "completed",
    "message": "1 candle stored",
    "rows": 1,
    "started_at": "2025-09-30T12:00:02Z",
    "finished_at": "2025-09-30T12:00:03Z",
}

CHART_ANSWERS: dict[str, Any] = {
    "/chart": {
        **_STRETCH,
        "open_time": ["2025-09-30T11:55:00Z", "2025-09-30T12:00:00Z"],
        "open": [112880.01, None],
        "high": [112931.5, None],
        "low": [112861.2, None],
        "close": [112913.92, None],
        "volume": [41.27, None],
        "forecasts": [1, 1],
        "forecast_close": [112885.3, 112915.03],
        "forecast_high": [112930.2, 112960.4],
        "forecast_low": [112840.7, 112870.11],
        "close_lower": [112780.9, 112810.2],
        "close_upper": [112990.1, 113019.6],
        "probability_up": [0.53, 0.51],
        "abstained": [0, 0],
        "hits": [1, 0],
        "misses": [0, 0],
    },
    "/errors": {
        **_STRETCH,
        "n": 287,
        "close_mae": 35.2,
        "persistence_mae": 35.3,
        "close_mape": 0.0312,
        "persistence_mape": 0.0313,
        "close_rmse": 52.8,
        "persistence_rmse": 52.9,
        "close_bias": -0.4,
        "mean_amplitude_percent": 0.0861,
        "close_skill": 0.0021,
        "close_skill_interval": [-0.0016, 0.0058],
        "rolling_n": 288,
        "mape_threshold": 0.8,
        "mape_ratio_threshold": 1.05,
        "steps": {
            "open_time": ["2025-09-30T11:55:00Z"],
            "n": [1],
            "close_mae": [28.6],
            "persistence_mae": [33.9],
            "close_mape": [0.0253],
            "persistence_mape": [0.03],
            "close_bias": [-28.6],
            "rolling_mape": [0.0312],
            "rolling_persistence_mape": [0.0313],
            "cumulative_skill": [0.0021],
        },
        "residuals": {"edges": [-12.0, 0.0, 12.0], "close": [140, 147], "persistence": [142, 145]},
        "scatter": {"predicted": [0.4], "actual": [3.0]},
    },
    "/direction": {
        **_STRETCH,
        "n": 286,
        "accuracy": 0.524,
        "accuracy_interval": [0.466, 0.582],
        "weighted_accuracy": 0.531,
        "mean_return_on_hits": 0.00032,
        "mean_return_on_misses": 0.0003,
        "rising": 0.507,
        "base_rate_accuracy": 0.507,
        "repeat_accuracy": 0.486,
        "brier": 0.2491,
        "base_rate_brier": 0.25,
        "calibration_error": 0.021,
        "confusion": {"up_up": 80, "up_down": 71, "down_up": 65, "down_down": 70},
        "reliability": [{"n": 29, "probability": 0.47, "rising": 0.45}],
        "confidence": [{"n": 58, "least": 0.0, "most": 0.006, "accuracy": 0.5}],
    },
}

RECORD_ANSWERS: dict[str, Any] = {
    "/versions": {
        "name": "BTCUSDT-5m",
        "versions": [
            {
                "version": "3",
                "aliases": ["champion"],
                "run_id": "6c1f0c9f1f0e4f1d8f6a5d1a7b3c2e90",
                "gate": {"close_vs_persistence_skill": 0.0021, "close_vs_persistence_dm_p": 0.0011},
                "live": {
                    "n": 288,
                    "close_mape": 0.0312,
                    "persistence_mape": 0.0313,
                    "close_skill": 0.0021,
                    "close_skill_interval": [-0.0016, 0.0058],
                    "amplitude_skill": 0.093,
                    "direction_accuracy": 0.523,
                },
                "decisions": [DECISION],
            }
        ],
        "trial": None,
    },
    "/jobs": {
        "symbol": "BTCUSDT",
        "interval": "5m",
        "runs": [RUN],
    },
    "/importance": {
        "version": "3",
        "n": 600,
        "inputs": [{"name": "amp", "amplitude_loss": 0.11, "direction_loss": 0.0004}],
    },
    "/quality": {
        "symbol": "BTCUSDT",
        "interval": "5m",
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
        "newest_doubtful": [
            {"open_time": "2025-09-28T10:05:00Z", "reasons": ["stub"], "found_at": "2025-09-28T10:10:02Z"}
        ],
        "newest_revisions": [
            {
                "open_time": "2025-09-28T23:55:00Z",
                "close": 112164.0,
                "volume": 12.1,
                "source": "binance",
                "replaced_at": "2025-09-29T00:05:02Z",
            }
        ],
    },
}

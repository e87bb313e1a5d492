"""Examples of the OpenAPI document: answers of /predict, /predict/series and /model, as JSON."""

from __future__ import annotations

from service.http.examples import BASELINE, BOUNDS, BUNDLE_SHA256, FORECAST, MARKET, RUN_ID, TIMES

_MODEL = {
    "name": "BTCUSDT-5m",
    "version": "3",
    "alias": "champion",
    "run_id": RUN_ID,
    "bundle_sha256": BUNDLE_SHA256,
    "feature_hash": "3f9a1c5b7d2e4680",
}
_SPAN = {"start": "2025-09-12T00:00:00Z", "end": "2025-09-30T00:00:00Z", "rows": 5184}
_SERVED = {
    "version": "3",
    "alias": "champion",
    "run_id": RUN_ID,
    "bundle_sha256": BUNDLE_SHA256,
    "family": "lstm",
    "created_at": "2025-09-30T00:03:11Z",
    "served_since": "2025-09-30T00:03:20Z",
    "expires_at": "2025-11-29T00:00:00Z",
    "validation_start": "2025-09-12T00:00:00Z",
    "trained_until": "2025-09-30T00:00:00Z",
    "samples": 25740,
    "epochs": 17,
    "val_loss": 0.4127,
    "feature_hash": _MODEL["feature_hash"],
    "input": {
        **MARKET,
        "horizon": 1,
        "sequence_length": 24,
        "history": 120,
        "history_limit": 10000,
        "series_limit": 50000,
        "required_fields": ["open_time", "open", "high", "low", "close", "volume"],
        "optional_fields": ["quote_volume", "trades", "taker_buy_base", "taker_buy_quote"],
    },
    "spans": {"report": _SPAN},
    "metrics": {"close_mae": 38.2, "close_mae_baseline": 38.27, "close_skill": 0.0018, "direction_accuracy": 0.521},
}
PREDICT = {
    **MARKET,
    "horizon": 1,
    "horizon_minutes": 5.0,
    "last_open_time": "2025-09-30T11:55:00Z",
    **TIMES,
    **FORECAST,
    "intervals": {"level": 0.9, **BOUNDS},
    "direction": {"up": 0.51, "down": 0.49},
    "baseline": BASELINE,
    "abstained": False,
    "cause": None,
    "reason": None,
    "model": _MODEL,
}
PREDICT_SERIES = {
    **MARKET,
    "horizon": 1,
    "level": 0.9,
    "baseline_up": 0.5,
    "count": 2,
    "forecasts": {
        "open_time": ["2025-09-30T12:00:00Z", "2025-09-30T12:05:00Z"],
        "close": [112915.03, 112902.4],
        "probability_up": [0.51, 0.49],
    },
    "abstained": [],
    "left_out": [],
    "model": _MODEL,
}
MODEL = {
    "name": "BTCUSDT-5m",
    "models": {"champion": _SERVED},
    "previous": {"champion": "2"},
    "problems": {},
    "ready": True,
    "not_ready": None,
    "replica": "host/4711",
    "replicas": [{"name": "host/4711", "served": {"champion": "3"}, "looked_at": "2025-09-30T12:00:01Z"}],
    "converged": True,
}

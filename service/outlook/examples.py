"""Examples of the OpenAPI document: the newest forecast, forecasts on demand, directions."""

from __future__ import annotations

from service.history.examples import RECORDED
from service.http.examples import MARKET
from service.predict.examples import PREDICT

_OUTLOOK = {
    "horizon_minutes": 5.0,
    "change": 1.11,
    "change_percent": 0.001,
    "trend": {"trend": "UP", "numeric": 1, "confidence": 0.51},
    "evaluation": {
        "start": "2025-09-12T00:00:00Z",
        "end": "2025-09-30T00:00:00Z",
        "mae": {"model": 38.2, "baseline": 38.27},
        "mape": {"model": 0.0338, "baseline": 0.0339},
        "accuracy": {"model": 0.521, "baseline": 0.503},
        "f1": {"model": 0.519, "baseline": 0.0},
    },
}
LATEST = {**RECORDED, **_OUTLOOK, "actual": None}
NEXT = {**PREDICT, **_OUTLOOK, "recorded": False, "series": None}


def _directions(true_up: int, false_up: int, true_down: int, false_down: int, auc: float) -> dict[str, float]:
    n = true_up + false_up + true_down + false_down
    return {
        "n": n,
        "accuracy": round((true_up + true_down) / n, 4),
        "precision": round(true_up / max(true_up + false_up, 1), 4),
        "recall": round(true_up / (true_up + false_down), 4),
        "f1": round(2 * true_up / (2 * true_up + false_up + false_down), 4),
        "auc": auc,
        "true_up": true_up,
        "false_up": false_up,
        "true_down": true_down,
        "false_down": false_down,
    }


ACCURACY = {
    **MARKET,
    "horizon": 1,
    "role": "champion",
    "start": "2025-09-29T12:00:00Z",
    "end": "2025-09-30T11:55:00Z",
    "model": _directions(76, 68, 73, 69, 0.527),
    "accuracy_interval": [0.463, 0.579],
    "base_rate": _directions(0, 0, 141, 145, 0.5),
    "persistence": _directions(70, 71, 70, 74, 0.493),
}

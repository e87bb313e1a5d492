"""Examples of the OpenAPI document: what the answers look like, as JSON."""

from __future__ import annotations

import json
from typing import Any

from candlecast.bundle.golden import GOLDEN
from candlecast.market import from_epoch_ms
from candlecast.registry.registry import CHAMPION, cached_bundle
from candlecast.settings import Settings
from service.charts.examples import CHART_ANSWERS, RECORD_ANSWERS, RUN
from service.http.resources import Resources
from service.models.reloaders import ModelReloaders
from service.status.monitoring_examples import MONITORING_ANSWERS

_MODEL = {
    "name": "BTCUSDT-5m",
    "version": "3",
    "alias": "champion",
    "run_id": "6c1f0c9f1f0e4f1d8f6a5d1a7b3c2e90",
    "feature_hash": "3f9a1c5b7d2e4680",
}
_MARKET = {"symbol": "BTCUSDT", "interval": "5m"}
_TIMES = {"open_time": "2025-09-30T12:00:00Z", "close_time": "2025-09-30T12:05:00Z"}
_FORECAST = {"open": 112913.92, "high": 112960.4, "low": 112870.11, "close": 112915.03, "amplitude": 91.7}
_BOUNDS = {
    "high": [112921.3, 113055.8],
    "low": [112771.9, 112908.4],
    "close": [112810.2, 113019.6],
    "amplitude": [38.2, 187.4],
}
_BASELINE = {"close": 112913.92, "amplitude": 96.3, "up": 0.5}
_CANDLE = {
    "open_time": "2025-09-30T11:55:00Z",
    "open": 112880.01,
    "high": 112931.5,
    "low": 112861.2,
    "close": 112913.92,
    "volume": 41.27,
    "quote_volume": 4658711.4,
    "trades": 8120,
    "taker_buy_base": 22.9,
    "taker_buy_quote": 2585011.0,
}
_OUTCOME = {"open": 112913.92, "high": 112948.0, "low": 112880.7, "close": 112901.3}
_RECORDED = {
    **_TIMES,
    "last_open_time": "2025-09-30T11:55:00Z",
    "horizon": 1,
    "role": "champion",
    "model_version": "3",
    "run_id": _MODEL["run_id"],
    "issued_at": "2025-09-30T12:00:03Z",
    "recorded_at": "2025-09-30T12:00:03.112Z",
    "lateness_s": 3.0,
    "clocks_agree": True,
    **_FORECAST,
    "probability_up": 0.51,
    **{f"{name}_{end}": _BOUNDS[name][at] for name in _BOUNDS for at, end in enumerate(("lower", "upper"))},
    **{f"baseline_{name}": value for name, value in _BASELINE.items()},
    "abstained": False,
    "reason": None,
    "source": "live",
    "actual": {
        "reference_close": 112913.92,
        **_OUTCOME,
        "amplitude": 67.3,
        "settled_at": "2025-09-30T12:05:04Z",
    },
}
_POINT = {
    **_TIMES,
    "real": {**_OUTCOME, "volume": 35.8, "amplitude": 67.3},
    "predicted": _FORECAST,
    "direction": {"up": 0.51, "down": 0.49},
    "moved": "down",
    "direction_hit": False,
    "errors": {"close_absolute": 13.73, "close_signed": 13.73, "amplitude_absolute": 24.4},
    "doubtful": False,
    "abstained": False,
    "model_version": "3",
    "issued_at": "2025-09-30T12:00:03Z",
}
_SPAN = {"start": "2025-09-12T00:00:00Z", "end": "2025-09-30T00:00:00Z", "rows": 5184}
_SERVED = {
    "version": "3",
    "alias": "champion",
    "run_id": _MODEL["run_id"],
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
        **_MARKET,
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

ANSWERS: dict[str, Any] = {
    "/predict": {
        **_MARKET,
        "horizon": 1,
        "last_open_time": "2025-09-30T11:55:00Z",
        **_TIMES,
        **_FORECAST,
        "intervals": {"level": 0.9, **_BOUNDS},
        "direction": {"up": 0.51, "down": 0.49},
        "baseline": _BASELINE,
        "abstained": False,
        "cause": None,
        "reason": None,
        "model": _MODEL,
    },
    "/predict/series": {
        **_MARKET,
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
        "model": _MODEL,
    },
    "/model": {
        "name": "BTCUSDT-5m",
        "models": {"champion": _SERVED},
        "previous": {"champion": "2"},
        "problems": {},
        "ready": True,
        "not_ready": None,
        "replica": "host/4711",
        "replicas": [{"name": "host/4711", "served": {"champion": "3"}, "looked_at": "2025-09-30T12:00:01Z"}],
        "converged": True,
    },
    "/price/latest": _CANDLE,
    "/price/history": {**_MARKET, "candles": [_CANDLE], "earlier": "/price/history?limit=1&end=2025-09-30T11:55:00Z"},
    "/price/stats": {
        **_MARKET,
        "hours": 24,
        "n": 288,
        "start": "2025-09-29T12:00:00Z",
        "end": "2025-09-30T12:00:00Z",
        "open": 112114.0,
        "max": 114791.0,
        "min": 111560.7,
        "close": 112913.92,
        "average": 113420.6,
        "deviation": 702.1,
        "change": 799.92,
        "change_percent": 0.713,
        "average_amplitude": 118.2,
        "volume": 17023.4,
        "quote_volume": 1930215001.0,
        "vwap": 113386.0,
        "trades": 2710440,
    },
    "/series": {**_MARKET, "horizon": 1, "role": "champion", "points": [_POINT], "earlier": None},
    "/forecasts": {**_MARKET, "forecasts": [_RECORDED], "earlier": None},
    "/forecasts/latest": _RECORDED,
    "/status": {
        **_MARKET,
        "horizon": 1,
        "source": "live",
        "newest_candle": "2025-09-30T11:55:00Z",
        "newest_forecast": "2025-09-30T12:00:00Z",
        "served": {"champion": "3"},
        "jobs": [RUN],
        "links": {
            "prefect": "http://127.0.0.1:4200",
            "mlflow": "http://127.0.0.1:5000",
            "evidently": "http://127.0.0.1:8010",
        },
        "speed": 1.0,
        "markets": [_MARKET],
        "forecast_here": [_MARKET],
    },
}
ANSWERS |= {"/futures": ANSWERS["/forecasts"], **MONITORING_ANSWERS, **CHART_ANSWERS, **RECORD_ANSWERS}

_SHORT = [{**_CANDLE, "open_time": "2025-09-30T11:50:00Z"}, _CANDLE]


def history_example(here: Resources) -> dict[str, Any]:
    """A body of /predict that the served champion answers: its own golden sample; two candles if there is none."""
    champion = here[ModelReloaders].all[0].served.get(CHAMPION)
    if champion is None:
        return {"candles": _SHORT}
    market = here[Settings].market
    try:
        golden = json.loads(
            (cached_bundle(here[Settings].models_dir, market.model_name, champion.version) / GOLDEN).read_bytes()
        )
    except (OSError, ValueError):
        return {"candles": _SHORT}
    columns = {name: [round(value, 8) for value in values] for name, values in golden["candles"].items()}
    times = [from_epoch_ms(at).isoformat().replace("+00:00", "Z") for at in golden["open_time_ms"]]
    rows = [dict(zip(("open_time", *columns), row, strict=True)) for row in zip(times, *columns.values(), strict=True)]
    return {"candles": rows, "symbol": market.symbol, "interval": market.interval}

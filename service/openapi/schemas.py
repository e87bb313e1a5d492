"""Schemas of the OpenAPI document, for posted bodies and for answers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, get_args

from pydantic.json_schema import models_json_schema

from candlecast.api.answers import Answer
from candlecast.candles.schema import OHLCV_COLUMNS
from service.http.times import EARLIEST_MS, LATEST_MS
from service.predict.request import HISTORY_LIMIT, KLINE_NAMES, SERIES_LIMIT, PostedCandle, PredictRequest, SeriesField

REF = "#/components/schemas/"
MILLISECONDS = {"type": "integer", "minimum": EARLIEST_MS, "exclusiveMaximum": LATEST_MS}


def answer_schemas(answers: Iterable[type[Answer]]) -> dict[str, Any]:
    """List the JSON schemas of these answers, and of the answers inside them, by name."""
    wanted = [(answer, "serialization") for answer in answers]
    _, definitions = models_json_schema(wanted, ref_template=REF + "{model}")  # type: ignore[arg-type]
    schemas: dict[str, Any] = definitions["$defs"]
    for schema in schemas.values():
        for part in (schema, *schema["properties"].values()):
            if "description" in part:
                part["description"] = _in_one_line(part["description"])
        for part in schema["properties"].values():
            part.pop("title", None)
    return schemas


def _in_one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def posted_schemas() -> dict[str, Any]:
    """List the JSON schemas of the bodies of /predict and /predict/series, by name."""
    history: dict[str, Any] = {
        "candles": {
            "type": ["array", "null"],
            "description": "Closed candles without a gap, oldest first; at least `input.history` of `GET /model`.",
            "items": {"$ref": f"{REF}PostedCandle"},
            "maxItems": HISTORY_LIMIT,
        },
        "klines": {
            "type": ["array", "null"],
            "description": "Candles as in Binance's /api/v3/klines, without the last one until it has closed.",
            "items": {"$ref": f"{REF}Kline"},
            "maxItems": HISTORY_LIMIT,
        },
        "market": {
            "type": ["string", "null"],
            "description": "Name of the market, such as BTCUSDT-5m or BTCUSDT-1m-h15; by default the first one "
            "forecast here. With `symbol` or `interval`, they must agree.",
        },
        "symbol": {"type": ["string", "null"], "description": "By default that of the first market forecast here."},
        "interval": {"type": ["string", "null"], "description": "By default that of the first market forecast here."},
        "model": {
            "type": "string",
            "default": "champion",
            "description": "An alias, champion or challenger, or the number of a version that is being served.",
        },
    }
    fields = {
        "type": ["array", "null"],
        "description": "Columns wanted; by default all.",
        "items": {"type": "string", "enum": list(get_args(SeriesField))},
    }
    long = {name: {**part, "maxItems": SERIES_LIMIT} for name, part in history.items() if "maxItems" in part}
    return {
        "PostedCandle": _posted_candle(),
        "Kline": _kline(),
        "PredictRequest": _request(PredictRequest.__doc__, history),
        "SeriesRequest": _request("History for many forecasts at once.", {**history, **long, "fields": fields}),
    }


def _request(text: str | None, properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "description": _in_one_line(text or ""),
        "properties": properties,
        "additionalProperties": False,
        "anyOf": [{"required": ["candles"]}, {"required": ["klines"]}],
    }


def _posted_candle() -> dict[str, Any]:
    base, quote = "In base currency.", "In quote currency."
    return {
        "type": "object",
        "description": _in_one_line(PostedCandle.__doc__ or ""),
        "properties": {
            "open_time": {
                "description": "Start of the candle: ISO-8601 with an offset, or milliseconds since 1970.",
                "anyOf": [{"type": "string", "format": "date-time"}, MILLISECONDS],
            },
            **{name: _number("In quote currency.", positive=True) for name in ("open", "high", "low", "close")},
            "volume": _number(base),
            "quote_volume": _number(quote, optional=True),
            "trades": _number("Number of trades.", optional=True),
            "taker_buy_base": _number(base, optional=True),
            "taker_buy_quote": _number(quote, optional=True),
        },
        "required": ["open_time", *OHLCV_COLUMNS],
        "additionalProperties": False,
    }


def _kline() -> dict[str, Any]:
    prices = [_number(f"{name}, in quote currency", positive=True) for name in ("Open", "High", "Low", "Close")]
    return {
        "type": "array",
        "description": "One closed candle in Binance's form: " + ", ".join(KLINE_NAMES) + ".",
        "prefixItems": [
            {**MILLISECONDS, "description": "Open time, milliseconds since 1970."},
            *prices,
            _number("Volume, in base currency"),
            {"type": "integer", "description": "Close time; not read."},
            _number("Quote volume"),
            _number("Trades"),
            _number("Taker buy volume, in base currency"),
            _number("Taker buy volume, in quote currency"),
            {"description": "Not read."},
        ],
        "minItems": len(KLINE_NAMES),
        "maxItems": len(KLINE_NAMES),
    }


def _number(description: str, *, positive: bool = False, optional: bool = False) -> dict[str, Any]:
    forms: list[dict[str, Any]] = [
        {"type": "number", **({"exclusiveMinimum": 0} if positive else {"minimum": 0})},
        {"type": "string", "pattern": r"^[0-9]{1,15}(\.[0-9]{1,15})?$"},
    ]
    if optional:
        forms.append({"type": "null"})
        description += " Unknown if null or left out."
    return {"description": description, "anyOf": forms}

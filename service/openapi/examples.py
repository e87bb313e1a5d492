"""Example of a posted history in the OpenAPI document."""

from __future__ import annotations

import json
from typing import Any

from candlecast.bundle.golden import GOLDEN
from candlecast.market import from_epoch_ms
from candlecast.registry.cache import cached_bundle
from candlecast.registry.registry import CHAMPION
from candlecast.settings.settings import Settings
from service.http.examples import CANDLE
from service.http.resources import Resources
from service.http.times import iso
from service.models.reloaders import ModelReloaders

_SHORT = [{**CANDLE, "open_time": "2025-09-30T11:50:00Z"}, CANDLE]


def history_example(here: Resources) -> dict[str, Any]:
    """Make a body of /predict from the champion's golden sample; of two candles if no champion is served."""
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
    times = [iso(from_epoch_ms(at)) for at in golden["open_time_ms"]]
    rows = [dict(zip(("open_time", *columns), row, strict=True)) for row in zip(times, *columns.values(), strict=True)]
    return {"candles": rows, "symbol": market.symbol, "interval": market.interval}

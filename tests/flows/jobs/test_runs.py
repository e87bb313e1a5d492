"""The common part of flows for several markets."""

from __future__ import annotations

import pytest

from candlecast.errors import CandlecastError, ExchangeUnavailable
from candlecast.settings.settings import Settings
from flows.jobs.runs import for_each


def test_failures_of_some_markets_are_reported_with_kind_and_traceback() -> None:
    done = []

    def job(settings: Settings) -> None:
        done.append(settings.market)
        if settings.symbol == "ETHUSDT":
            raise ExchangeUnavailable("does not answer")
        if settings.symbol == "SOLUSDT":
            raise KeyError("close")

    with pytest.raises(CandlecastError) as failed:
        for_each(job, ["BTCUSDT-5m", "ETHUSDT-5m", "SOLUSDT-5m"], 2, at_once=1)

    told = "2 of 3 markets failed: ETHUSDT-5m-h2: does not answer; SOLUSDT-5m-h2: KeyError: 'close'"
    assert str(failed.value) == told
    kept = failed.value.__cause__
    assert isinstance(kept, BaseExceptionGroup)
    assert [type(each) for each in kept.exceptions] == [ExchangeUnavailable, KeyError]
    assert all(each.__traceback__ for each in kept.exceptions)
    assert [(market.symbol, market.horizon) for market in done] == [("BTCUSDT", 2), ("ETHUSDT", 2), ("SOLUSDT", 2)]

"""Client of the forecast service."""

from __future__ import annotations

import time
from typing import Any, Self, TypeVar

import numpy as np
import pandas as pd
import requests
from pydantic import BaseModel, ValidationError

from candlecast.answers import ForecastAnswer, ModelsAnswer, Problem
from candlecast.candles import CANDLE_COLUMNS, FLOW_COLUMNS, epoch_ms
from candlecast.errors import ModelNotFound, ServiceRejected, ServiceUnavailable

_A = TypeVar("_A", bound=BaseModel)
_LOOK_AGAIN_S = 0.25


class ForecastClient:
    """Asks one forecast service; keeps its connection open, so it belongs to one thread.

    Args:
        base_url: Address of the service, e.g. http://127.0.0.1:3000.
        timeout_s: Limit on one request.
        session: Connection to use; tests mount a transport of their own.
    """

    def __init__(self, base_url: str, timeout_s: float = 10, session: requests.Session | None = None) -> None:
        self.base_url = base_url.rstrip("/")
        self._timeout_s = timeout_s
        self._session = session or requests.Session()

    def close(self) -> None:
        """Let go of the connection."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def predict(self, candles: pd.DataFrame, symbol: str, interval: str, model: str = "champion") -> ForecastAnswer:
        """The forecast after the last of `candles`.

        Args:
            candles: At least OHLCV, indexed by UTC open_time, ascending, closed, without gaps. Order flow that
                is not known for every candle is left out.
            model: Alias, or number of a version that is being served.

        Raises:
            ServiceUnavailable: No connection, no model loaded yet, or a fault on its side: try again.
            ModelNotFound: `model` is not being served.
            ServiceRejected: The candles or the market are refused; the message names row and field.
        """
        sent = [name for name in CANDLE_COLUMNS if name in candles.columns]
        sent = [name for name in sent if name not in FLOW_COLUMNS or candles[name].notna().all()]
        times = [epoch_ms(moment) for moment in pd.DatetimeIndex(candles.index).to_pydatetime()]
        values = candles[sent].to_numpy(dtype="float64")
        numbers = values.astype(object)
        numbers[~np.isfinite(values)] = None  # JSON has no NaN; the service names the row
        rows = [
            {"open_time": at, **dict(zip(sent, row, strict=True))}
            for at, row in zip(times, numbers.tolist(), strict=True)
        ]
        body = {"candles": rows, "symbol": symbol, "interval": interval, "model": model}
        return self._ask("POST", "/predict", ForecastAnswer, json=body)

    def model(self) -> ModelsAnswer:
        """What is being served, and what it needs.

        Raises:
            ServiceUnavailable: No connection, or a fault on its side.
        """
        return self._ask("GET", "/model", ModelsAnswer)

    def wait_ready(self, timeout_s: float) -> None:
        """Return as soon as a champion is being served.

        Raises:
            ServiceUnavailable: None is after `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                response = self._send("GET", "/readyz")
                fault = f"/readyz says {response.status_code}"
                if response.ok:
                    return
            except ServiceUnavailable as exc:
                fault = str(exc)
            if time.monotonic() > deadline:
                raise ServiceUnavailable(f"no champion served by {self.base_url} after {timeout_s:g} s: {fault}")
            time.sleep(_LOOK_AGAIN_S)

    def _ask(self, method: str, path: str, answer: type[_A], **arguments: Any) -> _A:
        response = self._send(method, path, **arguments)
        if not response.ok:
            raise _refusal(response)
        try:
            return answer.model_validate_json(response.content)
        except ValidationError as exc:
            raise ServiceUnavailable(f"{response.url} answers something else than Candlecast: {exc}") from exc

    def _send(self, method: str, path: str, **arguments: Any) -> requests.Response:
        try:
            return self._session.request(method, self.base_url + path, timeout=self._timeout_s, **arguments)
        except requests.RequestException as exc:
            raise ServiceUnavailable(f"{self.base_url}{path} does not answer: {type(exc).__name__}") from exc


def _refusal(response: requests.Response) -> ServiceUnavailable | ModelNotFound | ServiceRejected:
    try:
        detail = Problem.model_validate_json(response.content).detail
    except ValidationError:
        detail = response.text[:200]
    message = f"{response.url}: HTTP {response.status_code}: {detail}"
    if response.status_code >= requests.codes.server_error or response.status_code == requests.codes.too_many_requests:
        waits = response.headers.get("Retry-After", "")
        return ServiceUnavailable(message, float(waits) if waits.isdigit() else None)
    if response.status_code == requests.codes.not_found:
        return ModelNotFound(message)
    return ServiceRejected(message)

"""Client of the forecast service, its answers and its errors."""

from __future__ import annotations

import json
import time
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import requests
from pydantic import BaseModel, SecretStr, ValidationError

from candlecast.api.answers import (
    PROBLEM_TYPE,
    Baseline,
    Direction,
    ForecastAnswer,
    InputContract,
    Intervals,
    ModelReference,
    ModelsAnswer,
    Problem,
    ReplicaAnswer,
    ServedModelAnswer,
    SpanAnswer,
)
from candlecast.api.importance import ImportanceAnswer, ImportanceMethod, InputImportance
from candlecast.api.series_answers import AbstainedStretch, ForecastColumns, ForecastSeriesAnswer, Stretch
from candlecast.candles.schema import CANDLE_COLUMNS, FLOW_COLUMNS
from candlecast.errors import CandlecastError, ConfigurationError, ModelNotFound, ServiceRejected, ServiceUnavailable
from candlecast.exchange.requests import SessionClient, open_session
from candlecast.market import Market, epoch_ms

__all__ = [
    "AbstainedStretch",
    "Baseline",
    "CandlecastError",
    "ConfigurationError",
    "Direction",
    "ForecastAnswer",
    "ForecastClient",
    "ForecastColumns",
    "ForecastSeriesAnswer",
    "ImportanceAnswer",
    "InputContract",
    "InputImportance",
    "Intervals",
    "Market",
    "ModelNotFound",
    "ModelReference",
    "ModelsAnswer",
    "ReplicaAnswer",
    "ServedModelAnswer",
    "ServiceRejected",
    "ServiceUnavailable",
    "SpanAnswer",
    "Stretch",
]

_A = TypeVar("_A", bound=BaseModel)
_JSON = {"Content-Type": "application/json"}
_LOOK_AGAIN_S = 0.25
_ATTEMPTS = 3
_LONGEST_WAIT_S = 2.0
_BUSY = (requests.codes.too_many_requests, requests.codes.service_unavailable)


class ForecastClient(SessionClient):
    """A client of one forecast service, with an open connection; use it in one thread.

    A request is sent up to three times if the connection fails, or if the service asks for a retry within two
    seconds. Repeating is safe because a forecast changes nothing. A request that timed out is not repeated, because
    the service is overloaded.

    Args:
        base_url: Address of the service, e.g. http://127.0.0.1:3000.
        timeout_s: Limit on one attempt.
        session: Requests session to use; tests mount their own transport.
        api_key: Sent as `Authorization: Bearer`; None if the service needs no key.

    Raises:
        ConfigurationError: `base_url` is not an http address.
    """

    def __init__(
        self,
        base_url: str,
        timeout_s: float = 10,
        session: requests.Session | None = None,
        api_key: SecretStr | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._timeout_s = timeout_s
        self._session = session or open_session(base_url, "CANDLECAST_SERVICE_URL")
        if api_key is not None:
            self._session.headers["Authorization"] = f"Bearer {api_key.get_secret_value()}"

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def predict(
        self,
        candles: pd.DataFrame,
        symbol: str,
        interval: str,
        model: str = "champion",
        horizon: int | None = None,
    ) -> ForecastAnswer:
        """Forecast the candle `horizon` after the last of `candles`.

        Args:
            candles: At least OHLCV, indexed by UTC open_time, ascending, closed, without gaps. Order flow that
                is not known for every candle is not sent.
            model: Alias or number of a served version.
            horizon: Candles ahead; None is that of the first market with this symbol and interval.

        Raises:
            ServiceUnavailable: No connection, no model loaded yet, or a server error; try again.
            ModelNotFound: `model` is not served.
            ServiceRejected: The candles or the market are invalid; the message names row and field.
        """
        return self.predict_posted(_posted(candles, symbol, interval, model, horizon))

    def predict_posted(self, body: dict[str, Any]) -> ForecastAnswer:
        """Send a body of `POST /predict` as it is; raises as `predict`."""
        # NaN and Infinity are sent, so that the service names their row.
        return self._ask("POST", "/predict", ForecastAnswer, data=json.dumps(body), headers=_JSON)

    def predict_series(
        self,
        candles: pd.DataFrame,
        symbol: str,
        interval: str,
        model: str = "champion",
        horizon: int | None = None,
    ) -> ForecastSeriesAnswer:
        """Make one forecast after every candle that has enough others before it; arguments as for `predict`.

        Raises:
            ServiceUnavailable: As `predict`.
            ModelNotFound: As `predict`.
            ServiceRejected: As `predict`; also for more candles than `series_limit` of `model()`.
        """
        body = _posted(candles, symbol, interval, model, horizon)
        return self._ask("POST", "/predict/series", ForecastSeriesAnswer, json=body)

    def model(self, market: Market) -> ModelsAnswer:
        """Return the models served for a market, and the input that they need.

        Raises:
            ServiceUnavailable: No connection, or a server error.
            ServiceRejected: The service serves no model of this market.
        """
        return self._ask("GET", "/model", ModelsAnswer, params={"market": market.model_name})

    def importance(self, market: Market, method: ImportanceMethod = "permutation") -> ImportanceAnswer:
        """Return the importance of each input for the served champion of a market.

        Args:
            method: `permutation` measures on the newest candles, `shap` reads what the training of trees measured.

        Raises:
            ServiceUnavailable: As `model`; also while the service's database does not answer.
            ServiceRejected: The champion is of a family without SHAP values.
        """
        asked = {"market": market.model_name, "method": method}
        return self._ask("GET", "/importance", ImportanceAnswer, params=asked)

    def wait_ready(self, timeout_s: float) -> None:
        """Wait until a champion is served.

        Raises:
            ServiceUnavailable: No champion is served after `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                response = self._send("GET", "/readyz")
                fault = f"/readyz answers {response.status_code}"
                if response.ok:
                    return
            except ServiceUnavailable as exc:
                fault = str(exc)
            if time.monotonic() > deadline:
                raise ServiceUnavailable(f"no champion served by {self.base_url} after {timeout_s:g} s: {fault}")
            time.sleep(_LOOK_AGAIN_S)

    def _ask(self, method: str, path: str, answer: type[_A], **arguments: Any) -> _A:
        response = self._with_retries(method, path, **arguments)
        if not response.ok:
            raise _refusal(response)
        try:
            return answer.model_validate_json(response.content)
        except ValidationError as exc:
            raise ServiceUnavailable(f"{response.url} answers something else than Candlecast: {exc}") from exc

    def _with_retries(self, method: str, path: str, **arguments: Any) -> requests.Response:
        """Return the answer of the last attempt."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                response = self._send(method, path, **arguments)
            except ServiceUnavailable as exc:
                if attempt == _ATTEMPTS or not isinstance(exc.__cause__, requests.ConnectionError):
                    raise
                wait_s = _LOOK_AGAIN_S * attempt
            else:
                wait_s = _waits_s(response) or 0.0
                if attempt == _ATTEMPTS or response.status_code not in _BUSY or not 0 < wait_s <= _LONGEST_WAIT_S:
                    return response
            time.sleep(wait_s)
        raise AssertionError("the last attempt returns or raises")

    def _send(self, method: str, path: str, **arguments: Any) -> requests.Response:
        try:
            return self._session.request(method, self.base_url + path, timeout=self._timeout_s, **arguments)
        except requests.RequestException as exc:
            raise ServiceUnavailable(f"{self.base_url}{path} does not answer: {type(exc).__name__}") from exc


def _posted(candles: pd.DataFrame, symbol: str, interval: str, model: str, horizon: int | None) -> dict[str, Any]:
    """Make a body of `POST /predict`."""
    sent = [name for name in CANDLE_COLUMNS if name in candles.columns]
    sent = [name for name in sent if name not in FLOW_COLUMNS or candles[name].notna().all()]
    times = [epoch_ms(moment) for moment in pd.DatetimeIndex(candles.index).to_pydatetime()]
    values = candles[sent].to_numpy(dtype="float64")
    numbers = values.astype(object)
    numbers[~np.isfinite(values)] = None  # JSON has no NaN; the service names the row
    rows = [
        {"open_time": at, **dict(zip(sent, row, strict=True))} for at, row in zip(times, numbers.tolist(), strict=True)
    ]
    named = {} if horizon is None else {"market": Market(symbol, interval, horizon).model_name}
    return {"candles": rows, **named, "symbol": symbol, "interval": interval, "model": model}


def _waits_s(response: requests.Response) -> float | None:
    waits = response.headers.get("Retry-After", "")
    return float(waits) if waits.isdigit() else None


def _refusal(response: requests.Response) -> ServiceUnavailable | ModelNotFound | ServiceRejected:
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        problem = Problem(title="", status=response.status_code, detail=response.text[:200])
    message = f"{response.url}: HTTP {response.status_code}: {problem.detail}"
    if response.status_code >= requests.codes.server_error or response.status_code == requests.codes.too_many_requests:
        return ServiceUnavailable(message, _waits_s(response))
    if response.status_code == requests.codes.not_found:
        return ModelNotFound(message)
    kind = problem.type.removeprefix(PROBLEM_TYPE) if problem.type.startswith(PROBLEM_TYPE) else None
    return ServiceRejected(message, response.status_code, kind, problem.row, problem.field)

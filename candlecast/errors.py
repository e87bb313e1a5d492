"""The errors that Candlecast raises, each with what the caller does next.

CandlecastError
├── ConfigurationError        correct the setting it names
├── ExchangeError
│   ├── ExchangeUnavailable   try again, after `retry_after_s` if given
│   └── ExchangeRejected      correct the request or the setting it names
├── InvalidCandles            correct the row and field it names
│   ├── CandleGapError        run a backfill, or post the missing candle
│   └── NotEnoughCandles      post or backfill more history
│       └── TooFewTrades      take a longer interval, or another market
├── DatabaseUnavailable       start the database, or correct DATABASE_URL
├── RegistryUnavailable       start MLflow, or correct MLFLOW_TRACKING_URI
├── ModelNotFound             train and promote a model first
├── VersionFailed             promote another version, or use --force
├── BundleError               fetch the version again, or retrain: the bundle is damaged
│   ├── ForeignBundleError    serve it with the build that made it, or retrain
│   └── ForeignMarketError    give the alias to a version that was trained for this market
├── SearchFailed              correct what its message names, then start the search again: it resumes
├── ServiceUnavailable        try again, after `retry_after_s` if given
├── ServiceRejected           correct the request
├── ForecastTooLate           nothing: the forecast is missed; look for the slow step
├── AlreadyRunning            wait for the other run to end
└── StackError                read the log it names
"""

from __future__ import annotations

import re

_LOGIN = re.compile(r"(?<=://)[^/@\s]+@")


def without_logins(text: str) -> str:
    """Return a text whose addresses have no user and no password."""
    return _LOGIN.sub("", text)


class CandlecastError(Exception):
    """An error of Candlecast, with the remedy in its message, without the login of an address in it."""

    def __init__(self, message: str = "") -> None:
        super().__init__(without_logins(message))


class ConfigurationError(CandlecastError):
    """A setting is missing or invalid."""


class ExchangeError(CandlecastError):
    """A request to the exchange failed."""


class ExchangeUnavailable(ExchangeError):
    """The exchange does not answer now; the same request may succeed later."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ExchangeRejected(ExchangeError):
    """The exchange rejects this request, and would reject it again.

    Attributes:
        status: HTTP status; None if the request was not sent.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class InvalidCandles(CandlecastError):
    """Candles that cannot be used, with the first invalid row and field.

    Attributes:
        row: Position of the candle in the input, 0-based; None if the whole input is invalid.
        field: Name of the invalid field, or None.
    """

    def __init__(self, message: str, row: int | None = None, field: str | None = None) -> None:
        super().__init__(message)
        self.row = row
        self.field = field


class CandleGapError(InvalidCandles):
    """A candle is missing between two others."""


class NotEnoughCandles(InvalidCandles):
    """The history is too short for the computation."""


class TooFewTrades(NotEnoughCandles):
    """The market trades too seldom for the computation."""


class DatabaseUnavailable(CandlecastError):
    """PostgreSQL cannot be reached."""


class RegistryUnavailable(CandlecastError):
    """MLflow cannot be reached."""


class ModelNotFound(CandlecastError):
    """No model version has this name and alias."""


class VersionFailed(CandlecastError):
    """A model version is marked as failed: it was rolled back as champion."""


class BundleError(CandlecastError):
    """A model bundle is incomplete, altered, or does not reproduce its golden sample."""


class ForeignBundleError(BundleError):
    """A model bundle of another format or feature set than this build's."""


class ForeignMarketError(BundleError):
    """A model bundle of another market than the model that it is registered under."""


class SearchFailed(CandlecastError):
    """A search for better settings cannot continue, because its trials fail."""


class ServiceUnavailable(CandlecastError):
    """The forecast service does not answer now; the same request may succeed later."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ServiceRejected(CandlecastError):
    """The forecast service rejects this request, and would reject it again.

    Attributes:
        status: HTTP status; None if the request was not sent.
        kind: Last part of the problem document's `type`; None without such a document.
        row: Position of the invalid candle, 0-based, or None.
        field: Name of the invalid field, or None.
    """

    def __init__(
        self,
        message: str,
        status: int | None = None,
        kind: str | None = None,
        row: int | None = None,
        field: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.row = row
        self.field = field


class ForecastTooLate(CandlecastError):
    """The target candle had already closed, so the forecast was not recorded."""


class AlreadyRunning(CandlecastError):
    """Another run of the same job holds its lock."""


class StackError(CandlecastError):
    """A process of the local platform did not start."""

"""Every error Candlecast raises on purpose; each name says what the caller does next.

CandlecastError
├── ConfigurationError        correct the setting it names
├── ExchangeError
│   ├── ExchangeUnavailable   try again, after `retry_after_s` if given
│   └── ExchangeRejected      correct the request or the setting it names
├── InvalidCandles            correct the row and field it names
│   ├── CandleGapError        run a backfill, or post the missing candle
│   └── NotEnoughCandles      post or backfill more history
├── DatabaseUnavailable       start the database, or correct DATABASE_URL
├── RegistryUnavailable       start MLflow, or correct MLFLOW_TRACKING_URI
├── ModelNotFound             train and promote a model first
├── VersionFailed             promote another version, or insist on it with --force
├── BundleError               fetch the version again, or retrain: the bundle is damaged
│   └── ForeignBundleError    serve it with the build that made it, or retrain
├── SearchFailed              correct what its message names, then start the search again: it goes on
├── ServiceUnavailable        try again, after `retry_after_s` if given
├── ServiceRejected           correct the request
├── ForecastTooLate           nothing: it is missed; look for what was slow
├── AlreadyRunning            wait for the other run to end
└── StackError                read the log it names
"""

from __future__ import annotations


class CandlecastError(Exception):
    """Anything Candlecast refuses or cannot do, with the remedy in its message."""


class ConfigurationError(CandlecastError):
    """A setting is missing or makes no sense."""


class ExchangeError(CandlecastError):
    """The exchange did not give what was asked."""


class ExchangeUnavailable(ExchangeError):
    """The exchange cannot answer now; the same request may succeed later."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ExchangeRejected(ExchangeError):
    """The exchange will not answer this request, however often it is sent."""


class InvalidCandles(CandlecastError):
    """Candles that cannot be used, with the first offending row and field.

    Attributes:
        row: Position of the candle in the input, 0-based; None if the input as a whole is wrong.
        field: Name of the offending field, or None.
    """

    def __init__(self, message: str, row: int | None = None, field: str | None = None) -> None:
        super().__init__(message)
        self.row = row
        self.field = field


class CandleGapError(InvalidCandles):
    """A candle is missing between two others."""


class NotEnoughCandles(InvalidCandles):
    """The history is shorter than what the computation needs."""


class DatabaseUnavailable(CandlecastError):
    """PostgreSQL cannot be reached."""


class RegistryUnavailable(CandlecastError):
    """MLflow cannot be reached."""


class ModelNotFound(CandlecastError):
    """No model version stands under this name and alias."""


class VersionFailed(CandlecastError):
    """A model version is marked as failed: it was champion and did not stand the test."""


class BundleError(CandlecastError):
    """A model bundle is incomplete, altered, or does not reproduce its golden sample."""


class ForeignBundleError(BundleError):
    """A model bundle of another format or feature set than this build's."""


class SearchFailed(CandlecastError):
    """A search for better settings cannot go on: its trials fail."""


class ServiceUnavailable(CandlecastError):
    """The forecast service cannot answer now."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ServiceRejected(CandlecastError):
    """The forecast service refuses this request, however often it is sent.

    Attributes:
        status: HTTP status; None if the request was not even sent.
        kind: What kind of problem it is, the end of the problem document's `type`; None if there was none.
        row: Position of the offending candle, 0-based, or None.
        field: Its offending field, or None.
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
    """A forecast whose outcome could be known already is none."""


class AlreadyRunning(CandlecastError):
    """Another run of the same job holds its lock."""


class StackError(CandlecastError):
    """A process of the local platform did not come up."""

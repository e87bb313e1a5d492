"""What the forecast service answers: the schema that service and client share.

Times are aware UTC and serialised with a Z; prices and amplitudes are in quote currency.
"""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict

Bounds = tuple[float, float]
"""Lower and upper end of an interval."""


class Answer(BaseModel):
    """Base of all answers: immutable, and open to fields that a newer service adds."""

    model_config = ConfigDict(frozen=True)


class Intervals(Answer):
    """Conformal intervals that hold the outcome with probability `level`."""

    level: float
    high: Bounds
    low: Bounds
    close: Bounds
    amplitude: Bounds


class Direction(Answer):
    """Calibrated probabilities that the target candle closes above, or not above, the last close."""

    up: float
    down: float


class Baseline(Answer):
    """What needs no model: the last close, an EWMA of the amplitude, the base rate of rising candles."""

    close: float
    amplitude: float
    up: float


class ModelReference(Answer):
    """The model version that answered, and the alias it was served under."""

    name: str
    version: str
    alias: str
    run_id: str
    feature_hash: str


class ForecastAnswer(Answer):
    """Answer of `POST /predict`: the candle `horizon` after the last one posted.

    Attributes:
        open_time: Start of the target candle.
        close_time: Its exclusive end, open_time + interval.
        last_open_time: open_time of the last candle used.
        amplitude: high - low, forecast on its own; it need not equal the difference of `high` and `low`.
        abstained: The model does not answer for `reason`; prices and direction are the baseline's.
    """

    symbol: str
    interval: str
    horizon: int
    last_open_time: datetime
    open_time: datetime
    close_time: datetime
    open: float
    high: float
    low: float
    close: float
    amplitude: float
    intervals: Intervals
    direction: Direction
    baseline: Baseline
    abstained: bool
    reason: str | None
    model: ModelReference


class SpanAnswer(Answer):
    """Half-open range of target candles a model was fitted or measured on."""

    start: datetime
    end: datetime
    rows: int


class InputContract(Answer):
    """What `POST /predict` needs for a model.

    Attributes:
        history: Fewest candles, in a row.
        history_limit: Most candles.
        optional_fields: Order flow, used if every candle has it.
    """

    symbol: str
    interval: str
    horizon: int
    sequence_length: int
    history: int
    history_limit: int
    required_fields: tuple[str, ...]
    optional_fields: tuple[str, ...]


class ServedModelAnswer(Answer):
    """One model version that is being served.

    Attributes:
        validation_start: Start of the newest slice, which only reports: later candles were not learned from.
        expires_at: Target candles later than this are answered with the baseline.
        metrics: Measured at training, by name; None where undefined.
    """

    version: str
    alias: str
    run_id: str
    family: str
    created_at: datetime
    served_since: datetime
    expires_at: datetime
    validation_start: datetime
    feature_hash: str
    input: InputContract
    spans: dict[str, SpanAnswer]
    metrics: dict[str, float | None]


class ModelsAnswer(Answer):
    """Answer of `GET /model`.

    Attributes:
        models: By alias; an alias that is not served is missing.
        problems: By alias, or "registry": why the newest state of the registry is not what is served.
    """

    name: str
    models: dict[str, ServedModelAnswer]
    problems: dict[str, str]


class Problem(Answer):
    """Body of every 4xx and 5xx answer, after RFC 9457.

    Attributes:
        row: Position of the offending candle in the request, 0-based, where there is one.
        field: Its offending field, or the offending parameter.
    """

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    row: int | None = None
    field: str | None = None

"""What the forecast service answers: the schema that service and client share.

Times are aware UTC and serialised with a Z; prices and amplitudes are in quote currency. The texts below are also
those of the service's OpenAPI document.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Moment = Annotated[datetime, Field(description="UTC, ISO-8601.")]
Price = Annotated[float, Field(description="Price in quote currency.")]
Spread = Annotated[float, Field(description="high - low, in quote currency.")]
Probability = Annotated[float, Field(ge=0, le=1, description="Probability between 0 and 1.")]
Bounds = Annotated[tuple[float, float], Field(description="Lower and upper end of the interval, in quote currency.")]

Cause = Literal["expired", "unfamiliar", "doubtful"]
"""Why a model abstains: too long past its training, inputs unlike any it was trained on, candles not to be trusted."""

PROBLEM_TYPE = "urn:problem-type:candlecast:"
"""What every `Problem.type` begins with; the rest names the kind and never changes."""


class Answer(BaseModel):
    """Base of all answers: immutable, and open to fields that a newer service adds."""

    model_config = ConfigDict(frozen=True)


class Intervals(Answer):
    """Conformal intervals that hold the outcome with probability `level`."""

    level: Probability
    high: Bounds
    low: Bounds
    close: Bounds
    amplitude: Bounds


class Direction(Answer):
    """Calibrated probabilities that the target candle closes above, or not above, the last close."""

    up: Probability
    down: Probability


class Baseline(Answer):
    """What needs no model.

    Attributes:
        close: The last close, in quote currency.
        amplitude: Exponentially weighted mean of the amplitude, in quote currency.
        up: The base rate of rising candles.
    """

    close: Price
    amplitude: Spread
    up: Probability


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
        horizon: How many candles ahead.
        open_time: Start of the target candle.
        close_time: Its exclusive end, open_time + interval.
        last_open_time: open_time of the last candle used.
        amplitude: high - low in quote currency, forecast on its own; it need not equal `high` - `low`.
        abstained: The model does not answer for `reason`; prices and direction are the baseline's.
        cause: The kind of reason, one word; null if there is none.
        reason: The reason, in a sentence; null if there is none.
    """

    symbol: str
    interval: str
    horizon: int
    last_open_time: Moment
    open_time: Moment
    close_time: Moment
    open: Price
    high: Price
    low: Price
    close: Price
    amplitude: Spread
    intervals: Intervals
    direction: Direction
    baseline: Baseline
    abstained: bool
    cause: Cause | None = None
    reason: str | None
    model: ModelReference


class SpanAnswer(Answer):
    """Half-open range of target candles a model was fitted or measured on; `rows` of them."""

    start: Moment
    end: Moment
    rows: int


class InputContract(Answer):
    """What `POST /predict` needs for a model.

    Attributes:
        sequence_length: Feature rows in one input window.
        history: Fewest candles, in a row.
        history_limit: Most candles.
        series_limit: Most candles of `POST /predict/series`.
        required_fields: Of every candle.
        optional_fields: Order flow, used if every candle has it.
    """

    symbol: str
    interval: str
    horizon: int
    sequence_length: int
    history: int
    history_limit: int
    series_limit: int | None = None
    required_fields: tuple[str, ...]
    optional_fields: tuple[str, ...]


class ServedModelAnswer(Answer):
    """One model version that is being served.

    Attributes:
        family: Trunk of its network.
        created_at: When its training finished.
        served_since: When this service began to answer with it.
        trained_until: End of the newest candle that had any part in fitting or measuring it.
        validation_start: Start of the newest slice, which only reports: later candles were not learned from.
        expires_at: Target candles later than this are answered with the baseline.
        samples: Target candles in all spans together.
        epochs: Passes over the training windows; null where the version does not tell.
        val_loss: Best loss on the slice that training stops by; null where the version does not tell.
        spans: Where it was fitted, stopped, calibrated and reported on.
        metrics: Measured on the `report` span, by name; NAME_baseline is the same figure of the last close
            (prices), the EWMA (amplitude) or the base rate (direction), NAME_skill is 1 - loss / baseline loss,
            mape and smape are percent, mae, rmse and bias quote currency. None where undefined.
    """

    version: str
    alias: str
    run_id: str
    family: str
    created_at: Moment
    served_since: Moment
    expires_at: Moment
    validation_start: Moment
    trained_until: Moment | None = None
    samples: int | None = None
    epochs: int | None = None
    val_loss: float | None = None
    feature_hash: str
    input: InputContract
    spans: dict[str, SpanAnswer]
    metrics: dict[str, float | None]


class ReplicaAnswer(Answer):
    """One process that serves, and the version it serves under each alias.

    Attributes:
        name: Host and process.
        looked_at: When it last looked at the registry.
    """

    name: str
    served: dict[str, str]
    looked_at: Moment


class ModelsAnswer(Answer):
    """Answer of `GET /model`.

    Attributes:
        name: Of the registered model.
        models: By alias; an alias that is not served is missing.
        previous: Version kept in memory under each alias, for an instant way back.
        problems: By alias, "registry" or "cache": why the newest state of the registry is not what is served.
        ready: Whether a champion answers its golden sample.
        not_ready: Why not.
        replica: The process that answered this request.
        replicas: All processes that share this one's store of bundles.
        converged: Whether all of them serve the same versions.
    """

    name: str
    models: dict[str, ServedModelAnswer]
    previous: dict[str, str] = {}
    problems: dict[str, str]
    ready: bool = True
    not_ready: str | None = None
    replica: str = ""
    replicas: list[ReplicaAnswer] = []
    converged: bool = True


class Fault(Answer):
    """One thing that is wrong with a request.

    Attributes:
        row: Position of the candle, 0-based, where it is about one.
        field: Its field, or the parameter.
        value: What was sent there, as text and cut short.
        detail: What is wrong, and the remedy.
    """

    row: int | None = None
    field: str | None = None
    value: str | None = None
    detail: str


class Problem(Answer):
    """Body of every 4xx and 5xx answer, after RFC 9457.

    Attributes:
        type: Stable name of the kind of problem.
        title: The same in words.
        status: HTTP status.
        detail: What is wrong, and the remedy.
        row: Position of the offending candle in the request, 0-based, where there is one.
        field: Its offending field, or the offending parameter.
        value: What was sent there, as text and cut short.
        errors: The first ten faults by row, if more than one row is wrong; the fields above are the first one's.
        request_id: As in the header X-Request-ID and in the service's log.
    """

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    row: int | None = None
    field: str | None = None
    value: str | None = None
    errors: list[Fault] | None = None
    request_id: str | None = None

"""Answers of the forecast service: the schema that service and client share.

Times are aware UTC and serialised with a Z; prices and amplitudes are in quote currency. The text below a field is
its description in the service's OpenAPI document.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler
from pydantic_core import CoreSchema


@dataclass(frozen=True, slots=True)
class Unit:
    """Description of every value of a type, unless the text below a field says more."""

    text: str

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "description": self.text}


Moment = Annotated[datetime, Unit("UTC, ISO-8601.")]
Price = Annotated[float, Unit("Price in quote currency.")]
Spread = Annotated[float, Unit("high - low, in quote currency.")]
Probability = Annotated[float, Field(ge=0, le=1), Unit("Probability between 0 and 1.")]
Bounds = Annotated[tuple[float, float], Unit("Lower and upper end of the interval, in quote currency.")]

Cause = Literal["expired", "unfamiliar", "doubtful"]
"""Why a model abstains: its training is too long ago, its inputs are unlike the training's, or candles are doubtful."""

PROBLEM_TYPE = "urn:problem-type:candlecast:"
"""Beginning of every `Problem.type`; the rest names the kind and never changes."""


class Answer(BaseModel):
    """Base of all answers: immutable, and open to fields that a newer service adds."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class MarketAnswer(Answer):
    """Base of answers about one market."""

    symbol: str
    interval: str


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
    """Forecast that needs no model."""

    close: Price
    """The last close, in quote currency."""
    amplitude: Spread
    """Exponentially weighted mean of the amplitude, in quote currency."""
    up: Probability
    """The base rate of rising candles."""


class ModelReference(Answer):
    """The model version that answered, and the alias it was served under."""

    name: str
    version: str
    alias: str
    run_id: str
    bundle_sha256: str | None = None
    """Digest of the bundle that answered."""
    feature_hash: str


class ForecastAnswer(MarketAnswer):
    """Answer of `POST /predict`: the candle `horizon` after the last one posted."""

    horizon: int
    """Number of candles ahead."""
    horizon_minutes: float | None = None
    """Minutes from the close of the last candle used to that of the target candle."""
    last_open_time: Moment
    """open_time of the last candle used."""
    open_time: Moment
    """Start of the target candle."""
    close_time: Moment
    """Exclusive end of the target candle, open_time + interval."""
    open: Price
    high: Price
    low: Price
    close: Price
    amplitude: Spread
    """high - low in quote currency, forecast on its own; it may differ from `high` - `low`."""
    intervals: Intervals
    direction: Direction
    baseline: Baseline
    abstained: bool
    """Whether the model abstains for `reason`; prices and direction are then the baseline's."""
    cause: Cause | None = None
    """Kind of the reason, one word; null if there is none."""
    reason: str | None
    """Reason in a sentence; null if there is none."""
    model: ModelReference


class SpanAnswer(Answer):
    """Half-open range of target candles a model was fitted or measured on; `rows` of them."""

    start: Moment
    end: Moment
    rows: int


class InputContract(MarketAnswer):
    """Input that a model needs from `POST /predict`."""

    horizon: int
    sequence_length: int
    """Feature rows in one input window."""
    features: str = "base"
    """Name of the feature set."""
    history: int
    """Fewest consecutive candles."""
    history_limit: int
    """Most candles."""
    series_limit: int | None = None
    """Most candles of `POST /predict/series`."""
    required_fields: tuple[str, ...]
    """Fields that every candle must have."""
    optional_fields: tuple[str, ...]
    """Order flow, used if every candle has it."""


class ServedModelAnswer(Answer):
    """One model version that is being served."""

    version: str
    alias: str
    run_id: str
    bundle_sha256: str | None = None
    """SHA-256 of its `bundle.json`, which has the digest of every other file."""
    family: str
    """Family of the model."""
    created_at: Moment
    """When its training finished."""
    served_since: Moment
    """When this service began to answer with it."""
    expires_at: Moment
    """Target candles later than this are answered with the baseline."""
    validation_start: Moment
    """Start of the newest slice, which only reports: no later candle was used to fit the model."""
    trained_until: Moment | None = None
    """End of the newest candle that had any part in fitting or measuring it."""
    samples: int | None = None
    """Target candles in all spans together."""
    epochs: int | None = None
    """Passes over the training windows, or rounds of boosting; null where the version does not record them."""
    val_loss: float | None = None
    """Best loss on the slice that training stops by; null where the version does not record it."""
    feature_hash: str
    input: InputContract
    spans: dict[str, SpanAnswer]
    """Spans it was fitted, stopped, calibrated and reported on."""
    metrics: dict[str, float | None]
    """Figures of the `report` span by name; null where undefined.

    NAME_baseline is the figure of the last close (prices), the EWMA (amplitude) or the base rate (direction).
    NAME_skill is 1 - loss / baseline loss. mape and smape are in percent; mae, rmse and bias in quote currency.
    """


class ReplicaAnswer(Answer):
    """One serving process, and the version it serves under each alias."""

    name: str
    """Host and process."""
    served: dict[str, str]
    looked_at: Moment
    """When it last read the registry."""


class ModelsAnswer(Answer):
    """Answer of `GET /model`."""

    name: str
    """Name of the registered model."""
    models: dict[str, ServedModelAnswer]
    """Served models by alias; an alias that is not served is missing."""
    previous: dict[str, str] = {}
    """Version kept in memory under each alias, so that a rollback is instant."""
    problems: dict[str, str]
    """By alias, "registry" or "cache": why the newest state of the registry is not served."""
    ready: bool = True
    """Whether a champion answers its golden sample."""
    not_ready: str | None = None
    """Why the service is not ready; null if it is."""
    replica: str = ""
    """The process that answered this request."""
    replicas: list[ReplicaAnswer] = []
    """All processes that share this one's store of bundles."""
    converged: bool = True
    """Whether all replicas serve the same versions."""


class Fault(Answer):
    """One error in a request."""

    row: int | None = None
    """Position of the candle, 0-based; null if the error concerns no single candle."""
    field: str | None = None
    """Invalid field of the candle, or invalid parameter."""
    value: str | None = None
    """Value that was sent, as text and cut short."""
    detail: str
    """What is wrong, and the remedy."""


class Problem(Answer):
    """Body of every 4xx and 5xx answer, after RFC 9457."""

    type: str = "about:blank"
    """Stable name of the kind of problem."""
    title: str
    """Kind of problem in words."""
    status: int
    """HTTP status."""
    detail: str
    """What is wrong, and the remedy."""
    row: int | None = None
    """Position of the invalid candle in the request, 0-based; null if the problem concerns no single candle."""
    field: str | None = None
    """Invalid field of the candle, or invalid parameter."""
    value: str | None = None
    """Value that was sent, as text and cut short."""
    errors: list[Fault] | None = None
    """The first ten faults by row, if more than one row is wrong; `row`, `field` and `value` are the first fault's."""
    request_id: str | None = None
    """Id of the request, as in the header X-Request-ID and in the service's log."""

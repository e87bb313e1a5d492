"""Batching of forecasts that are requested at the same moment.

Most of the time of a single forecast is overhead of numpy and ONNX Runtime: a batch of eight takes hardly longer than
three single forecasts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from itertools import groupby

from candlecast.market import Market
from service.http.problems import Refusal
from service.models.served import ServedModel
from service.predict.predict import knows_flow, require_answerable
from service.predict.request import PostedHistory
from service.predict.single import answer_forecasts
from service.telemetry.metrics import ServiceMetrics

BATCH_LIMIT = 32
"""Most forecasts in one batch; more would delay other requests by several milliseconds."""

QUEUE_LIMIT = 4_000
"""Most requests in the queue; computing a full queue takes about a second."""


@dataclass(frozen=True, slots=True)
class ForecastRequest:
    """A history and the model that answers; requests with the same `batch_key` can share a batch."""

    posted: PostedHistory
    model: ServedModel
    batch_key: tuple[int, bool]


def forecast_request(posted: PostedHistory, model: ServedModel) -> ForecastRequest:
    """Make a request that can be answered.

    Raises:
        Refusal: A candle is invalid.
        NotEnoughCandles: The history is too short.
    """
    require_answerable(posted, model)
    return ForecastRequest(posted, model, (id(model), knows_flow(posted, model)))


class RequestBatcher:
    """Batcher of the forecasts that are requested in one turn of the event loop, or while requests are being read.

    No request waits for later ones. Each forecast is, bit for bit, the one computed alone. A request that cannot be
    answered does not affect the others.

    Args:
        expiry_of: Returns how long after the end of its training data a model of a market is used.
    """

    def __init__(self, expiry_of: Callable[[Market], timedelta], metrics: ServiceMetrics) -> None:
        self._expiry_of = cache(expiry_of)
        self._metrics = metrics
        self._waiting: list[tuple[ForecastRequest, asyncio.Future[bytes]]] = []

    async def submit(self, request: ForecastRequest) -> bytes:
        """Queue a request, and wait for its `candlecast.api.answers.ForecastAnswer` as JSON.

        Raises:
            InvalidCandles: No forecast can be computed from the history; names the row.
            Refusal: The queue is full.
        """
        if len(self._waiting) >= QUEUE_LIMIT:
            raise Refusal("overloaded", f"the queue is full: {len(self._waiting):,} forecasts wait", retry_after_s=2)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bytes] = loop.create_future()
        self._waiting.append((request, answer))
        if len(self._waiting) == 1:
            loop.call_soon(self._check, loop, 0)
        return await answer

    def compute(self, batch: Sequence[ForecastRequest]) -> list[bytes]:
        """Compute the answers to requests of one `batch_key`; an error does not say which request caused it."""
        model = batch[0].model
        expiry = self._expiry_of(model.bundle.manifest.market)
        answers, causes = answer_forecasts([one.posted for one in batch], model, expiry)
        self._metrics.count_forecasts(model, len(answers), causes)
        self._metrics.batch_sizes.observe(len(answers))
        return answers

    def _check(self, loop: asyncio.AbstractEventLoop, before: int) -> None:
        """Compute the queue, unless it grew since the last check: then more requests may follow.

        The first check runs before the loop has read its connections, so it never computes.
        """
        count = len(self._waiting)
        if before < count < BATCH_LIMIT:
            loop.call_soon(self._check, loop, count)
            return
        due, self._waiting = self._waiting[:BATCH_LIMIT], self._waiting[BATCH_LIMIT:]
        if self._waiting:
            loop.call_soon(self._check, loop, len(self._waiting))
        for _, batch in groupby(sorted(due, key=_batch_key), key=_batch_key):
            self._settle(list(batch))

    def _settle(self, batch: list[tuple[ForecastRequest, asyncio.Future[bytes]]]) -> None:
        try:
            answers = self.compute([request for request, _ in batch])
        except Exception as exc:  # noqa: BLE001 - any error belongs to one of the requests alone
            if len(batch) > 1:
                for one in batch:
                    self._settle([one])
            elif not batch[0][1].done():
                batch[0][1].set_exception(exc)
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():  # the client may have disconnected
                future.set_result(answer)


def _batch_key(waiting: tuple[ForecastRequest, asyncio.Future[bytes]]) -> tuple[int, bool]:
    return waiting[0].batch_key

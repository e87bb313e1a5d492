"""Forecasts that are asked for at the same moment are computed together.

Most of the time of a single forecast goes by on the ways into and out of numpy and ONNX Runtime; eight together take
hardly longer than three.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from itertools import groupby
from typing import NamedTuple

from service.http.problems import Refusal
from service.models.served import ServedModel
from service.predict.predict import knows_flow, require_answerable
from service.predict.request import PostedHistory
from service.predict.single import answer_forecasts
from service.telemetry.metrics import ServiceMetrics

BATCH_LIMIT = 32
"""Forecasts in one computation: more would keep other requests waiting for several milliseconds."""

QUEUE_LIMIT = 4_000
"""Questions in memory; to answer them takes about a second."""


class ForecastRequest(NamedTuple):
    """A history, and the model that is to answer; questions of the same `kind` can be computed together."""

    posted: PostedHistory
    model: ServedModel
    kind: tuple[int, bool]


def forecast_request(posted: PostedHistory, model: ServedModel) -> ForecastRequest:
    """What can be answered.

    Raises:
        Refusal: A candle is not sound.
        NotEnoughCandles: There are too few.
    """
    require_answerable(posted, model)
    return ForecastRequest(posted, model, (id(model), knows_flow(posted, model)))


class RequestBatcher:
    """Answers what is asked in one turn of the event loop, or while its requests are still being read, at once.

    Nobody waits for others to come. A forecast is, bit for bit, what it would be alone, and a question that cannot
    be answered is refused by itself.

    Args:
        expiry: How long after its training data a model is believed.
    """

    def __init__(self, expiry: timedelta, metrics: ServiceMetrics) -> None:
        self._expiry = expiry
        self._metrics = metrics
        self._waiting: list[tuple[ForecastRequest, asyncio.Future[bytes]]] = []

    async def ask(self, asked: ForecastRequest) -> bytes:
        """A `candlecast.api.answers.ForecastAnswer` as JSON.

        Raises:
            InvalidCandles: Nothing can be computed from the history; names the row.
            Refusal: Too many wait already.
        """
        if len(self._waiting) >= QUEUE_LIMIT:
            raise Refusal("overloaded", f"{len(self._waiting):,} forecasts wait to be made", retry_after_s=2)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bytes] = loop.create_future()
        self._waiting.append((asked, answer))
        if len(self._waiting) == 1:
            loop.call_soon(self._look, loop, 0)
        return await answer

    def answer(self, alike: Sequence[ForecastRequest]) -> list[bytes]:
        """The answers to questions of one kind; raises as `ask`, of several without saying which is at fault."""
        model = alike[0].model
        answers, causes = answer_forecasts([one.posted for one in alike], model, self._expiry)
        self._metrics.count_forecasts(model, len(answers), causes)
        self._metrics.batch_sizes.observe(len(answers))
        return answers

    def _look(self, loop: asyncio.AbstractEventLoop, before: int) -> None:
        """Begin, unless more have come since the last look: then others may be about to come.

        The first look is before the loop has read what the connections hold by now, so it is never the last.
        """
        count = len(self._waiting)
        if before < count < BATCH_LIMIT:
            loop.call_soon(self._look, loop, count)
            return
        asked, self._waiting = self._waiting[:BATCH_LIMIT], self._waiting[BATCH_LIMIT:]
        if self._waiting:
            loop.call_soon(self._look, loop, len(self._waiting))
        for _, alike in groupby(sorted(asked, key=_kind), key=_kind):
            self._settle(list(alike))

    def _settle(self, alike: list[tuple[ForecastRequest, asyncio.Future[bytes]]]) -> None:
        try:
            answers = self.answer([asked for asked, _ in alike])
        except Exception as exc:  # noqa: BLE001 - whatever it is, it belongs to one of the questions alone
            if len(alike) > 1:
                for one in alike:
                    self._settle([one])
            elif not alike[0][1].done():
                alike[0][1].set_exception(exc)
            return
        for (_, future), answer in zip(alike, answers, strict=True):
            if not future.done():  # or the client went away
                future.set_result(answer)


def _kind(waiting: tuple[ForecastRequest, asyncio.Future[bytes]]) -> tuple[int, bool]:
    return waiting[0].kind

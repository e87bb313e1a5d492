"""Faults at work: which request of the replay exchange each one hits, and what was counted of them."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from candlecast.market import epoch_ms
from candlecast.replay.clock import ReplayClock
from candlecast.replay.faults import Faults, RequestFault

_API_FAULTS: tuple[RequestFault, ...] = (
    "forbidden",
    "ban",
    "rate_limit",
    "server_error",
    "timeout",
    "cut_off",
    "invalid_json",
)
_ARCHIVE_FAULTS: tuple[RequestFault, ...] = ("server_error", "timeout", "cut_off")


class FaultHit(NamedTuple):
    """A fault inside an otherwise good answer, and the open_time in milliseconds if it hit a bar."""

    fault: str
    open_ms: int | None = None


class ApiAnswer(NamedTuple):
    """An answer and the faults inside it."""

    response: Response
    hits: list[FaultHit]


class FaultInjector:
    """Puts the faults of one replay exchange to work and keeps count.

    Args:
        clock: The true clock of the exchange.
        faults: What goes wrong from the first request on.
        monotonic: Real seconds that only grow.
    """

    def __init__(
        self, clock: ReplayClock, faults: Faults | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self.switch(faults or Faults())

    @property
    def faults(self) -> Faults:
        """What goes wrong now."""
        return self._faults

    def switch(self, faults: Faults) -> None:
        """Have other faults from here on; requests and counts begin at 0 again, and running bans end."""
        self._faults = faults
        self._request = 0
        self._fired: Counter[str] = Counter()
        self._bars: dict[str, set[int]] = {}
        self._refused: dict[str, float] = {}  # until when requests are not to be sent, by the fault that said so

    def now_ms(self) -> int:
        """The exchange's time as it says it, clock skew included, in milliseconds since 1970."""
        return epoch_ms(self._clock.now()) + self._faults.clock_skew_ms

    def count(self, fault: str) -> None:
        """Note that a fault fired."""
        self._fired[fault] += 1

    async def answer_api(self, build: Callable[[int], ApiAnswer]) -> Response:
        """The answer to the next API request, or what a fault makes of it.

        Args:
            build: The answer to the request of this number; the faults inside it count only if it is sent whole.
        """
        number = self._request
        self._request += 1
        barred = self._knocking_too_early()
        fault = barred or self._first_hit(_API_FAULTS, number)
        if fault is None:
            response, hits = build(number)
            self._note(hits)
            return response
        self.count(fault)
        if fault in {"forbidden", "ignored_ban", "ban", "rate_limit", "server_error"}:
            return self._refusal(fault)
        return await self._spoilt(fault, build(number).response)

    async def answer_archive(self, response: Response) -> Response:
        """The archive's answer, or what a fault makes of it."""
        number = self._request
        self._request += 1
        fault = self._first_hit(_ARCHIVE_FAULTS, number)
        if fault is None:
            return response
        self.count(fault)
        return self._refusal(fault) if fault == "server_error" else await self._spoilt(fault, response)

    def arranged(self, rows: list[bytes], number: int, limit: int) -> tuple[list[bytes], list[FaultHit]]:
        """Klines repeated and put out of order, if that is the lot of the request of this number."""
        hits = []
        if len(rows) > 1 and self._faults.hits_request("duplicate_rows", number):
            hits.append(FaultHit("duplicate_rows"))
            rows = [row for place, row in enumerate(rows) for _ in range(2 if place % 3 == 0 else 1)][:limit]
        if len(rows) > 1 and self._faults.hits_request("wrong_order", number):
            hits.append(FaultHit("wrong_order"))
            rows = rows[::-1]
        return rows, hits

    async def show(self, _: Request) -> Response:
        """`GET /replay/faults`: the faults, how often each fired, and which bars were hit in good answers."""
        return JSONResponse(
            {
                "faults": self._faults.model_dump(mode="json"),
                "fired": dict(self._fired) | {fault: len(bars) for fault, bars in self._bars.items()},
                "bars": {fault: sorted(bars) for fault, bars in self._bars.items()},
            }
        )

    async def set(self, request: Request) -> Response:
        """`POST /replay/faults`: an object with `Faults`' fields; what it does not name is off."""
        try:
            self.switch(Faults.model_validate_json(await request.body()))
        except ValidationError as exc:
            return JSONResponse({"code": -1130, "msg": str(exc)}, 400)
        return await self.show(request)

    def _first_hit(self, faults: Iterable[RequestFault], number: int) -> RequestFault | None:
        return next((fault for fault in faults if self._faults.hits_request(fault, number)), None)

    def _knocking_too_early(self) -> str | None:
        now = self._monotonic()
        if now < self._refused.get("rate_limit", -math.inf):
            self.count("ignored_rate_limit")
        return "ignored_ban" if now < self._refused.get("ban", -math.inf) else None

    def _refusal(self, fault: str) -> Response:
        if fault == "forbidden":
            return _error(451, "Service unavailable from a restricted location.", {})
        if fault == "server_error":
            return _error(503, "Service Unavailable.", {})
        if fault != "ignored_ban":
            self._refused[fault] = self._monotonic() + self._faults.retry_after_s
        wait_s = math.ceil(self._refused["ban" if fault == "ignored_ban" else fault] - self._monotonic())
        status, message = (429, "Too many requests.") if fault == "rate_limit" else (418, "Way too many requests.")
        return _error(status, message, {"Retry-After": str(wait_s)})

    async def _spoilt(self, fault: str, response: Response) -> Response:
        body = bytes(response.body)
        if fault == "timeout":
            await asyncio.sleep(self._faults.timeout_s)
            return response
        if fault == "cut_off":
            return _CutOff(body, media_type=response.media_type)
        return Response(body[: len(body) // 2], media_type=response.media_type)  # invalid JSON

    def _note(self, hits: Iterable[FaultHit]) -> None:
        for fault, open_ms in hits:
            if open_ms is None:
                self.count(fault)
            else:
                self._bars.setdefault(fault, set()).add(open_ms)


class _CutOff(Response):
    """An answer whose connection ends after half of the bytes that its Content-Length promises."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        half = bytes(self.body)[: len(self.body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})
        # Returning without the rest makes the server close the connection.


def _error(status: int, message: str, headers: Mapping[str, str]) -> JSONResponse:
    refusal: dict[str, Any] = {"code": -1003 if status in {418, 429} else 0, "msg": message}
    return JSONResponse(refusal, status, dict(headers))

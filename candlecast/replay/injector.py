"""Fault injection: faults in the answers of the replay exchange, and their counts."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, get_args

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from candlecast.market import epoch_ms
from candlecast.replay.clock import ReplayClock
from candlecast.replay.faults import Faults, RequestFault

_API_FAULTS: tuple[RequestFault, ...] = get_args(RequestFault)[:-2]  # the last two change rows of a good answer
_ARCHIVE_FAULTS: tuple[RequestFault, ...] = ("server_error", "timeout", "cut_off")


class FaultHit(NamedTuple):
    """A fault inside a good answer, and the open_time in milliseconds if it hit a bar."""

    fault: str
    open_ms: int | None = None


class ApiAnswer(NamedTuple):
    """An answer, and the faults inside it."""

    response: Response
    hits: list[FaultHit]


class FaultInjector:
    """Applies the faults of one replay exchange and counts them.

    Args:
        clock: The exchange's clock, without skew.
        faults: Faults from the first request on; by default none.
    """

    def __init__(
        self, clock: ReplayClock, faults: Faults | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self.switch(faults or Faults())

    @property
    def faults(self) -> Faults:
        """The present faults."""
        return self._faults

    def switch(self, faults: Faults) -> None:
        """Replace the faults; request numbers and counts are reset, and running bans end."""
        self._faults = faults
        self._request = 0
        self._fired: Counter[str] = Counter()
        self._bars: dict[str, set[int]] = {}
        self._waits: dict[str, float] = {}  # end of each announced wait, by fault

    def now_ms(self) -> int:
        """Return the exchange's time with clock skew, in milliseconds since 1970."""
        return epoch_ms(self._clock.now()) + self._faults.clock_skew_ms

    def count(self, fault: str) -> None:
        """Count a fault."""
        self._fired[fault] += 1

    async def answer_api(self, build: Callable[[int], ApiAnswer]) -> Response:
        """Answer the next API request, or apply a fault.

        Args:
            build: Makes the answer to the request of this number; the faults inside it count if it is sent complete.
        """
        number = self._request
        self._request += 1
        fault = self._ignored_wait() or self._first_hit(_API_FAULTS, number)
        if fault is None:
            response, hits = build(number)
            self._note(hits)
            return response
        self.count(fault)
        if fault in {"forbidden", "ignored_ban", "ban", "rate_limit", "server_error"}:
            return self._refusal(fault)
        return await self._damaged(fault, build(number).response)

    async def answer_archive(self, response: Response) -> Response:
        """Return the archive's answer, or apply a fault."""
        number = self._request
        self._request += 1
        fault = self._first_hit(_ARCHIVE_FAULTS, number)
        if fault is None:
            return response
        self.count(fault)
        return self._refusal(fault) if fault == "server_error" else await self._damaged(fault, response)

    def rearranged(self, rows: list[bytes], number: int, limit: int) -> tuple[list[bytes], list[FaultHit]]:
        """Repeat and reorder klines, if such faults hit the request of this number."""
        hits = []
        if len(rows) > 1 and self._faults.hits_request("duplicate_rows", number):
            hits.append(FaultHit("duplicate_rows"))
            rows = [row for place, row in enumerate(rows) for _ in range(2 if place % 3 == 0 else 1)][:limit]
        if len(rows) > 1 and self._faults.hits_request("wrong_order", number):
            hits.append(FaultHit("wrong_order"))
            rows = rows[::-1]
        return rows, hits

    async def show(self, _: Request) -> Response:
        """Answer `GET /replay/faults`: the faults, their counts, and the bars hit in good answers."""
        return JSONResponse(
            {
                "faults": self._faults.model_dump(mode="json"),
                "fired": dict(self._fired) | {fault: len(bars) for fault, bars in self._bars.items()},
                "bars": {fault: sorted(bars) for fault, bars in self._bars.items()},
            }
        )

    async def set(self, request: Request) -> Response:
        """Answer `POST /replay/faults`: an object with fields of `Faults`; the other faults are off."""
        try:
            self.switch(Faults.model_validate_json(await request.body()))
        except ValidationError as exc:
            return JSONResponse({"code": -1130, "msg": str(exc)}, 400)
        return await self.show(request)

    def _first_hit(self, faults: Iterable[RequestFault], number: int) -> RequestFault | None:
        return next((fault for fault in faults if self._faults.hits_request(fault, number)), None)

    def _ignored_wait(self) -> str | None:
        now = self._monotonic()
        if now < self._waits.get("rate_limit", -math.inf):
            self.count("ignored_rate_limit")
        return "ignored_ban" if now < self._waits.get("ban", -math.inf) else None

    def _refusal(self, fault: str) -> Response:
        if fault == "forbidden":
            return _error(451, "Service unavailable from a restricted location.", {})
        if fault == "server_error":
            return _error(503, "Service Unavailable.", {})
        if fault != "ignored_ban":
            self._waits[fault] = self._monotonic() + self._faults.retry_after_s
        wait_s = math.ceil(self._waits["ban" if fault == "ignored_ban" else fault] - self._monotonic())
        status, message = (429, "Too many requests.") if fault == "rate_limit" else (418, "Way too many requests.")
        return _error(status, message, {"Retry-After": str(wait_s)})

    async def _damaged(self, fault: str, response: Response) -> Response:
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
    """An answer whose connection ends after half of its Content-Length."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        half = bytes(self.body)[: len(self.body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})
        # The server closes the connection because the rest is missing.


def _error(status: int, message: str, headers: Mapping[str, str]) -> JSONResponse:
    refusal: dict[str, Any] = {"code": -1003 if status in {418, 429} else 0, "msg": message}
    return JSONResponse(refusal, status, dict(headers))

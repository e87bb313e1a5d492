"""Observation of every request: its id, metrics, line in the log, and traceback in case of a defect."""

from __future__ import annotations

import re
import time
import traceback
from secrets import token_hex

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.access_log import AccessLog
from service.http.problems import problem_response
from service.http.resources import Resources
from service.telemetry.metrics import ServiceMetrics

REQUEST_ID = "X-Request-ID"
_HEADER = REQUEST_ID.lower().encode()
_VALID_ID = re.compile(rb"[A-Za-z0-9._:-]{1,64}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Observation:
    """Middleware that counts, times and logs requests under their route's pattern, because clients choose paths.

    `scope["request_id"]` is the client's `X-Request-ID` if it is valid; the answer repeats it. Handlers add fields of
    the log line to `scope["noted"]`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and record its outcome."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status, size = time.perf_counter(), 0, 0
        request_id = _request_id(scope)
        scope["request_id"], scope["noted"] = request_id, {}

        async def observe(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (_HEADER, request_id.encode())]
            else:
                size += len(message.get("body", b""))
            await send(message)

        resources: Resources = scope["app"].state.resources
        log = resources[AccessLog]
        try:
            await self._app(scope, receive, observe)
        except Exception:  # noqa: BLE001 - any error that arrives here is a defect
            log.note(time.time(), "defect", request_id=request_id, traceback=traceback.format_exc())
            if not status:
                message = "a defect of the service; its log has the traceback under the request_id"
                answer = problem_response(scope, "internal-error", message, {})
                await answer(scope, receive, observe)
        seconds = time.perf_counter() - started
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        resources[ServiceMetrics].count_request(route, method, status, seconds)
        if log.requests:
            log.note(
                time.time(),
                "request",
                request_id=request_id,
                method=method,
                route=route,
                status=status,
                ms=round(1000 * seconds, 3),
                bytes=size,
                caller=scope.get("caller") or (scope.get("client") or ("unknown",))[0],
                **scope["noted"],
            )


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == _HEADER:
            return value.decode() if _VALID_ID.fullmatch(value) else token_hex(8)
    return token_hex(8)

"""`POST /predict` and `GET /model`: what needs no database."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from service.parameters import require_known
from service.predict import answer_forecast, choose_model, describe_models
from service.problems import BadRequest
from service.request import parse_predict
from service.resources import Resources, resources

BODY_LIMIT = 4 * 1024 * 1024
"""Bytes of a request; HISTORY_LIMIT candles, prettily printed, fit in."""

BODY_TIMEOUT_S = 5.0
_INLINE_BODY = 256 * 1024


async def predict(request: Request) -> Response:
    """Forecast the next candle from the history in the body; closed candles only, oldest first."""
    require_known(request)
    body = await _read_body(request)
    here = resources(request)
    # A usual request takes a millisecond: handing it to a thread and back would cost a good part of another.
    answer = await run_in_threadpool(_answer, here, body) if len(body) > _INLINE_BODY else _answer(here, body)
    return Response(answer, media_type="application/json")


def describe_model(request: Request) -> Response:
    """Versions served under each alias, their metrics and input contract."""
    require_known(request)
    here = resources(request)
    described = describe_models(here.follower, here.expiry)
    return Response(described.model_dump_json(), media_type="application/json", headers={"Cache-Control": "no-store"})


ROUTES = (
    Route("/predict", predict, methods=["POST"]),
    Route("/model", describe_model),
)


def _answer(here: Resources, body: bytes) -> str:
    posted = parse_predict(body)
    answer = answer_forecast(posted, choose_model(here.follower.served, posted.model), here.expiry)
    here.metrics.count_forecast(answer)
    return answer.model_dump_json()


async def _read_body(request: Request) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and (len(declared) > 12 or int(declared) > BODY_LIMIT):
        raise _too_large(declared)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for part in request.stream():
                size += len(part)
                if size > BODY_LIMIT:
                    raise _too_large(f"more than {BODY_LIMIT}")
                parts.append(part)
    except TimeoutError as exc:
        message = f"the body did not arrive within {BODY_TIMEOUT_S:g} s; send it at once"
        raise BadRequest(message, status=HTTPStatus.REQUEST_TIMEOUT) from exc
    except ClientDisconnect as exc:
        raise BadRequest("the client went away") from exc
    return b"".join(parts)


def _too_large(size: str) -> BadRequest:
    return BadRequest(
        f"the body has {size:.40} bytes, at most {BODY_LIMIT:,} are taken; send fewer candles, the newest",
        status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    )

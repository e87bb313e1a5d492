"""The BentoML service: serves the ASGI application of `service.app`, with BentoML's health checks and metrics.

All routes are one mounted Starlette application rather than `@bentoml.api` methods. It answers more than twice
the requests a second, because a body is parsed once, straight into its schema, and its refusals can name row,
field and remedy, which those of BentoML's own validation cannot. The price is that BentoML's page at `/` and its
/docs.json give way, so the application brings its own.

    bentoml serve service.service:Candlecast --port 3000
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import bentoml
from starlette.applications import Starlette
from starlette.routing import Mount


@asynccontextmanager
async def _run_app(frame: Starlette) -> AsyncIterator[None]:
    # Imported only in the worker: BentoML's supervisor imports this module too, and would hold pandas for nothing.
    from service.app import create_app

    app = create_app()
    frame.routes.append(Mount("/", app))
    async with app.router.lifespan_context(app):
        frame.state.resources = app.state.resources
        yield


_FRAME = Starlette(lifespan=_run_app)  # empty until the server starts; BentoML runs the lifespan of what it mounts


@bentoml.service(
    name="candlecast",
    workers=1,  # one model in memory and one voice in /metrics; replicas are Kubernetes' business
    threads=4,
    traffic={"timeout": 10},
    logging={"access": {"enabled": False}},  # a tenth of the throughput; /metrics counts requests by route
)
@bentoml.asgi_app(_FRAME, path="/")
class Candlecast:
    """Forecasts the next market candle from the candles posted to it."""

    async def __is_ready__(self) -> bool:
        """Whether a champion is being served."""
        return bool(_FRAME.state.resources.is_ready())

    async def __is_alive__(self) -> bool:
        """Whether new versions are still noticed; if not, only a restart helps."""
        return bool(_FRAME.state.resources.follower.is_following())

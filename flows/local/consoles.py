"""The web applications of Prefect and Evidently, which refuse pages of other sites; `up` runs them with uvicorn.

Both libraries answer to every Host header. A page that resolves its own name to a loopback address could read them.
"""

from __future__ import annotations

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp

from candlecast.allowed_hosts import OwnSite
from candlecast.settings.sources import load_settings


def prefect() -> ASGIApp:
    """Make Prefect's API, UI and services."""
    from prefect.server.api.server import create_app

    return _own_site(create_app(final=True))


def evidently() -> ASGIApp:
    """Make Evidently's UI over the workspace of the settings."""
    from monitoring.workspace import web_application

    return _own_site(web_application(load_settings().evidently_dir))


def _own_site(app: ASGIApp) -> ASGIApp:
    return OwnSite(app, _refuse, load_settings().service.allowed_hosts)


def _refuse(foreign: str) -> ASGIApp:
    return PlainTextResponse(f"{foreign} is not allowed: name the host in CANDLECAST_ALLOWED_HOSTS\n", 403)

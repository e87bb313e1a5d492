"""What the OpenAPI document says of a route, declared at its handler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from candlecast.api.answers import Answer

_Handler = TypeVar("_Handler", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Documented:
    """Decorator that gives a handler facts for the OpenAPI document; its texts come from the handler's docstring.

    Attributes:
        answer: Schema of the JSON answer; None if the answer is text.
        parameters: Query parameters that the route takes; None if the route ignores all of them.
        refusals: Statuses of refusals besides 400, 401 and 429.
        body: Name of the schema of the posted body; None if nothing is posted.
        tag: "model", "data", or "operations" for routes that are open to all.
    """

    answer: type[Answer] | None = None
    example: Any = None
    parameters: tuple[str, ...] | None = ()
    refusals: tuple[int, ...] = (503,)
    body: str | None = None
    tag: str = "data"
    media_type: str = "text/plain"

    def __call__(self, handler: _Handler) -> _Handler:
        """Attach these facts; `functools.wraps` keeps them."""
        handler.__dict__["documented"] = self
        return handler


def documented(handler: Callable[..., Any]) -> Documented:
    """Read the facts attached to a handler."""
    found: Documented = handler.__dict__["documented"]
    return found
